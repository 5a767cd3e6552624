"""What a report calls each kind of run, and how it writes numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from layerwise.config.plans import PLANS
from layerwise.config.plans.base import HeadStart
from layerwise.reporting.html.reported_run import ReportedRun

NETWORKS = {"mlp": "perceptron", "simcnn": "SimCNN", "timm": "timm's"}
"""What titles call a kind of network, if not by its name."""

DATA = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "fashion_mnist": "Fashion-MNIST",
    "imagenet": "ImageNet",
    "imagenette": "Imagenette",
    "svhn": "SVHN",
}
"""What titles call a data set, if not by its name."""

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

COLLAPSED = 2.0
"""A decoder with so many times the error of the best one before it is named."""


def plan_words(name: str) -> str:
    """`end to end` for `joint`."""
    return PLANS[name].title or name


def network_words(run: ReportedRun) -> str:
    """`SimCNN, k = 3` or `timm's resnet18`; only a SimCNN has the paper's k."""
    model = run.config.model
    kind = NETWORKS.get(model.kind, "")
    if model.kind == "simcnn":
        return f"{kind}, k = {run.config.k}"
    return f"{kind} {model.label}" if model.kind == "timm" else kind or model.label


def data_words(name: str) -> str:
    """`CIFAR-10` for `cifar10`; of a table or a folder its own name."""
    return DATA.get(name, name)


def kind_of(run: ReportedRun) -> str:
    """`SimCNN, k = 3, on CIFAR-10, greedy, 4 blocks, pruned to 32 filters`."""
    config, plan = run.config, run.config.plan
    depth = config.J if config.J is not None else len(run.rows)
    words = [network_words(run), f"on {data_words(run.data)}", plan_words(plan.name)]
    words.append(f"{depth} {'block' if depth == 1 else 'blocks'}")
    if run.spec.target:
        words.append(f"predicts {run.spec.target}")
    if plan.prune_to is not None:
        words.append(f"pruned to {plan.prune_to} filters")
    if plan.finetune.epochs:
        words.append(f"then fine-tuned for {counted(plan.finetune.epochs, 'epoch')}")
    return ", ".join(words)


def samples_of(*runs: ReportedRun) -> str:
    """What the samples are: `images`, or `rows` of a table."""
    kinds = {"images" if run.spec.has_images else "rows" for run in runs}
    return next(iter(kinds)) if len(kinds) == 1 else "samples"


def beginning_of_stages(*runs: ReportedRun) -> str:
    """A sentence on how stages begin; empty where no run has several."""
    several = [run for run in runs if len(run.results["stages"]) > 1]
    fresh = [run for run in several if run.config.plan.head is HeadStart.fresh]
    if not several:
        return ""
    return "Each stage begins anew with a fresh head. " if len(fresh) == len(several) else "Each stage begins anew. "


def weak_depths(run: ReportedRun) -> list[str]:
    """Sentences on depths whose decoder lost what an earlier one kept, or whose head knows no more than chance."""
    found, unknowing, best = [], [], float("inf")
    classes = len(run.spec.classes)
    for row in run.rows:
        error = row.get("reconstruction", {}).get("test", {}).get("loss")
        if error is not None:
            if error > COLLAPSED * best:
                found.append(
                    f"Depth {row['block']} collapsed: its error is {error / best:.1f} times the best before it."
                )
            best = min(best, error)
        top1 = row.get("test", {}).get("top1")
        if top1 is not None and classes > 1 and top1 <= 100 / classes:
            unknowing.append(str(row["block"]))
    if unknowing:
        who = f"Depth {unknowing[0]} predicts" if len(unknowing) == 1 else f"Depths {listed(unknowing)} predict"
        found.append(f"{who} no better than chance (1 in {classes}).")
    return found


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def counted(number: int, thing: str) -> str:
    """`1 epoch`, `3 epochs`."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def magnitude(value: float | None) -> str:
    """`842`, `10.1 k`, `2.34 M`: three digits and a unit that fits; `–` for None."""
    if value is None:
        return shown(None)
    size, unit = next(((size, unit) for size, unit in PREFIXES if abs(value) >= 0.9995 * size), (1.0, ""))
    return f"{value / size:.3g} {unit}".rstrip()


def shown(value: Any) -> str:
    """A value for reading: `–` for None, four significant digits for small fractions, commas in large numbers, and `~`
    for the home folder.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace(f"{Path.home()}/", "~/")  # a report is passed on


def duration(seconds: float) -> str:
    """`0.03 s`, `3.2 s`, or `0:04:10` of more than a minute."""
    if seconds < 0.1:
        return f"{seconds:.1g} s"
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
