"""Runs a named set of the paper's experiments and puts our figures beside its own.

    python scripts/reproduce.py cifar10                           the full schedules; a GPU is wanted
    python scripts/reproduce.py cifar10 --scale quarter           the paper's schedules at a quarter of its widths
    python scripts/reproduce.py cifar10 --scale small             CIFAR-10 on two cores in less than an hour
    python scripts/reproduce.py cifar10 --seeds 0 1 2 --only paper_cifar10_k3
    python scripts/reproduce.py imagenet dataset.root=/data       overrides stand before --seeds and --only
    python scripts/reproduce.py probes --scale tiny               seconds: does it all run?

Each row is a run of train.py in a process of its own, so what was stopped goes on when the command is
given again, and finished runs are not repeated. Results go to results/<set>.json and .md, rewritten
after each run: with `--scale small` to results/<set>_small.json, and with further overrides to a name
of their own. A row that was not run says so.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _runs import ROOT, call_script, spread, with_spread

from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.files import write_atomically
from layerwise.reporting.html.paper_figures import paper_figure


@dataclass(frozen=True)
class Row:
    """One line of a table: an experiment file, perhaps with overrides.

    Attributes:
        experiment: file of conf/experiment.
        family: which overrides a smaller scale takes.
        variant: overrides of this row at every scale.
        reuses: row of the same set whose finished stages this one takes over.
        probed: train the separability probes on the finished run.
    """

    experiment: str
    family: str = "simcnn"
    variant: tuple[str, ...] = ()
    reuses: str | None = None
    probed: bool = False

    @property
    def name(self) -> str:
        """The experiment and what is overridden: `paper_separability_k1 model.width=64`."""
        return " ".join((self.experiment, *self.variant))


SETS: dict[str, tuple[Row, ...]] = {
    "cifar10": (
        Row("paper_cifar10_k1", "simcnn_k1"),
        Row("paper_cifar10_k2"),
        Row("paper_cifar10_k3"),
        Row("baseline_cifar10_joint"),
        Row("simultaneous_cifar10"),
        Row("simultaneous_cifar10_mlp_sr", "light_heads"),
        Row("simultaneous_cifar10_predsim", "light_heads"),
        Row("baseline_cifar10_alexnet", "vgg_joint"),
        Row("baseline_cifar10_vgg11", "vgg_joint"),
    ),
    "recipes": (Row("fast_cifar10"), Row("best_cifar10")),
    "imagenet": (
        Row("paper_imagenet_k1"),
        Row("paper_imagenet_k2"),
        Row("paper_imagenet_k3"),
        Row("paper_imagenet_k3_head1024", "narrow_head", reuses="paper_imagenet_k3"),
        Row("paper_imagenet_k3_head512", "narrow_head", reuses="paper_imagenet_k3"),
        Row("baseline_imagenet_k3_head512_joint", "narrow_head_joint"),
        Row("paper_imagenet_vgg11", "vgg"),
        Row("baseline_imagenet_vgg11_joint", "vgg_joint"),
        Row("baseline_imagenet_resnet18", "timm_joint"),
    ),
    "imagenette": (
        Row("imagenette_k3"),
        Row("imagenette_k3_joint"),
        Row("imagenette_k3_simultaneous"),
        Row("imagenette_resnet18_layerwise", "timm"),
    ),
    "probes": tuple(
        Row(f"paper_separability_k{k}", "separability", (f"model.width={width}",), probed=True)
        for width in (64, 128, 256)
        for k in (1, 2, 3)
    ),
    "compression": (
        Row("paper_compression", "compression"),
        Row("baseline_compression_joint", "compressed_shape"),
    ),
}

_TINY = ("dataset.limit=400", "dataset.limit_test=200", "batch_size=50", "epochs=1")
_AS_GREEDY = "plan.epochs=null"  # a joint row's own epochs give way to J times the smaller `epochs`
SCALES: dict[str, dict[str, tuple[str, ...]]] = {
    "full": {},
    "quarter": {
        "simcnn": ("model.width=32", "model.head_width=32"),
        "simcnn_k1": ("model.width=64",),
        "light_heads": ("model.width=32",),
        "vgg_joint": ("model.width=16",),
    },
    "small": {
        "simcnn": ("model.width=32", "model.head_width=32", "epochs=3"),
        "simcnn_k1": ("model.width=32", "model.head_width=32", "epochs=3"),
        "light_heads": ("model.width=32", "epochs=3"),
        "vgg": ("model.width=16", "epochs=3"),
        "vgg_joint": ("model.width=16", "epochs=3", _AS_GREEDY),
        "timm": ("epochs=3",),
        "timm_joint": ("epochs=3", _AS_GREEDY),
        "narrow_head": ("model.width=32", "model.head_width=32", "model.final_head_width=64", "epochs=3"),
        "narrow_head_joint": (
            *("model.width=32", "model.head_width=32", "model.final_head_width=64", "epochs=3"),
            _AS_GREEDY,
        ),
        "separability": ("dataset.limit=10000", "model.head_width=32", "epochs=3"),
        "compression": (
            *("model.width=32", "model.head_width=32", "model.final_head_width=16", "epochs=3"),
            *("plan.prune_to=16", "plan.prune_epochs=2"),
        ),
        "compressed_shape": ("model.width=16", "model.head_width=16", "plan.epochs=10"),
    },
    "tiny": {
        "simcnn": (*_TINY, "model.width=4", "model.head_width=4"),
        "simcnn_k1": (*_TINY, "model.width=4", "model.head_width=4"),
        "light_heads": (*_TINY, "model.width=4"),
        "vgg": (*_TINY, "model.width=4"),
        "vgg_joint": (*_TINY, "model.width=4", _AS_GREEDY),
        "timm": _TINY,
        "timm_joint": (*_TINY, _AS_GREEDY),
        "narrow_head": (*_TINY, "model.width=4", "model.head_width=4", "model.final_head_width=4"),
        "narrow_head_joint": (*_TINY, "model.width=4", "model.head_width=4", "model.final_head_width=4", _AS_GREEDY),
        "separability": (*_TINY, "model.head_width=4"),
        "compression": (
            *(*_TINY, "model.width=8", "model.head_width=8", "model.final_head_width=4"),
            *("plan.prune_to=4", "plan.prune_epochs=1"),
        ),
        "compressed_shape": (*_TINY, "model.width=4", "model.head_width=4", "plan.epochs=2"),
    },
}
"""Overrides that make a set affordable, by family of network. The full scale has none."""

SET_SCALES: dict[tuple[str, str], tuple[str, ...]] = {
    ("imagenette", "small"): ("dataset.size=64", "batch_size=64"),
    ("imagenette", "tiny"): ("dataset.size=64",),
    ("imagenet", "small"): ("dataset.size=64", "dataset.limit=100000", "dataset.limit_test=5000"),
    ("imagenet", "tiny"): ("dataset.size=64",),
}
"""Further overrides of a whole set at a scale."""

WHERE_ONLY = ("dataset.root", "dataset.workers", "device", "cache", "progress")
"""Overrides that say where or how a run computes, and not what."""

PROBE_SCALES: dict[str, tuple[str, ...]] = {
    "full": (),
    "quarter": (),
    "small": ("epochs=2", "width=32", "limit=10000"),
    "tiny": ("epochs=1", "width=4", "limit=200"),
}
"""Options of scripts/probe.py by scale."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--only", nargs="+", metavar="EXPERIMENT", help="rows to run; the others say if they ran before"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/reproduce"), help="where the run folders go")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the tables go")
    parser.add_argument("overrides", nargs="*", help="further overrides for every run, such as dataset.root=FOLDER")
    options = parser.parse_intermixed_args()
    rows = SETS[options.set]
    for name in options.only or ():
        if not any(name in (row.name, row.experiment) for row in rows):
            known = {row.experiment for row in rows}
            print(f"error: --only {name}: no such row.{suggest(name, known)}", file=sys.stderr)
            return 2
    campaign = Campaign(options.set, options.scale, options.seeds, options.output_dir, tuple(options.overrides))
    target = options.results / f"{campaign.label}.json"
    chosen = [row for row in rows if not options.only or {row.name, row.experiment} & set(options.only)]
    errors: dict[str, str] = {}
    try:
        write_tables(target, campaign, errors)
        for row in chosen:
            for seed in options.seeds:
                if error := campaign.run(row, seed):
                    errors[row.name] = error
                    print(f"{row.name}: {error}", file=sys.stderr)
                write_tables(target, campaign, errors)
    except LayerwiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(target.with_suffix(".md").read_text())
    return 2 if errors else 0


@dataclass(frozen=True)
class Campaign:
    """All runs of a set at a scale.

    Attributes:
        set: of `SETS`.
        scale: of `SCALES`.
        seeds: one run of each row for each.
        output_dir: run folders lie in <output_dir>/<label>.
        overrides: of every run.
    """

    set: str
    scale: str
    seeds: list[int]
    output_dir: Path
    overrides: tuple[str, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """The overrides that change what is computed, and not only where."""
        return tuple(word for word in self.overrides if word.split("=")[0] not in WHERE_ONLY)

    @property
    def label(self) -> str:
        """The set, with the scale and further overrides unless they are the standard: `cifar10_small`."""
        return "_".join((self.set, *([] if self.scale == "full" else [self.scale]), *map(_slug, self.changes)))

    def folder(self, row: Row, seed: int) -> Path:
        """The run folder of a row and seed."""
        return self.output_dir / self.label / f"{_slug(row.name)}-seed{seed}"

    def command(self, row: Row) -> list[str]:
        """Words of the command that makes a row, without what only says where it goes."""
        scaled = (*SCALES[self.scale].get(row.family, ()), *SET_SCALES.get((self.set, self.scale), ()))
        return [f"experiment={row.experiment}", *row.variant, *scaled, *self.changes]

    def run(self, row: Row, seed: int) -> str | None:
        """Trains one row with one seed; None, or why it failed."""
        folder = self.folder(row, seed)
        words = [*self.command(row), f"seed={seed}", f"name={folder.name}", f"output_dir={folder.parent}"]
        words += [word for word in self.overrides if word not in self.changes]
        if row.reuses is not None:
            base = self.folder(next(other for other in SETS[self.set] if other.name == row.reuses), seed)
            words += [f"plan.reuse={base}"] if (base / "config.yaml").exists() else []
        error = call_script(ROOT / "train.py", words)
        if error is None and row.probed:
            error = call_script(
                ROOT / "scripts" / "probe.py", [f"run={folder}", f"seed={seed}", *PROBE_SCALES[self.scale]]
            )
        return error

    def results(self, row: Row) -> list[dict[str, Any]]:
        """results.json of the finished seeds of a row."""
        found = []
        for seed in self.seeds:
            path = self.folder(row, seed) / "results.json"
            results = json.loads(path.read_text()) if path.exists() else {}
            if results.get("status") == "completed":
                found.append(results | {"probes": _probes(path.parent)})
        return found


def _slug(words: str) -> str:
    """Words as part of a file's name."""
    return words.replace(" ", "-").replace("=", "").replace(".", "_").replace("/", "_")


def _probes(folder: Path) -> Any:
    path = folder / "probes.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_tables(target: Path, campaign: Campaign, errors: dict[str, str]) -> None:
    """Writes the JSON and the Markdown table of what there is now."""
    rows = [describe(row, campaign, errors.get(row.name)) for row in SETS[campaign.set]]
    document = {"set": campaign.set, "scale": campaign.scale, "rows": rows}
    write_atomically(target, json.dumps(document, indent=1) + "\n", kept="The runs are intact.")
    write_atomically(target.with_suffix(".md"), markdown(document), kept="The runs are intact.")


def describe(row: Row, campaign: Campaign, error: str | None) -> dict[str, Any]:
    """One row: the paper's figures, ours over the finished seeds, hardware, and the command."""
    figure, runs = paper_figure(row.experiment), campaign.results(row)
    entry: dict[str, Any] = {
        "experiment": row.name,
        "command": shlex.join(["python", "train.py", *campaign.command(row)]),
        "paper": {"top1": figure.top1, "ensemble_top1": figure.ensemble_top1},
        "status": error or ("not run" if not runs else "completed"),
        "seeds": [run["seed"] for run in runs],
    }
    if not runs or error:  # what an earlier command left there may be another configuration's
        return entry
    several = any(len(run["blocks"]) > 1 for run in runs)
    entry["ours"] = {"top1": spread([run["final"]["test_top1"] for run in runs])}
    if several:
        entry["ours"]["ensemble_top1"] = spread([run["final"]["ensemble_top1"] for run in runs])
    entry["blocks"] = [[block["test"]["top1"] for block in run["blocks"]] for run in runs]
    entry["parameters"] = runs[0]["final"]["parameters"]
    entry["seconds"] = spread([run["seconds"] for run in runs])
    entry["hardware"] = runs[0]["hardware"]
    entry["git_commit"] = sorted({str(run["git_commit"]) for run in runs})
    if any(run["probes"] for run in runs):
        entry["probes"] = [run["probes"] for run in runs]
    return entry


def markdown(document: dict[str, Any]) -> str:
    """The table of a set."""
    scale = document["scale"]
    lines = [f"# {document['set']}, scale {scale}", ""]
    if scale != "full":
        lines += [
            "Networks, data and schedules are smaller than the paper's (see the commands), so its figures are not "
            "what these runs aim at; they stand here for comparison.",
            "",
        ]
    lines += ["Test top-1 in per cent, last head (ensemble).", ""]
    lines += [
        "| experiment | paper | ours | seeds | parameters | time of a run | hardware | command |",
        "|" + "---|" * 8,
    ]
    for row in document["rows"]:
        paper = pair(row["paper"]["top1"], row["paper"]["ensemble_top1"])
        if "ours" not in row:
            lines.append(f"| {row['experiment']} | {paper} | {row['status']} | | | | | `{row['command']}` |")
            continue
        ours = row["ours"]
        shown = with_spread(ours["top1"])
        if "ensemble_top1" in ours:
            shown += f" ({with_spread(ours['ensemble_top1'])})"
        machine = row["hardware"].get("gpu") or f"{row['hardware']['threads']} threads, {row['hardware']['cpu']}"
        cells = [row["experiment"], paper, shown, len(row["seeds"]), f"{row['parameters']:,}"]
        cells += [f"{row['seconds']['mean'] / 60:.1f} min", machine, f"`{row['command']}`"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines + probe_lines(document["rows"])) + "\n"


def probe_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Separability over depth, for rows that were probed."""
    lines: list[str] = []
    for row in rows:
        for seed, probes in zip(row.get("seeds", []), row.get("probes", []), strict=False):
            if not lines:
                lines += ["", "Separability: test top-1 of each probe at depths 1 … J.", ""]
                lines += ["| experiment | seed | linear | CNN-1 | CNN-2 |", "|---|---|---|---|---|"]
            cells = [
                " ".join(f"{depth[kind]:.1f}" for depth in probes["depths"]) for kind in ("linear", "cnn1", "cnn2")
            ]
            lines.append("| " + " | ".join([row["experiment"], str(seed), *cells]) + " |")
    return lines


def pair(top1: float | None, ensemble: float | None) -> str:
    """`91.7 (92.8)`, `89.0`, or a dash."""
    if top1 is None:
        return "–"
    return f"{top1}" if ensemble is None else f"{top1} ({ensemble})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; the same command goes on.", file=sys.stderr)
        sys.exit(130)
