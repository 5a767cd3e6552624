"""The fast ways to take a training step give what the simple one gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

from helpers.configs import configured
from helpers.data import CPU, data_on
from helpers.networks import plain_net, tiny_net
from helpers.training import PLAN, train, trainer_of
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.data.augment import Cutout
from layerwise.data.dataset import Dataset
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import BlockNet, Segment, freeze
from layerwise.training.optim import StepDecay
from layerwise.training.step import CudaGraph
from layerwise.training.trainer import StageTrainer

EPOCHS = 4  # of 5 steps each, the last on fewer images
EXACT = {"lr": 0.125, "schedule": StepDecay(0.3, 0.5)}
"""Learning rates that float32 holds exactly: on the device they are in that format."""


class Playback:
    """What a CUDA graph does, on a CPU: recording changes nothing, replaying does it all again and writes the results
    where the recording left them."""

    def __init__(self) -> None:
        self.warm_ups = self.replays = 0

    def warm_up(self, work):
        self.warm_ups += 1
        return work()

    def capture(self, work):
        before = copy.deepcopy(self.trainer.state_dict())
        self.work, self.results = work, work()
        self.trainer.load_state_dict(before)
        return self.results

    def replay(self) -> None:
        self.replays += 1
        again = self.work()
        for kind in ("means", "counts"):
            for name, values in again[kind].items():
                for old, new in zip(self.results[kind][name], values, strict=True):
                    old.copy_(new)


def captured(net: BlockNet, **changes) -> StageTrainer:
    graph = Playback()
    graph.trainer = trainer_of(net, graph=graph, **changes)
    return graph.trainer


def weights(net: BlockNet) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_twenty_steps_in_float32_are_to_the_bit_those_of_a_simple_loop(tiny_data):
    net, simple = tiny_net(), tiny_net()
    (*_, last) = train(trainer_of(net, epochs=EPOCHS, **EXACT), tiny_data)
    module = Segment(simple, 0, 1, (1,)).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.125, momentum=0.9, weight_decay=5e-4, fused=True)
    losses = []
    for epoch in range(EPOCHS):
        for step, (x, y) in enumerate(Recompute(tiny_data, PLAN, Precision(torch.float32, "cpu")).train(0, epoch)):
            for group in optimizer.param_groups:
                group["lr"] = 0.125 * 0.5 ** ((5 * epoch + step) // 6)
            if step + 5 * epoch in (6, 12, 18):
                optimizer.state.clear()
            loss = F.cross_entropy(module(x)[0].scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(y))
    assert torch.equal(weights(net), weights(simple))
    assert last.scores[0]["loss"] == pytest.approx(sum(losses[-5:]) / 70, rel=1e-6)


def test_a_captured_step_is_to_the_bit_the_plain_one_also_from_a_checkpoint(tiny_data):
    plain, net = tiny_net(), tiny_net()
    reports = train(trainer_of(plain, epochs=EPOCHS, clip_norm=0.01, **EXACT), tiny_data)
    trainer, again = captured(net, epochs=EPOCHS, clip_norm=0.01, **EXACT), []
    for report in trainer.run(Recompute(tiny_data, PLAN, trainer.precision), StopRequest()):
        again.append(report)
        if report.epoch == 1:
            state = copy.deepcopy(trainer.state_dict())
    assert [(r.scores, r.lr) for r in again] == [(r.scores, r.lr) for r in reports]
    assert torch.equal(weights(net), weights(plain))
    graph = trainer.take_step.graph
    assert (graph.warm_ups, graph.replays) == (3, EPOCHS * 4 - 3)  # the four batches of 6 images run apart
    for continued in (captured, trainer_of):
        resumed = continued(tiny_net(seed=5), epochs=EPOCHS, clip_norm=0.01, **EXACT)
        resumed.load_state_dict(copy.deepcopy(state))
        assert [r.scores for r in train(resumed, tiny_data)] == [r.scores for r in reports[2:]]


def test_what_cannot_be_captured_says_so(tiny_data):
    class Refusing(Playback):
        def capture(self, work):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    trainer = trainer_of(tiny_net(), graph=Refusing())
    with pytest.raises(LayerwiseError, match=r"compile=true: .* \(operation not permitted .*compile=false"):
        train(trainer, tiny_data)


@pytest.mark.parametrize(
    ("overrides", "device", "dtype", "possible"),
    [
        (["compile=true"], "cuda", torch.bfloat16, True),
        (["compile=true", "optimizer=adamw"], "cuda", torch.float32, True),
        (["compile=true"], "cpu", torch.bfloat16, False),
        (["compile=false"], "cuda", torch.bfloat16, False),
        (["compile=true"], "cuda", torch.float16, False),
        (["compile=true", "optimizer=timm", "optimizer.name=lamb", "optimizer.lr=0.01"], "cuda", torch.float32, False),
        (["compile=true", "optimizer=timm", "optimizer.name=sgd", "optimizer.lr=0.1"], "cuda", torch.float32, False),
    ],
)
def test_steps_are_recorded_where_nothing_asks_the_device(monkeypatch, overrides, device, dtype, possible):
    monkeypatch.setattr("layerwise.config.build.training.CudaGraph", lambda device: "graph")
    config = configured("k=3", *overrides)
    optimizer = build.build_optimizer(config, torch.nn.Linear(2, 2))
    found = build.build_graph(config, torch.device(device), Precision(dtype, device), optimizer)
    assert found == ("graph" if possible else None)


def test_twenty_steps_of_all_fast_ways_differ_from_the_simple_ones_by_rounding_only(tiny_data, monkeypatch):
    """bfloat16, channels_last, an exact cache, a compiled segment and captured steps, against textbook PyTorch."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    fast, simple = tiny_net(), plain_net()
    half, full = Precision(torch.bfloat16, "cpu"), Precision(torch.float32, "cpu")
    codec = FeatureCodec(FeatureDtype.bfloat16)
    cached = Cached(
        Recompute(tiny_data, PLAN, half), FeatureStores(codec, None), EPOCHS, StopRequest(), fast.blocks[:1]
    )
    trainer = captured(fast, start=1, stop=2, epochs=EPOCHS, precision=half, compiled_for=16, lr=0.01)
    reports = list(trainer.run(cached, StopRequest()))
    freeze(simple.blocks[:1])
    module = Segment(simple, 1, 2, (2,)).train()
    for epoch in range(EPOCHS):
        losses = []
        for step, (x, y) in enumerate(Recompute(tiny_data, PLAN, full).train(1, epoch)):
            if step + 5 * epoch in (0, 6, 12, 18):  # after each decay a new optimiser, as in the paper's code
                lr = 0.01 * StepDecay(0.3, 0.2)((5 * epoch + step) / 20)
                optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
            loss = F.cross_entropy(module(simple.blocks[0](x.contiguous()))[0].scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(y))
        assert reports[epoch].scores[0]["loss"] == pytest.approx(sum(losses) / 70, rel=0.01)
    assert trainer.take_step.graph.replays > 0


def test_stages_of_equal_shape_share_what_is_compiled(tiny_data, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    net = tiny_net(J=4, downsample=[])
    compilations = []
    for j in range(4):
        source = Recompute(tiny_data, PLAN, Precision(torch.float32, "cpu"), list(net.blocks[:j]))
        list(trainer_of(net, j, j + 1, compiled_for=16).run(source, StopRequest()))
        compilations.append(counters["stats"]["unique_graphs"])
    assert compilations == [1, 2, 2, 2]  # block 1 has other channels; the batches of 6 images cost none


@pytest.mark.slow
def test_a_compiled_augmentation_gives_the_plain_one_and_serves_all_views(tiny_data):
    parts = tiny_data.spec, tiny_data.splits, replace(tiny_data.augment, cutout=Cutout(3, torch.tensor([9, 5, 1])))
    plain, compiled = (Dataset(*parts, seed=0, device=CPU, compiled_for=size) for size in (None, 16))
    torch._dynamo.reset()
    counters.clear()
    for view in range(3):
        pairs = zip(*(data.batches("train", torch.arange(70), 16, view) for data in (plain, compiled)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a.inputs, b.inputs, rtol=1e-6, atol=1e-6)
            assert a.inputs.stride() == b.inputs.stride()
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled_for", [None, 16])
def test_a_cuda_graph_gives_the_losses_of_plain_steps(compiled_for):
    device, precision = torch.device("cuda"), Precision(torch.float32, "cuda")
    data = data_on(device)
    reports = []
    for graph in (None, CudaGraph(device)):
        net = tiny_net().to(device)
        trainer = trainer_of(net, precision=precision, epochs=EPOCHS, graph=graph, compiled_for=compiled_for)
        reports.append([report.scores[0]["loss"] for report in train(trainer, data)])
    assert reports[0] == pytest.approx(reports[1], rel=1e-4)
