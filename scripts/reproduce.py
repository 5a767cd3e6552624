"""Runs a set of the paper's experiments and writes our figures beside the paper's.

    python scripts/reproduce.py cifar10                           the paper's schedules; needs a GPU
    python scripts/reproduce.py cifar10 --scale quarter           the paper's schedules at a quarter of its widths
    python scripts/reproduce.py cifar10 --scale small             less than an hour on two cores
    python scripts/reproduce.py cifar10 --seeds 0 1 2 --only paper_cifar10_k3
    python scripts/reproduce.py methods --scale small             every method of docs/methods.md on a small ResNet-32
    python scripts/reproduce.py imagenet dataset.root=/data       with overrides for all rows
    python scripts/reproduce.py probes --scale tiny               seconds: checks that everything runs

Each row is a run of train.py in its own process. The same command continues what was stopped and repeats no finished
run. The results are in results/<set>.json and .md, or results/<set>_<scale>.json and .md for a smaller scale; further
overrides are part of the name. Both files are rewritten after each run, and a row that has not run says so. They keep
the seeds of the same command whose run folders are not here, such as those of another machine.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _paper_sets import PROBE_SCALES, SCALES, SET_SCALES, SETS
from _row import Row
from _set_table import describe, markdown, with_stored

from layerwise.commands.own_process import run_process
from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]

OVERRIDE = re.compile(r"[+~]*[\w./@]+=")

WHERE_ONLY = ("dataset.root", "dataset.workers", "device", "cache", "progress")
"""Keys that decide where or how a run computes, but not its result."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="run these rows only; the table keeps the rest")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/reproduce"), help="folder of the run folders")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("overrides", nargs="*", help="overrides of every run, such as dataset.root=FOLDER")
    words = sys.argv[1:]
    overrides = [word for word in words if OVERRIDE.match(word)]  # --seeds would take those behind it for seeds
    options = parser.parse_intermixed_args([word for word in words if word not in overrides])
    rows = SETS[options.set]
    for name in options.only or ():
        if not any(name in (row.name, row.experiment) for row in rows):
            known = {row.experiment for row in rows}
            print(f"error: --only {name}: no such row.{suggest(name, known)}", file=sys.stderr)
            return 2
    campaign = Campaign(options.set, options.scale, options.seeds, options.output_dir, (*overrides, *options.overrides))
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
    """Writes the JSON file and the Markdown table of everything finished so far, here and in the earlier table."""
    earlier = json.loads(target.read_text())["rows"] if target.exists() else []
    stored = {row["experiment"]: row for row in earlier}
    rows = []
    for row in SETS[campaign.set]:
        error = errors.get(row.name)  # then the folder may hold results of another configuration
        entry = describe(row, campaign.command(row), [] if error else campaign.results(row))
        entry = with_stored(entry, stored.get(row.name, {}))
        rows.append(entry | {"status": error} if error else entry)
    document = {"set": campaign.set, "scale": campaign.scale, "rows": rows}
    write_atomically(target, json.dumps(document, indent=1) + "\n", kept="The runs are intact.")
    write_atomically(target.with_suffix(".md"), markdown(document), kept="The runs are intact.")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; the same command continues.", file=sys.stderr)
        sys.exit(130)
