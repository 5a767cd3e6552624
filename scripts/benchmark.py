"""Measures speed and memory on this machine and prints each as a ratio within this one run.

    python scripts/benchmark.py                     a quarter of an hour on two cores: all but the parts in brackets
    python scripts/benchmark.py blocks small        some parts
    python scripts/benchmark.py --gpu --save        on the GPU; leaves results/benchmark_<hardware>.json and .md
    python scripts/benchmark.py run --run-images 50000   the whole of experiment=laptop_cifar10, and the like
    python scripts/benchmark.py decode --images FOLDER

`plain` is benchmarks/plain.py: the published way of training, in textbook PyTorch. [compile] and [full] need
not be named with --gpu.

ceilings    rates of matrix products in float32 and bfloat16, and of copying memory
blocks      images/s of a training step of each block for k = 1, 2, 3, ours and plain, with its data; the share of the
            machine's rate of matrix products that the step's operations make
[compile]   images/s of training steps with compile=true and without
run         seconds of whole runs on CIFAR-10, ours and plain: k = 3, and k = 1 with an exact cache
augment     images/s of crop, flip and scaling alone, ours and plain
data        share of data and augmentation in a training step at full width
cache       writing, reading and advancing a cache in memory and on the disk: GB/s, and the share of a step
evaluate    images/s of scoring, ours and plain
depth       cost of a step of block j = 1 … 8, with an exact cache and without, against the block alone
slopes      seconds of runs of J = 1, 2, 4, 8 blocks with a cache and without, and the exponents of their growth
[full]      seconds and accuracy of whole experiments on CIFAR-10, compile=true, and of the plain one; on a GPU only
startup     seconds from the command to the first training step
memory      peak resident memory of a whole full-width run
vgg         peak memory of a training step of VGG-11 at 224 pixels: the greedy stages, against plan=joint
decode      images/s of one core from JPEG files, and from records, to augmented batches, against torchvision's
[small]     steps/s of a network of a few hundred weights, in real runs, against a bare PyTorch loop
[logging]   seconds of training with W&B (offline) and TensorBoard, against none
[processes] images/s of two processes, each on a core of its own, against one on one core, for the same batches

Inputs are random images of CIFAR-10's shape; `run`, `memory` and `processes` need the real CIFAR-10 under
$LAYERWISE_DATA, `decode` a folder with train/<class>/… and val/<class>/….
The compared loops take turns, and medians are compared, because the speed of a machine drifts.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _benchmark_blocks import measure_blocks
from _benchmark_cache import measure_cache
from _benchmark_ceilings import measure_ceilings
from _benchmark_compile import measure_compile
from _benchmark_data import measure_augment, measure_data, measure_decode
from _benchmark_depth import measure_depth, measure_slopes
from _benchmark_evaluate import measure_evaluate
from _benchmark_logging import measure_logging
from _benchmark_memory import measure_memory, measure_vgg
from _benchmark_processes import measure_processes
from _benchmark_runs import measure_full, measure_run, measure_startup
from _benchmark_small import measure_small
from _benchmark_tables import markdown, table
from _runs import ROOT
from rich.console import Console

from layerwise.core.allocator import keep_freed_memory
from layerwise.core.machine import hardware, versions
from layerwise.core.precision import choose_device

Part = Callable[..., dict[str, Any]]
PARTS: dict[str, Part] = {
    "ceilings": measure_ceilings,
    "blocks": measure_blocks,
    "compile": measure_compile,
    "run": measure_run,
    "augment": measure_augment,
    "data": measure_data,
    "cache": measure_cache,
    "evaluate": measure_evaluate,
    "depth": measure_depth,
    "slopes": measure_slopes,
    "full": measure_full,
    "startup": measure_startup,
    "memory": measure_memory,
    "vgg": measure_vgg,
    "decode": measure_decode,
    "small": measure_small,
    "logging": measure_logging,
    "processes": measure_processes,
}
FOR_GPUS = {"compile", "full"}
"""Parts that tell nothing on a CPU, or would take it days."""

ON_REQUEST = {"small", "logging", "processes"}
"""Parts that are measured where they are named: each compares us with ourselves."""

CAPTIONS = {name: (inspect.getdoc(part) or "").partition("\nArgs:")[0].strip() for name, part in PARTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: see above")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--gpu", action="store_const", const="cuda", dest="device", help="--device cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures also as JSON")
    parser.add_argument("--save", action="store_true", help="the figures also in results/, with those measured before")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="for decode")
    parser.add_argument("--run-images", type=int, default=1280, metavar="N", help="for run: training images")
    options = parser.parse_args()
    device = choose_device(options.device)
    keep_freed_memory()  # as train.py does
    arguments: dict[str, tuple[Any, ...]] = {
        "run": (device, options.run_images),
        "decode": (options.images, device),
        "processes": (),
    }
    figures: dict[str, Any] = {"hardware": hardware(device), "versions": versions()}
    print(", ".join(f"{name} {value}" for name, value in figures["hardware"].items()))
    left_out = ON_REQUEST if device.type == "cuda" else ON_REQUEST | FOR_GPUS
    for name in options.parts or [name for name in PARTS if name not in left_out]:
        if name == "full" and device.type != "cuda":
            print(f"{name}: not measured, it needs a GPU")
            continue
        started = time.perf_counter()
        figures[name] = PARTS[name](*arguments.get(name, (device,)))
        if figures[name]:
            Console().print(table(f"{name} ({time.perf_counter() - started:.0f} s)", figures[name]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.save:
        save(figures, ROOT / "results")


def save(figures: dict[str, Any], folder: Path) -> None:
    """Writes figures as JSON and Markdown; those of other parts stay if they are of the same machine and versions.

    Args:
        figures: `hardware`, `versions`, and each part's that was asked for.
        folder: where `benchmark_<hardware>.json` and `.md` lie.
    """
    path = folder / f"benchmark_{hardware_name(figures['hardware'])}.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if any(earlier.get(fact) != figures[fact] for fact in ("hardware", "versions")):
        earlier = {}
    figures = earlier | {name: values for name, values in figures.items() if values}
    path.write_text(json.dumps(figures, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(figures, CAPTIONS))
    print(f"{path} and {path.with_suffix('.md').name}")


def hardware_name(found: dict[str, Any]) -> str:
    """`cpu_2_cores`, `nvidia_h200`."""
    return re.sub(r"\W+", "_", found["gpu"].lower()) if "gpu" in found else f"cpu_{found['cores']}_cores"


if __name__ == "__main__":
    main()
