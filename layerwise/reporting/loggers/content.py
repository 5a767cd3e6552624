"""What W&B and TensorBoard both show of a run, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HELD_OUT = ("validation", "test", "ensemble", "reconstruction")
"""What only the end of a stage says of quality."""

MEASURES = ("train", *HELD_OUT)
"""What the results say of quality."""


QUALITIES = ("loss", "top1", "r2", "mae")
"""What an epoch's line says of the training samples."""


def place_of(line: Mapping[str, Any]) -> str:
    """`block_2`, or `blocks_1-3` of blocks that one head trains, as end to end."""
    first, last = line.get("trained", (line["block"], line["block"]))
    return f"block_{line['block']}" if first >= last or "heads" in line else f"blocks_{first}-{last}"


def scalars_by_place(line: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By place, what an epoch says of it: `train/loss`, `train/top1`, and of the last head's held-out samples.

    The error of a decoder is `reconstruction/train/loss`: it has another unit.
    """
    kind = "reconstruction/train" if line.get("target") == "inputs" else "train"
    found = {}
    for head in line.get("heads", [line]):
        place = place_of(line) if head["block"] == line["block"] else f"block_{head['block']}"
        found[place] = {f"{kind}/{name}": head[name] for name in QUALITIES if head.get(name) is not None}
    found[place_of(line)] |= scores(line, ("validation", "test"))
    return found


def speed(line: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch says of its course, with the norms of gradients where they were measured."""
    return {
        "lr": line["lr"],
        "speed/epoch_seconds": line["seconds"],
        "speed/images_per_second": line["images_per_second"],
        **{f"gradient/{name}": norm for name, norm in line.get("gradients", {}).items()},
    }


def scores(row: Mapping[str, Any], measures: Sequence[str] = MEASURES) -> dict[str, float]:
    """`test/top1` and the like of a row of the results."""
    return {
        name: value
        for measure in measures
        if measure in row
        for name, value in leaves(row[measure], f"{measure}/")
        if value is not None
    }


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that runs are compared by."""
    final = {name: value for name, value in (results["final"] or {}).items() if name != "block"}
    depth = {"depth": results["final"]["block"]} if results["final"] else {}
    classes = results.get("classification") or {}
    auc = {"macro_auc": classes["macro_auc"]} if classes.get("macro_auc") is not None else {}
    search = {f"search/{name}": results["search"][name] for name in ("block", "seconds")} if "search" in results else {}
    return {**final, **depth, **auc, **search, "seconds": results["seconds"], "status": results["status"]}


def new_scores(entry: Mapping[str, Any], lines: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """What the end of a stage says of held-out samples and its last epoch has not said (`evaluation.every`).

    Args:
        entry: of `stages` in results.json.
        lines: the last line of each stage in metrics.jsonl.
    """
    said = scores(lines.get(entry["stage"], {}), HELD_OUT)  # another epoch's with checkpoint.keep=best
    found = scores(entry, HELD_OUT).items()
    return {name: at for name, at in found if said.get(name) != at and not name.startswith("reconstruction/train/")}


def block_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """A row per depth, with all that is measured of it; None where another depth has more.

    Returns:
        the columns, and the rows.
    """
    shown = (*MEASURES, "parameters", "seconds")
    flat = [
        {"block": row["block"]}
        | dict(leaves({name: row[name] for name in shown if name in row}))
        | dict(leaves({name: row[name] for name in ("images_per_second", "memory_mb") if name in row}))
        for row in results["blocks"]
    ]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    return columns, [[row.get(name) for name in columns] for row in flat]


def leaves(tree: Mapping[str, Any], within: str = "") -> Iterable[tuple[str, Any]]:
    """`("test/top1", 90.0)` for `{"test": {"top1": 90.0}}`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{within}{name}/")
        else:
            yield within + name, value
