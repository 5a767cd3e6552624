"""This machine: its cores and memory, and the hardware, versions and commit that a result names."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch

HOST = torch.device("cpu")
"""Stands for the machine's own memory, whatever device a run computes on."""

PACKAGES = ("layerwise", "torch", "torchvision", "numpy", "hydra-core")
"""Packages whose versions a result names."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_BLOCK_KEPT = 1 << 30
"""Larger freed blocks (caches), in bytes, still go back to the kernel."""


def usable_cores() -> int:
    """Returns how many cores this process may use: its affinity (set by SLURM, for example) or its container decide."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = _control_group("cpu.max").split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, IndexError, ValueError):  # no limit, no control groups, or version 1 of them
        return cores


def share_cores(local_ranks: int) -> None:
    """Limits PyTorch's threads to this process's part of the cores, unless the user has set OMP_NUM_THREADS."""
    given = os.environ.get("OMP_NUM_THREADS")
    if given is not None and (local_ranks == 1 or given != "1"):  # torchrun sets 1 for several processes by default
        return
    part = max(1, usable_cores() // local_ranks)
    if local_ranks > 1 or part < torch.get_num_threads():
        torch.set_num_threads(part)


def decoding_workers(device: torch.device, local_ranks: int) -> int:
    """Returns how many processes decode images by default: one per core that this process may use.

    It returns 0 where one core has to train as well: handing batches over cost 4 to 14 % of an epoch on Imagenette at
    64 pixels.
    """
    part = max(1, usable_cores() // local_ranks)
    return 0 if device.type == "cpu" and part == 1 else part


def hardware(device: torch.device) -> dict[str, Any]:
    """Returns processor, cores and memory of this machine, and the GPU if one is used."""
    described: dict[str, Any] = {
        "device": str(device),
        "cpu": _cpu_name(),
        "instructions": _instructions(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 2**30, 1)}
    return described


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has units for bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def versions() -> dict[str, str]:
    """Returns the versions of Python and of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Returns the commit of this source tree, with `+changes` if files differ from it; None outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_mb(device: torch.device) -> float:
    """Returns the peak memory in MiB: of the GPU since the last reset, else of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = _status_mb("VmHWM")
    if peak is not None:  # Linux, where ru_maxrss also counts the parent's memory at the time of the fork
        return max(peak, MemoryGrowth.earlier_peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


class MemoryGrowth:
    """How much memory is taken beyond what is in use now: of the GPU, else of this process (on Linux alone).

    Args:
        device: whose memory is watched; its earlier peaks are forgotten.

    Attributes:
        settled: whether it counts from the end of a first training step.
    """

    earlier_peak: ClassVar[float] = 0.0  # of the process, in MiB, up to the last time that the kernel forgot it

    def __init__(self, device: torch.device) -> None:
        self._device, self.settled = device, False
        self._before = self._begin()

    def settle(self) -> None:
        """Counts anew from now on, after a first step: what libraries set up in it, and gradients, are in use."""
        self._before, self.settled = self._begin(), True

    def mb(self) -> float | None:
        """Returns the growth up to the peak since the beginning in MiB; None where it cannot be measured."""
        if self._before is None:
            return None
        peak = peak_memory_mb(self._device) if self._device.type == "cuda" else _status_mb("VmHWM")
        return None if peak is None else max(0.0, peak - self._before)

    def _begin(self) -> float | None:
        """Forgets the peak so far and returns what is in use in MiB; None where it cannot be measured."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device) / 2**20
        return_freed_memory()  # what was freed before is not taken now
        MemoryGrowth.earlier_peak = max(MemoryGrowth.earlier_peak, _status_mb("VmHWM") or 0.0)
        with contextlib.suppress(OSError):  # no Linux, or not allowed in this container
            Path("/proc/self/clear_refs").write_text("5")
            return _status_mb("VmRSS")
        return None


def _status_mb(name: str) -> float | None:
    """Returns a size of this process from /proc/self/status in MiB; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def available_memory(device: torch.device) -> int:
    """Returns the free bytes of a GPU, else of this machine or of the control group that limits this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    try:
        return min(available, int(_control_group("memory.max")) - int(_control_group("memory.current")))
    except (OSError, IndexError, ValueError):  # no limit, no control groups, or version 1 of them
        return available


def keep_freed_memory() -> bool:
    """Makes glibc reuse freed blocks instead of returning them to the kernel; returns False with another C library.

    Activations are large blocks. If they go back to the kernel, it clears the same pages again at every step, which
    took a fifth of a step on two AVX-512 cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK_KEPT), mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return kept == (1, 1)


def return_freed_memory() -> None:
    """Gives freed memory back to the kernel once, between phases with tensors of different sizes (fragmentation)."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _control_group(name: str) -> str:
    """Returns a value of the control group that this process is in; `max` means no limit."""
    group = Path("/proc/self/cgroup").read_text().split("::", 1)[1].strip().lstrip("/")
    return (Path("/sys/fs/cgroup") / group / name).read_text().strip()


def _instructions() -> str:
    """`AVX2`, `AVX512 BF16`: what decides the speed of processors of one name."""
    return torch.backends.cpu.get_cpu_capability() + (" BF16" if cpu_multiplies_bf16() else "")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
