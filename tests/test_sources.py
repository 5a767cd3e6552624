"""Feature sources: a cache gives what recomputing gives, and does no work twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from helpers.caches import decide_small, stores
from helpers.data import CPU
from helpers.networks import tiny_net
from helpers.training import FP32
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.shard import Shard
from layerwise.features.batches import BatchPlan
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import MANIFEST

EPOCHS = 3
PLAN = BatchPlan(batch_size=16, seed=0)
BF16 = Precision(torch.bfloat16, "cpu")


def epochs_of(source: Recompute | Cached, stage: int) -> list[torch.Tensor]:
    """All features and targets that a stage and its evaluation see."""
    batches = [batch for epoch in range(EPOCHS) for batch in source.train(stage, epoch)]
    batches += list(source.evaluate("test"))
    return [tensor.clone() for batch in batches for tensor in batch]


def assert_same(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y.to(x.dtype))


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("precision", [FP32, BF16], ids=["float32", "bfloat16"])
def test_a_view_per_epoch_equals_recomputing_to_the_bit_at_each_depth(tiny_data, tmp_path, where, precision):
    net = tiny_net()
    recompute = Recompute(tiny_data, PLAN, precision)
    folder = tmp_path / "cache" if where == "disk" else None
    cached = Cached(Recompute(tiny_data, PLAN, precision), stores(folder, precision.name), EPOCHS, StopRequest())
    for stage in range(3):
        assert recompute.depth == cached.depth == stage
        assert_same(epochs_of(recompute, stage), epochs_of(cached, stage))
        recompute.advance([net.blocks[stage]])
        cached.advance([net.blocks[stage]])
    cached.close()
    assert not (tmp_path / "cache").exists()


def test_fresh_views_differ_from_stage_to_stage_and_those_of_the_first_are_the_same_as_without(tiny_data):
    views = {}
    for fresh in (False, True):
        source = Recompute(tiny_data, replace(PLAN, fresh_views=fresh), FP32)
        order = PLAN.order(0, 0, 70, CPU)
        for stage in (0, 1):
            images = [batch.inputs for batch in source.batches("train", order, 70, source.view(stage, 0), "labels")]
            views[fresh, stage] = torch.cat(images)
    assert torch.equal(views[False, 0], views[False, 1])
    assert torch.equal(views[False, 0], views[True, 0])
    assert not torch.equal(views[True, 0], views[True, 1])
    alternating = [replace(PLAN, fresh_views=True).view(stage, epoch) % 2 for stage in (0, 1, 2) for epoch in (0, 1)]
    assert alternating == [0, 1] * 3


def test_fresh_views_are_not_cached(tmp_path):
    decision = decide_small("auto", tmp_path, augmented=True, fresh_views=True)
    assert decision.kind == "none"
    assert "fresh views" in decision.message
    with pytest.raises(LayerwiseError, match=r"dataset\.fresh_views=true cannot be cached: remove it, or cache=memory"):
        decide_small("memory", tmp_path, augmented=True, fresh_views=True)
    assert decide_small("memory", tmp_path, augmented=False, fresh_views=True).kind == "memory"


def test_fewer_views_are_an_approximation_that_repeats_them(tiny_data):
    net = tiny_net()
    cached = Cached(Recompute(tiny_data, PLAN, FP32), stores(None), 2, StopRequest(), list(net.blocks[:1]))
    order = torch.arange(70)
    recompute = Recompute(tiny_data, PLAN, FP32, list(net.blocks[:1]))
    seen = [next(cached.store.read("train", view, order, 70, CPU)) for view in range(2)]
    for view in range(2):
        expected = torch.cat([batch.inputs for batch in recompute.read("train", order, view)])
        assert torch.equal(seen[view], expected)
    by_epoch = {epoch: next(iter(cached.train(0, epoch))).inputs for epoch in range(3)}
    position = PLAN.order(0, 2, 70, CPU)[:16]
    assert torch.equal(by_epoch[2], seen[0][position])  # epoch 2 reads view 2 mod 2


def test_passes_without_gradients_may_take_several_batches_at_once(tiny_data):
    net, plan = tiny_net(), BatchPlan(batch_size=16, seed=0, batches_a_pass=4)
    usual, large = (
        Cached(Recompute(tiny_data, batches, FP32), stores(None), 1, StopRequest(), list(net.blocks[:1]))
        for batches in (PLAN, plan)
    )
    assert [len(batch.targets) for batch in large.train(0, 0)] == [16, 16, 16, 16, 6]
    assert [len(batch.targets) for batch in large.evaluate("train")] == [64, 6]
    assert large.images.most_batches("train") == 2
    for a, b in zip(epochs_of(usual, 0), epochs_of(large, 0), strict=False):
        torch.testing.assert_close(a, b[: len(a)], rtol=1e-5, atol=1e-6)


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own(tiny_data):
    tiny_data.splits["train"].labels = torch.arange(70)
    source = Recompute(tiny_data, PLAN, FP32)
    orders = [torch.cat([batch.targets for batch in source.train(0, epoch)]) for epoch in range(2)]
    assert not torch.equal(*orders)
    assert all(order.sort().values.tolist() == list(range(70)) for order in orders)


@pytest.mark.parametrize("dtype", FeatureDtype)
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 11)])
def test_formats_round_as_little_as_they_say(dtype, shape):
    x = torch.randn(shape) * 3
    codec = FeatureCodec(dtype)
    arrays = codec.encode(x)
    y = codec.decode(arrays)
    spread = (x.amax(tuple(range(2, x.dim())), True) - x.amin(tuple(range(2, x.dim())), True)) if x.dim() == 4 else 18
    tolerance = {"float32": 0.0, "bfloat16": 2**-8 * x.abs(), "float16": 2**-11 * x.abs(), "uint8": spread / 500}
    assert ((y.float() - x).abs() <= tolerance[dtype.value] + 1e-7).all()
    stored = sum(array.numel() * array.itemsize for array in arrays.values())
    assert stored == 6 * codec.bytes_per_sample(shape[1:])


def test_uint8_keeps_constant_channels():
    x = torch.zeros(2, 3, 4, 4)
    x[1] = 7.0
    assert torch.equal(FeatureCodec(FeatureDtype.uint8).decode(FeatureCodec(FeatureDtype.uint8).encode(x)), x)


def test_a_restart_takes_the_disk_cache_that_is_there(tiny_data, tmp_path):
    net = tiny_net()
    first = Cached(Recompute(tiny_data, PLAN, FP32), stores(tmp_path), 2, StopRequest())
    first.advance([net.blocks[0]])
    seen = epochs_of(first, 1)
    net.blocks[0].register_forward_hook(lambda *_: pytest.fail("the prefix was recomputed"))
    again = Cached(Recompute(tiny_data, PLAN, FP32), stores(tmp_path), 2, StopRequest(), list(net.blocks[:1]))
    assert_same(seen, epochs_of(again, 1))
    # a crash while x2 was written: only x1 is whole, and it is advanced by the one block that it lacks
    (tmp_path / "x2.partial").mkdir()
    deeper = Cached(Recompute(tiny_data, PLAN, FP32), stores(tmp_path), 2, StopRequest(), list(net.blocks[:2]))
    assert deeper.depth == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x2"]


@pytest.mark.parametrize("damage", ["truncated", "altered", "other weights", "no manifest", "another list"])
def test_a_damaged_or_foreign_disk_cache_is_made_anew(tiny_data, tmp_path, damage):
    net = tiny_net()
    good = Cached(Recompute(tiny_data, PLAN, FP32), stores(tmp_path), 1, StopRequest(), list(net.blocks[:1]))
    expected = epochs_of(good, 1)
    file = next((tmp_path / "x1").glob("train*"))
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[:-8])
    elif damage == "altered":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "another list":
        (tmp_path / "x1" / MANIFEST).write_text("[]")
    elif damage == "no manifest":
        (tmp_path / "x1" / MANIFEST).unlink()
    else:
        manifest = json.loads((tmp_path / "x1" / MANIFEST).read_text())
        (tmp_path / "x1" / MANIFEST).write_text(json.dumps(manifest | {"blocks": "another"}))
    again = Cached(Recompute(tiny_data, PLAN, FP32), stores(tmp_path), 1, StopRequest(), list(net.blocks[:1]))
    assert_same(expected, epochs_of(again, 1))


def test_shards_part_a_sequence_and_give_it_back():
    rows = torch.arange(22).view(11, 2)
    shards = [Shard(rank, 4) for rank in range(4)]
    parts = [rows[shard.positions(11)] for shard in shards]
    assert [len(part) for part in parts] == [shard.size(11) for shard in shards] == [3, 3, 3, 2]
    assert torch.equal(shards[0].whole(parts), rows)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_the_batches_are_the_same_for_any_number_of_processes(n):
    """Of 70 samples in batches of 16, and of the 37 first of them, which alone may have labels."""
    for samples in (70, 37):
        whole = BatchPlan(16, seed=3).order(1, 2, samples, CPU).split(16)
        assert torch.cat(whole).sort().values.tolist() == list(range(samples))
        parts = []
        for rank in range(n):
            shard = Shard(rank, n)
            plan = BatchPlan(16, 3, shard)
            own = shard.positions(samples)[plan.order(1, 2, shard.size(samples), CPU)]
            parts.append(own.split(plan.size))
        for step, batch in enumerate(whole[: len(parts[0])]):
            shared = torch.cat([part[step] for part in parts if step < len(part)])
            assert shared.sort().values.tolist() == batch.sort().values.tolist()


@pytest.mark.parametrize(
    ("samples", "most"), [(64, 0.03), (61, 0.045)]
)  # places without a sample in a short batch meet more
def test_how_often_two_samples_meet_in_a_batch(samples, most):
    """Against a uniform shuffle: never in one place, as often as all others otherwise; and who is in the last batch."""
    B, epochs = 8, 4000
    plan, place = BatchPlan(B, seed=0), torch.arange(samples) % B
    uniform = torch.Generator().manual_seed(0)
    meetings = {"ours": torch.zeros(samples, samples), "uniform": torch.zeros(samples, samples)}
    last = torch.zeros(samples)
    for epoch in range(epochs):
        orders = {"ours": plan.order(0, epoch, samples, CPU), "uniform": torch.randperm(samples, generator=uniform)}
        for name, order in orders.items():
            batch = torch.empty(samples, dtype=torch.int64)
            batch[order] = torch.arange(samples) // B
            meetings[name] += batch[:, None] == batch
        last[orders["ours"][-(samples % B or B) :]] += 1
    pairs = ~torch.eye(samples, dtype=torch.bool)
    same = (place[:, None] == place) & pairs
    frequency = {name: counts / epochs for name, counts in meetings.items()}
    # of a uniform shuffle: B − 1 of the n − 1 others, of ours the same, spread over the samples of other places
    for name, chosen in {"ours": pairs & ~same, "uniform": pairs}.items():
        expected = (frequency["uniform"][pairs]).mean() * (pairs.sum() / chosen.sum())
        assert frequency[name][chosen].mean() == pytest.approx(float(expected), rel=1e-3)
        assert (frequency[name][chosen] - expected).abs().max() < most
    assert not frequency["ours"][same].any()
    assert same.sum() / pairs.sum() == pytest.approx((samples / B - 1) / (samples - 1), rel=0.02)
    assert not last[place >= (samples % B or B)].any()  # a short last batch is of the first places alone
    assert (last[place < (samples % B or B)] > 0).all()
