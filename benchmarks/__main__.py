"""Measures speed and memory on this machine. Every comparison is a ratio measured within one call.

    python -m benchmarks                     all parts but those in brackets: 15 minutes on two cores
    python -m benchmarks blocks small        some parts
    python -m benchmarks --gpu --save        on the GPU; writes results/benchmark_<hardware>.json and .md
    python -m benchmarks run --run-images 50000   the whole of experiment=laptop_cifar10
    python -m benchmarks decode --images FOLDER

`plain` is benchmarks/plain.py, the published training loop in textbook PyTorch. With --gpu, [compile] and [full] run
without being named.

ceilings    rate of matrix products in float32 and, where the hardware has units for it, bfloat16; of copying memory
blocks      images/s of a training step of each block with its data, for k = 1, 2, 3, ours and plain; also as a share
            of the machine's rate of matrix products
[compile]   images/s of training steps, with compile=true and without
run         seconds of whole runs on CIFAR-10, ours and plain: k = 3, and k = 1 with an exact cache
augment     images/s of crop, flip and scaling alone, ours and plain
cache       writing, reading and advancing a cache in memory and on the disk: GB/s, and the share of a step
evaluate    images/s of scoring, ours and plain
slopes      seconds of runs of J = 1, 2, 4, 8 blocks with a cache and without, and the exponents of their growth
[full]      seconds and accuracy of whole experiments on CIFAR-10 with compile=true, ours and plain; on a GPU only
startup     seconds from a command to its first training step; seconds of commands that need no training, as a ratio
            to importing Hydra
memory      peak resident memory of a whole full-width run
vgg         peak memory of a training step of VGG-11 at 224 pixels: the greedy stages, against plan=joint
decode      images/s of one core from JPEG files and from records to augmented batches, against torchvision
[small]     steps/s of a network of a few hundred weights in real runs, against a bare PyTorch loop
[logging]   seconds of training with W&B (offline) and TensorBoard, against none
[processes] images/s of two processes, each on a core of its own, against one on one core, with the same batches

Inputs are random images of CIFAR-10's shape. `run`, `memory` and `processes` need the real CIFAR-10 under
$LAYERWISE_DATA, `decode` a folder with train/<class>/… and val/<class>/….
The compared loops alternate, and medians are compared, because the speed of a machine drifts.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.runs import ROOT
from benchmarks.tables import markdown, table
from layerwise.core.machine import hardware, keep_freed_memory, versions
from layerwise.core.precision import choose_device

Part = Callable[..., dict[str, Any]]
NAMES = (
    *("ceilings", "blocks", "compile", "run", "augment", "cache", "evaluate", "slopes"),
    *("full", "startup", "memory", "vgg", "decode", "small", "logging", "processes"),
)
PARTS: dict[str, Part] = {name: import_module(f"benchmarks.parts.{name}").measure for name in NAMES}
"""The function `measure` of each module in parts/; its docstring is the caption of its table."""

FOR_GPUS = {"compile", "full"}
"""Parts that say nothing on a CPU, or would take days."""

ON_REQUEST = {"small", "logging", "processes"}
"""Parts that run only where they are named: each compares layerwise with itself."""

CAPTIONS = {name: (inspect.getdoc(part) or "").partition("\nArgs:")[0].strip() for name, part in PARTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help="default: see above")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--gpu", action="store_const", const="cuda", dest="device", help="the same as --device cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--save", action="store_true", help="also write the figures to results/, beside earlier ones")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="image folder for the part decode")
    parser.add_argument("--run-images", type=int, default=1280, metavar="N", help="training images of the part run")
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
    """Writes figures as JSON and Markdown. Figures of other parts are kept if machine and versions are the same.

    Args:
        figures: `hardware`, `versions`, and the figures of each measured part by its name.
        folder: folder of `benchmark_<hardware>.json` and `.md`.
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
    """`cpu_2_cores_avx2`, `nvidia_h200`."""
    name = found["gpu"] if "gpu" in found else f"cpu_{found['cores']}_cores_{found['instructions']}"
    return re.sub(r"\W+", "_", name.lower())


if __name__ == "__main__":
    main()
