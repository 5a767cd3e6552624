"""No step waits for the device: neither for a GPU, nor, seen by fake tensors, for any."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from helpers.data import data_on
from helpers.networks import plain_net, tiny_net
from helpers.training import trainer_of
from layerwise.core.precision import Precision
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import BlockNet
from layerwise.training.trainer import StageTrainer


def prepare(net: BlockNet, device: torch.device, precision: Precision) -> tuple[Recompute, StageTrainer]:
    source = Recompute(data_on(device), BatchPlan(16, 0), precision, list(net.blocks[:1]))
    return source, trainer_of(net, start=1, stop=2, precision=precision, clip_norm=1.0, average=0.9)


def run_epoch(source: Recompute, trainer: StageTrainer) -> None:
    """All batches and steps of an epoch, without the reading of its sums."""
    for batch in source.train(0, trainer.epoch):
        trainer._train_step(*batch)
        trainer.average.update()
        trainer.step += 1
    trainer.epoch, trainer.step = trainer.epoch + 1, 0


def test_a_step_never_reads_a_value_that_the_device_computes():
    """A fake tensor has no value: reading one (item, bool, a print) raises."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        run_epoch(*prepare(plain_net(), torch.device("cpu"), Precision(torch.bfloat16, "cpu")))
        with pytest.raises(DataDependentOutputException):  # the check can fail
            torch.ones(1).item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_on_a_gpu_does_not_synchronise(dtype):
    device = torch.device("cuda")
    source, trainer = prepare(tiny_net().to(device), device, Precision(dtype, "cuda"))
    run_epoch(source, trainer)  # allocations and library start-up may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        run_epoch(source, trainer)
    finally:
        torch.cuda.set_sync_debug_mode("default")
