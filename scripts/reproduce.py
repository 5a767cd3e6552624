"""Runs a set of the paper's experiments and writes our figures beside the paper's.

    python scripts/reproduce.py cifar10                           the paper's schedules; needs a GPU
    python scripts/reproduce.py cifar10 --scale quarter           the paper's schedules at a quarter of its widths
    python scripts/reproduce.py cifar10 --scale small             less than an hour on two cores
    python scripts/reproduce.py cifar10 --seeds 0 1 2 --only paper_cifar10_k3
    python scripts/reproduce.py methods --scale small             every method of docs/methods.md on a small ResNet-32
    python scripts/reproduce.py imagenet dataset.root=/data       overrides stand before --seeds and --only
    python scripts/reproduce.py probes --scale tiny               seconds: checks that everything runs

Each row is a run of train.py in its own process. The same command continues what was stopped and repeats no finished
run. The results are in results/<set>.json and .md, or results/<set>_<scale>.json and .md for a smaller scale; further
overrides are part of the name. Both files are rewritten after each run, and a row that has not run says so.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _paper_sets import PROBE_SCALES, SCALES, SET_SCALES, SETS
from _row import Row

from layerwise.commands.own_process import run_process
from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.files import write_atomically
from layerwise.core.spread import spread, with_spread
from layerwise.reporting.html.paper_figures import paper_figure

ROOT = Path(__file__).resolve().parents[1]

WHERE_ONLY = ("dataset.root", "dataset.workers", "device", "cache", "progress")
"""Keys that decide where or how a run computes, but not its result."""

SMALLER = {
    "quarter": "The networks are a quarter as wide as the paper's; data and schedules are the paper's.",
    "small": "Networks, schedules and partly the data are smaller than the paper's, as the commands show.",
    "tiny": "These runs only check that everything works.",
}
"""Note above the table, by scale."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="run these rows only; the table keeps the rest")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/reproduce"), help="folder of the run folders")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("overrides", nargs="*", help="overrides of every run, such as dataset.root=FOLDER")
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
        set: key into `SETS`.
        scale: key into `SCALES`.
        seeds: each row is run once with each.
        output_dir: run folders are in <output_dir>/<label>.
    """

    set: str
    scale: str
    seeds: list[int]
    output_dir: Path
    overrides: tuple[str, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """The overrides that change results."""
        return tuple(word for word in self.overrides if word.split("=")[0] not in WHERE_ONLY)

    @property
    def label(self) -> str:
        """Set, scale unless full, and overrides that change results: `cifar10_small`."""
        return "_".join((self.set, *([] if self.scale == "full" else [self.scale]), *map(_slug, self.changes)))

    def folder(self, row: Row, seed: int) -> Path:
        """The run folder of a row and seed."""
        return self.output_dir / self.label / f"{_slug(row.name)}-seed{seed}"

    def command(self, row: Row) -> list[str]:
        """The arguments of train.py that decide a row's results, but for the seed."""
        scaled = (*SCALES[self.scale].get(row.family, ()), *SET_SCALES.get((self.set, self.scale), ()))
        return [f"experiment={row.experiment}", *row.variant, *scaled, *self.changes]

    def run(self, row: Row, seed: int) -> str | None:
        """Trains one row with one seed. Returns None, or why it failed."""
        folder = self.folder(row, seed)
        words = [*self.command(row), f"seed={seed}", f"name={folder.name}", f"output_dir={folder.parent}"]
        words += [word for word in self.overrides if word not in self.changes]
        if row.reuses is not None:
            base = self.folder(next(other for other in SETS[self.set] if other.name == row.reuses), seed)
            words += [f"plan.reuse={base}"] if (base / "config.yaml").exists() else []
        error = run_process([str(ROOT / "train.py"), *words], shown=["layerwise", "train", *words])
        if error is None and row.probed:
            probe = ["probe", str(folder), f"--seed={seed}", *PROBE_SCALES[self.scale]]
            error = run_process(["-m", "layerwise", *probe], shown=["layerwise", *probe])
        return error

    def results(self, row: Row) -> list[dict[str, Any]]:
        """results.json of each finished seed of a row, with its `probes`."""
        found = []
        for seed in self.seeds:
            path = self.folder(row, seed) / "results.json"
            results = json.loads(path.read_text()) if path.exists() else {}
            if results.get("status") == "completed":
                found.append(results | {"probes": _probes(path.parent)})
        return found


def _slug(words: str) -> str:
    """Words as part of a file's name."""
    return words.replace(" ", "-").replace("=", "").replace(".", "_").replace("/", "_").replace(",", "")


def _probes(folder: Path) -> Any:
    path = folder / "probes.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_tables(target: Path, campaign: Campaign, errors: dict[str, str]) -> None:
    """Writes the JSON file and the Markdown table of everything finished so far."""
    rows = [describe(row, campaign, errors.get(row.name)) for row in SETS[campaign.set]]
    document = {"set": campaign.set, "scale": campaign.scale, "rows": rows}
    write_atomically(target, json.dumps(document, indent=1) + "\n", kept="The runs are intact.")
    write_atomically(target.with_suffix(".md"), markdown(document), kept="The runs are intact.")


def describe(row: Row, campaign: Campaign, error: str | None) -> dict[str, Any]:
    """One row: the paper's figures, ours over the finished seeds, PFLOP, hardware, and the command."""
    figure, runs = paper_figure(row.experiment), campaign.results(row)
    entry: dict[str, Any] = {
        "experiment": row.name,
        "command": shlex.join(["layerwise", "train", *campaign.command(row)]),
        "paper": {"top1": row.published or figure.top1, "ensemble_top1": figure.ensemble_top1},
        "status": error or ("not run" if not runs else "completed"),
        "seeds": [run["seed"] for run in runs],
    }
    if not runs or error:  # the folder may hold results of another configuration
        return entry
    measure = entry["scored"] = "validation" if row.held_out else "test"
    entry["blocks"] = [[block[measure]["top1"] for block in run["blocks"]] for run in runs]
    last = [
        depths[-1] if row.held_out else run["final"]["test_top1"]
        for run, depths in zip(runs, entry["blocks"], strict=True)
    ]
    entry["ours"] = {"top1": spread(last)}
    entry["training"] = [[block["train"]["top1"] for block in run["blocks"]] for run in runs]
    if any(len(run["blocks"]) > 1 for run in runs) and not row.held_out:
        entry["ours"]["ensemble_top1"] = spread([run["final"]["ensemble_top1"] for run in runs])
        entry["ensembles"] = [[block["ensemble"]["top1"] for block in run["blocks"]] for run in runs]
    entry["parameters"] = runs[0]["final"]["parameters"]
    if "pflop" in runs[0]:  # runs of earlier versions do not count operations
        entry["pflop"] = runs[0]["pflop"]
    if all("memory_mb" in block for block in runs[0]["blocks"]):
        entry["memory_mb"] = max(sum(block["memory_mb"].values()) for block in runs[0]["blocks"])
    entry["seconds"] = spread([seconds_of(run) for run in runs])
    entry["hardware"] = runs[0]["hardware"]
    entry["git_commit"] = sorted({str(run["git_commit"]) for run in runs})
    if any(run["probes"] for run in runs):
        entry["probes"] = [run["probes"] for run in runs]
    return entry


def seconds_of(run: dict[str, Any]) -> float:
    """Seconds that a network took, with those of stages that were taken over from another run (`plan.reuse`)."""
    reused = [block["seconds"] for block in run["blocks"] if "reused" in block]
    return float(run["seconds"]) + sum(sum(seconds.values()) for seconds in reused)


COLUMNS = (
    *("experiment", "paper", "ours", "seeds", "parameters", "PFLOP", "memory", "time of a run", "hardware", "command"),
)


def markdown(document: dict[str, Any]) -> str:
    """The table of a set."""
    scale = document["scale"]
    lines = [f"# {document['set']}, scale {scale}", ""]
    if scale != "full":
        lines += [f"{SMALLER[scale]} The paper's figures are shown for comparison, not as a target.", ""]
    lines += [
        "Test top-1 in per cent: last head, in brackets the ensemble. PFLOP: 10^15 operations of training. "
        "Memory: that of the largest stage, parameters, activations, cache and data.",
        *(
            ["Rows marked * are scored on held-out training images."]
            if any(row.get("scored") == "validation" for row in document["rows"])
            else []
        ),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in document["rows"]:
        paper = pair(row["paper"]["top1"], row["paper"]["ensemble_top1"])
        if "ours" not in row:
            lines.append(f"| {row['experiment']} | {paper} | {row['status']} | | | | | | | `{row['command']}` |")
            continue
        ours = row["ours"]
        shown = with_spread(ours["top1"])
        if "ensemble_top1" in ours:
            shown += f" ({with_spread(ours['ensemble_top1'])})"
        shown += "*" if row.get("scored") == "validation" else ""
        machine = row["hardware"].get("gpu") or f"{row['hardware']['threads']} threads, {row['hardware']['cpu']}"
        pflop = f"{row['pflop']['total_train']:.3g}" if "pflop" in row else ""
        cells = [row["experiment"], paper, shown, len(row["seeds"]), f"{row['parameters']:,}", pflop]
        cells += [f"{row['memory_mb']:,.0f} MiB" if "memory_mb" in row else ""]
        cells += [f"{row['seconds']['mean'] / 60:.1f} min", machine, f"`{row['command']}`"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines + probe_lines(document["rows"])) + "\n"


def probe_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A table of separability over depth, if any row was probed."""
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
        print("stopped; the same command continues.", file=sys.stderr)
        sys.exit(130)
