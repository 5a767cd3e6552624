"""No more threads than cores: of several processes, of what decodes images, and of what reads ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from layerwise.core import machine
from layerwise.core.machine import decoding_workers, share_cores, usable_cores
from layerwise.data.images.worker_map import WorkerMap


@pytest.fixture
def eight_cores(monkeypatch) -> Iterator[None]:
    """PyTorch uses three threads on a machine of eight cores."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("given", "local_ranks", "expected"),
    [
        (None, 1, 3),  # PyTorch knows best, unless it takes more than there are
        (None, 4, 2),
        (None, 16, 1),
        ("3", 1, 3),
        ("3", 4, 3),  # the user's word
        ("1", 4, 2),  # torchrun's, if nobody else has one
    ],
)
def test_processes_share_the_cores(eight_cores, monkeypatch, given, local_ranks, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    share_cores(local_ranks)
    assert torch.get_num_threads() == expected


def test_one_process_takes_no_more_cores_than_it_may_use(eight_cores, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    share_cores(1)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("bound", "expected"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("900000 100000", 8)]
)
def test_a_containers_bound_counts(monkeypatch, bound, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_control_group", lambda name: bound)
    assert usable_cores() == expected


def test_affinity_counts(monkeypatch):
    def no_groups(name: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6}, raising=False)
    monkeypatch.setattr(machine, "_control_group", no_groups)
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("device", "local_ranks", "expected"),
    [("cpu", 1, 8), ("cpu", 4, 2), ("cpu", 8, 0), ("cuda", 8, 1), ("cuda", 16, 1)],
)
def test_workers_share_the_cores_but_not_the_only_one_of_a_cpu(eight_cores, device, local_ranks, expected):
    assert decoding_workers(torch.device(device), local_ranks) == expected


def threads(_: int) -> int:
    return torch.get_num_threads()


def test_each_worker_computes_on_one_core():
    workers = WorkerMap(threads, workers=2)
    assert list(workers(range(4))) == [1] * 4
    workers.close()
