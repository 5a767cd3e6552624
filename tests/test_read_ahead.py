"""Batches that are read ahead: the same in the same order, whatever becomes of the iterator."""

from __future__ import annotations

import mmap
import os
import threading
import time
import traceback

import psutil
import pytest
import torch

from helpers.data import CPU, data_on
from helpers.networks import tiny_net
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.data.read_ahead import AHEAD, MOST_QUEUED, announced, read_ahead, to_device
from layerwise.features.batches import BatchPlan
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import FeatureStores


def readers() -> list[str]:
    """Names of the threads that read ahead."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def until(condition) -> bool:
    """Whether something becomes true within ten seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_results_come_in_order_and_the_thread_goes():
    assert list(read_ahead(lambda i: i * i, range(50), 1)) == [i * i for i in range(50)]
    assert list(read_ahead(abs, [], 1)) == []
    assert not readers()


def test_an_error_comes_in_its_turn_and_says_where_it_happened():
    def fails_at_three(i: int) -> int:
        if i == 3:
            raise OSError("the disk is gone")
        return i

    ahead = read_ahead(fails_at_three, range(10), 1)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(ahead)
    assert "fails_at_three" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert not readers()


def test_an_abandoned_iterator_ends_its_thread_and_reads_no_more():
    read: list[int] = []

    def slowly(i: int) -> int:
        read.append(i)
        time.sleep(0.02)
        return i

    for i in read_ahead(slowly, range(1000), 1):
        if i == 2:
            break
    assert not readers()
    assert len(read) <= 3 + AHEAD

    def consumer_that_fails() -> None:
        for _ in read_ahead(slowly, range(1000), 1):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (its own)
        consumer_that_fails()
    assert until(lambda: not readers())


def test_the_thread_has_cores_of_its_own():
    before = torch.get_num_threads()
    assert list(read_ahead(lambda _: torch.get_num_threads(), range(3), before + 1)) == [before + 1] * 3
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs a system that can be told")
def test_the_system_is_told_of_rows_before_they_are_read(tmp_path, monkeypatch):
    told: list[int] = []
    path, size = tmp_path / "rows.bin", 2 * mmap.PAGESIZE
    path.write_bytes(bytes(20 * size))
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, what: told.append(start // length))
    order = torch.randperm(20)
    for i, rows in enumerate(announced(order.split(3), path, size)):
        assert rows.tolist() == order[3 * i : 3 * i + 3].tolist()
        assert told == order[: 3 * (i + 1 + AHEAD)].tolist()
    told.clear()
    assert [rows.tolist() for rows in announced(order.split(20), path, row_bytes=100)] == [order.tolist()]
    assert not told  # a page holds many rows
    abandoned = announced(order.split(3), path, size)
    next(abandoned)
    abandoned.close()
    assert not [entry for entry in psutil.Process().open_files() if entry.path == str(path)]


class FakeStream:
    """Writes down what a stream is asked for; its events, too."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls, self.events = name, calls, 0

    def __enter__(self) -> None:
        self.calls.append("copy")

    def __exit__(self, *error: object) -> None: ...

    def record_event(self) -> FakeStream:
        self.events += 1
        return FakeStream(f"{self.name} {self.events}", self.calls)

    def wait_event(self, event: FakeStream) -> None:
        self.calls.append(f"{self.name} waits for {event.name}")

    def synchronize(self) -> None:
        self.calls.append(f"host waits for {self.name}")


def test_each_copy_begins_before_the_step_in_front_and_is_waited_for_by_its_own(monkeypatch):
    """The order of things on a GPU, seen by streams that do nothing; the device is one without memory."""
    calls: list[str] = []
    copies, steps = FakeStream("copy", calls), FakeStream("step", calls)
    monkeypatch.setattr("layerwise.data.read_ahead._copy_stream", lambda device: copies)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: steps)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda array, stream: calls.append(f"kept for {stream.name}"))
    for batch in to_device([{"values": torch.ones(2)} for _ in range(3 + MOST_QUEUED)], torch.device("meta")):
        assert batch["values"].device.type == "meta"
        calls.append("use")
    copies, uses = ([at for at, call in enumerate(calls) if call == kind] for kind in ("copy", "use"))
    waits = [calls.index(f"step waits for copy {i}") for i in range(1, len(uses) + 1)]
    assert all(copied < waited < used for copied, waited, used in zip(copies, waits, uses, strict=True))
    assert all(copied < used for copied, used in zip(copies[1:], uses, strict=False))  # while the one before is used
    assert calls.count("kept for step") == len(uses)
    assert [call for call in calls if call.startswith("host")] == [f"host waits for step {i}" for i in (1, 2, 3)]


def store_of(place: str, folder, codec: FeatureCodec, device: torch.device) -> FeatureStores:
    if place == "disk":
        return FeatureStores(codec, folder / "cache")
    return FeatureStores(codec, None, device=device if place == "device" else CPU)


def assert_cached_is_recomputed(place, folder, precision, device, tolerance=0.0) -> Cached:
    """All batches of an epoch, the later ones of another, and the test images."""
    net, data, plan = tiny_net().to(device), data_on(device), BatchPlan(16, 0)
    recompute = Recompute(data, plan, precision)
    stores = store_of(place, folder, FeatureCodec(FeatureDtype(precision.name)), device)
    cached = Cached(Recompute(data, plan, precision), stores, 2, StopRequest())
    for depth in range(2):
        recompute.advance([net.blocks[depth]])
        cached.advance([net.blocks[depth]])
        for passes in (
            [source.train(1, 0) for source in (recompute, cached)],
            [source.train(1, 1, first_step=3) for source in (recompute, cached)],
            [source.evaluate("test") for source in (recompute, cached)],
        ):
            for expected, batch in zip(*passes, strict=True):
                torch.testing.assert_close(batch.inputs, expected.inputs, rtol=tolerance, atol=tolerance)
                assert torch.equal(batch.targets, expected.targets)
                assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert not readers()
    return cached


def test_an_interrupted_advance_keeps_the_old_store(tmp_path):
    net, plan = tiny_net(), BatchPlan(16, 0)
    precision = Precision(torch.float32, "cpu")
    images = Recompute(data_on(CPU), plan, precision)
    cached = Cached(images, store_of("disk", tmp_path, FeatureCodec(FeatureDtype.float32), CPU), 1, StopRequest())
    cached.advance([net.blocks[0]])
    net.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cached.advance([net.blocks[1]])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["x1"]
    assert len(list(cached.evaluate("test"))) == 5


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("place", ["device", "host", "disk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cache_anywhere_gives_a_gpu_what_recomputing_gives(tmp_path, monkeypatch, place, dtype):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    tolerance = 100 * torch.finfo(dtype).eps  # cuDNN may choose another algorithm for a last, smaller batch
    cached = assert_cached_is_recomputed(place, tmp_path, Precision(dtype, "cuda"), torch.device("cuda"), tolerance)
    assert cached.store.arrays["train", 0]["values"].device.type == ("cuda" if place == "device" else "cpu")


@needs_gpu
def test_a_gpu_decodes_the_same_levels_from_anywhere(tmp_path):
    device, codec = torch.device("cuda"), FeatureCodec(FeatureDtype.uint8)
    x = torch.randn(40, 8, 4, 4, device=device)
    found = []
    for place in ("device", "host", "disk"):
        store = store_of(place, tmp_path, codec, device).create([])
        with store.writer("train", 0, 40) as writer:
            writer.append(x)
        found.append(torch.cat(list(store.read("train", 0, torch.arange(40, device=device), 16, device))))
    assert all(torch.equal(one, codec.decode(codec.encode(x))) for one in found)


@needs_gpu
def test_a_batch_is_not_overwritten_before_its_step_is_done():
    """The steps are slow, and all batches are under way before the first of them ends."""
    device = torch.device("cuda")
    batches = [{"values": torch.full((1 << 20,), float(i)).pin_memory()} for i in range(20)]
    sums = []
    for batch in to_device(batches, device):
        torch.cuda._sleep(5_000_000)
        sums.append(batch["values"].sum())
    assert [float(total) for total in sums] == [float(i) * (1 << 20) for i in range(20)]


@needs_gpu
@pytest.mark.parametrize("place", ["device", "host"])
def test_reading_a_cache_does_not_synchronise(tmp_path, place):
    device = torch.device("cuda")
    data, precision = data_on(device), Precision(torch.bfloat16, "cuda")
    stores = store_of(place, tmp_path, FeatureCodec(FeatureDtype.bfloat16), device)
    blocks = list(tiny_net().to(device).blocks[:1])
    cached = Cached(Recompute(data, BatchPlan(16, 0), precision), stores, 1, StopRequest(), blocks)
    batches = cached.train(0, 0)
    next(batches)  # the order of the epoch is copied to the host, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(batches)) == 4
    finally:
        torch.cuda.set_sync_debug_mode("default")
