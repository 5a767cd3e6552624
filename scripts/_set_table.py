"""The tables of `reproduce.py`: a row's figures over its seeds, and all rows of a set as Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from _row import Row

from layerwise.core.spread import spread, with_spread
from layerwise.reporting.html.paper_figures import paper_figure

SMALLER = {
    "quarter": "The networks are a quarter as wide as the paper's; data and schedules are the paper's.",
    "small": "Networks, schedules and partly the data are smaller than the paper's, as the commands show.",
    "tiny": "These runs only check that everything works.",
}
"""Note above the table, by scale."""


def describe(row: Row, command: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row: the paper's figures, ours over the finished seeds, PFLOP, hardware, and the command.

    Args:
        command: the arguments of train.py, but for the seed.
        runs: results.json of each finished seed, with its `probes`.
    """
    figure = paper_figure(row.experiment)
    entry: dict[str, Any] = {
        "experiment": row.name,
        "command": shlex.join(["layerwise", "train", *command]),
        "paper": {"top1": row.published or figure.top1, "ensemble_top1": figure.ensemble_top1},
        "status": "completed" if runs else "not run",
        "seeds": [run["seed"] for run in runs],
    }
    if not runs:
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
    entry["precision"] = sorted({run["precision"] for run in runs})
    entry["git_commit"] = sorted({str(run["git_commit"]) for run in runs})
    if any(run["probes"] for run in runs):
        entry["probes"] = [run["probes"] for run in runs]
    return entry


LISTS = ("blocks", "training", "ensembles", "probes")
"""Parts of an entry that have one item for each seed."""


def with_stored(entry: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with those seeds of an earlier table whose run folders are not here.

    All else (memory, hardware, operations) is that of the runs that are here, if there are any.

    Args:
        stored: the entry of the row in that table; one of another command is ignored.
    """
    earlier = stored.get("command") == entry["command"] and "ours" in stored
    if not earlier or set(stored["seeds"]) <= set(entry["seeds"]):
        return entry
    if not entry["seeds"]:
        return dict(stored)
    both = (stored, entry)  # of a seed in both, the run that is here counts
    seeds = sorted({*stored["seeds"], *entry["seeds"]})

    def joined(values: Callable[[Mapping[str, Any]], Sequence[Any]]) -> list[Any]:
        found = {seed: value for one in both for seed, value in zip(one["seeds"], values(one), strict=True)}
        return [found[seed] for seed in seeds]

    names = ("precision", "git_commit")  # earlier versions did not write the first
    return {
        **{name: value for name, value in entry.items() if name not in LISTS},
        "seeds": seeds,
        **{name: joined(itemgetter(name)) for name in LISTS if all(name in one for one in both)},
        "ours": {name: spread(joined(lambda one, name=name: one["ours"][name]["values"])) for name in entry["ours"]},
        "seconds": spread(joined(lambda one: one["seconds"]["values"])),
        **{name: sorted({word for one in both for word in one.get(name, ["not recorded"])}) for name in names},
    }


def seconds_of(run: Mapping[str, Any]) -> float:
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
        pflop = f"{row['pflop']['total_train']:.3g}" if "pflop" in row else ""
        cells = [row["experiment"], paper, shown, len(row["seeds"]), f"{row['parameters']:,}", pflop]
        cells += [f"{row['memory_mb']:,.0f} MiB" if "memory_mb" in row else ""]
        cells += [f"{row['seconds']['mean'] / 60:.1f} min", machine(row), f"`{row['command']}`"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines + probe_lines(document["rows"])) + "\n"


def machine(row: Mapping[str, Any]) -> str:
    """`1 thread, AMD EPYC, AVX2, float32`, of the row's first run; the number formats are those of all its runs."""
    found = row["hardware"]
    threads = f"{found['threads']} thread{'' if found['threads'] == 1 else 's'}"
    processor = filter(None, (found["cpu"], found.get("instructions")))
    return ", ".join((*([found["gpu"]] if "gpu" in found else [threads, *processor]), *row.get("precision", ())))


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
