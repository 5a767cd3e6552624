"""From a configuration to the objects of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from layerwise.config import build
from layerwise.config.groups.outputs import ProgressName
from layerwise.config.groups.training import Parallel
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.distributed import AllReduceMax, from_main, one_per_machine_first, ranks
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import keep_freed_memory
from layerwise.core.precision import Precision
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.experiment.context import Run
from layerwise.experiment.results import run_facts
from layerwise.experiment.work import workload
from layerwise.models.synced_norm import synchronised
from layerwise.reporting.loggers.base import Loggers
from layerwise.reporting.loggers.choice import build_loggers
from layerwise.reporting.terminal import Display
from layerwise.runs.checkpoints import Checkpoints, write_pretrained
from layerwise.runs.code_check import code_of
from layerwise.runs.data_check import Listing
from layerwise.runs.finished import begin_with
from layerwise.runs.folder import RunFolder
from layerwise.runs.metrics import Metrics
from layerwise.runs.pretrained import beginning, find_weights
from layerwise.runs.reuse import refuse_other_data, shared_stages, take_over
from layerwise.runs.run_files import METRICS
from layerwise.training.plan import Stage


def configure_torch() -> None:
    """Sets the global options of PyTorch and of the memory allocator for a training."""
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # the shapes of batches are fixed
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32


def assemble(
    config: ResolvedConfig,
    spec: DatasetSpec,
    folder: RunFolder,
    device: torch.device,
    precision: Precision,
    data: Dataset | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Builds the objects of a run. What cannot be trained is refused, the cheapest checks first. Collective.

    Args:
        config: the resolved configuration.
        data: this process's samples, if they have been read already.

    Raises:
        LayerwiseError: the cache does not fit, the other run of `plan.reuse` or `model.pretrained` differs, or the
            data cannot be used.
    """
    agenda = build.build_agenda(config)
    stages = agenda.stages()
    network = build.build_network(config, spec, stages)
    build.check_network(network, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    display = Display(config.progress is ProgressName.auto, silent=not distributed.is_main())
    cache = from_main(lambda: build.build_cache_decision(config, spec, stages, costs, precision, folder.cache, device))
    processes = f"{ranks()} processes ({config.distributed.parallel.value} in parallel), " if ranks() > 1 else ""
    display.note(f"run folder: {folder.path}")
    display.note(f"{processes}{device}, {precision.name}; {cache.message or 'no cache'}")

    begins = config.model.pretrained
    other = None if config.plan.reuse is None else Path(config.plan.reuse)
    shared = [] if other is None else from_main(lambda: shared_stages(other, config, folder.path))
    weights = from_main(lambda: find_weights(config, spec, network, folder.path)) if begins else []
    data = data or read_data(config, spec, device, stages)
    listing: Listing = lambda: data.listing or build.data_listing(config)  # noqa: E731
    if other is not None:
        from_main(lambda: refuse_other_data(other, data.spec, listing))
    folder.begin(data.spec, listing)
    if begins is not None:
        begin_with(network, weights)
        from_main(lambda: write_pretrained(folder.checkpoints, weights))
        display.note(beginning(begins, weights, config.plan.frozen_blocks))
    checkpoints = Checkpoints(folder.checkpoints, display.warn, folder.origin)
    if other is not None and (reused := from_main(lambda: take_over(other, shared, checkpoints, network))):
        display.note(f"{reused} of {len(stages)} stages are taken from {other}")

    work = workload(config, spec, network, costs, cache.views, data)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if ranks() > 1 and config.distributed.sync_batchnorm and config.distributed.parallel is Parallel.data:
        synchronised(network, device)
    code = from_main(lambda: code_of(config))
    loggers = build_loggers(config, folder.path, display.note) if distributed.is_main() else {}
    return Run(
        config=config,
        folder=folder,
        agenda=agenda,
        network=network,
        costs=costs,
        work=work,
        data=data,
        precision=precision,
        cache=cache,
        facts={**run_facts(cache, precision, device), **({"outside": code} if code else {}), **facts},
        checkpoints=checkpoints,
        metrics=Metrics(folder.path / METRICS, folder.origin),
        loggers=Loggers(loggers, display.warn),
        display=display,
        stop=StopRequest(),
    )


def read_data(config: ResolvedConfig, spec: DatasetSpec, device: torch.device, stages: Sequence[Stage]) -> Dataset:
    """Reads this process's samples. Collective: all processes raise the error of any.

    Raises:
        LayerwiseError: the data cannot be read or do not suffice for the stages, or differ between machines.
    """

    def read() -> Dataset:
        data = build.build_data(config, spec, device)
        build.check_data_suffice(config, data, stages)
        return data

    data = one_per_machine_first(read)
    numbers = [len(labels) for labels in data.labels.values()] + [int(labels.sum()) for labels in data.labels.values()]
    extremes = [*numbers, *(-number for number in numbers)]  # the largest and the smallest of each number
    if AllReduceMax(*extremes).wait() != extremes:
        raise LayerwiseError(
            f"dataset={spec.name}: the processes have found different data. "
            "Give all machines the same files in dataset.root."
        ).shared()
    return data
