"""The machine behind a result: hardware, versions, commit, memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

HOST = torch.device("cpu")
"""Device that stands for the memory of the machine."""

PACKAGES = ("layerwise", "torch", "torchvision", "numpy", "hydra-core")


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, cores and memory (GiB) of this machine, and its GPU if `device` is one."""
    described: dict[str, Any] = {
        "device": str(device),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 2**30, 1)}
    return described


def usable_cores() -> int:
    """Number of cores that this process may use, within its affinity (such as a SLURM job's) and its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = _control_group("cpu.max").split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, IndexError, ValueError):  # no limit, no control groups, or version 1 of them
        return cores


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine the numbers of a run."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of the source tree, with `+changes` if files differ from it; None outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of the GPU since the last reset, else of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss includes the memory of the parent at the fork
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def available_memory(device: torch.device) -> int:
    """Free bytes of the device: of the GPU, else of this machine within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    try:
        return min(available, int(_control_group("memory.max")) - int(_control_group("memory.current")))
    except (OSError, IndexError, ValueError):  # no limit, no control groups, or version 1 of them
        return available


def _control_group(name: str) -> str:
    """Read a value of the control group of this process; `max` means no limit."""
    group = Path("/proc/self/cgroup").read_text().split("::", 1)[1].strip().lstrip("/")
    return (Path("/sys/fs/cgroup") / group / name).read_text().strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
