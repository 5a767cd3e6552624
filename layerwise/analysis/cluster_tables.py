"""The tables of scripts/plan_cluster.py."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from layerwise.features.cache_plan import in_words
from layerwise.features.choices import FeatureDtype
from layerwise.reporting.tables import show

Record = dict[str, Any]

MISSING = {
    "images_per_second": "--images-per-second is not given: no times, and not where a cache pays. It is to be measured "
    "(--help says how).",
    "network_bytes_per_second": "--network-gbits is not given: communication takes no time.",
    "disk_bytes_per_second": "--disk-gb-per-second is not given: reading a cache takes no time.",
    "memory_bytes": "--memory-gb is not given: any cache fits.",
}
"""What is said of an option that would have told more."""

PARTS = {"network": "network", "recompute": "recomputing", "advance": "filling caches", "wait": "waiting for reads"}
"""What the parts of a stage's time are called."""


def print_record(record: Record) -> None:
    """Everything that is known, as tables and remarks on stdout."""
    print(f"{record['model']} on {record['dataset']}: {' '.join(record['arguments'])}")
    print(
        f"{record['samples']:,} training samples, {record['held_out']:,} others, batch {record['batch_size']}", end=""
    )
    print(f" shared by {record['given']['gpus_per_node']} GPUs a node, {record['precision']}")
    show(work_table(record))
    if record["times"]:
        show(time_table(record, "recomputing", None))
    if record["caches"]:
        for views in record["views"]:
            if record["times"]:
                show(time_table(record, "caching", views))
        for views in record["views"]:
            show(cache_table(record, views))
        show(peak_table(record))
    if record["times"] and record["caches"]:
        for views in record["views"]:
            show(pays_table(record, views))
    show(traffic_table(record))
    if record["boundaries"]:
        show(boundary_table(record))
    for remark in remarks(record):
        print(f"- {remark}")


def work_table(record: Record) -> Table:
    """A row per stage: what it computes for an image."""
    table = columns(
        "an image's work, and the speed of one GPU",
        *("stage", "epochs", "forward + backward GMAC", "frozen blocks GMAC", "trained parameters", "images/s"),
    )
    for row in record["stages"]:
        rate = row["images_per_second"]
        macs = f"{row['train_macs'] / 1e9:,.3f}", f"{row['prefix_macs'] / 1e9:,.3f}"
        parameters = f"{row['gradient_bytes'] // 4:,}"
        table.add_row(row["stage"], str(row["epochs"]), *macs, parameters, "–" if rate is None else f"{rate:,.0f}")
    table.caption = rate_origin(record)
    return table


def rate_origin(record: Record) -> str | None:
    """Which of the speeds were given."""
    given = record["given"]["images_per_second"]
    if given is None:
        return None
    if len(given) == len(record["stages"]) > 1:
        return "images/s: given for each stage; frozen blocks from the multiply-accumulates/s of their stage"
    return "images/s: given for the first stage; all else derived from it by multiply-accumulates"


def time_table(record: Record, which: str, views: int | None) -> Table:
    """A row per stage, a column per number of nodes, and below them the whole run.

    Args:
        which: "recomputing" or "caching".
        views: of the cache; None where there is none.
    """
    chosen = [time for time in record["times"] if time["views"] == (views or record["views"][0])]
    what = "frozen blocks recomputed (cache=none)" if views is None else f"a cache of {views} view(s)"
    table = columns(f"time with {what}", "stage", *(in_nodes(time) for time in chosen))
    for i, stage in enumerate(record["stages"]):
        table.add_row(stage["stage"], *(in_time(time["stages"][i][which]) for time in chosen))
    table.add_section()
    table.add_row("all", *(in_time(time[which]) for time in chosen))
    parts = ("network", "recompute") if views is None else ("network", "advance", "wait")
    for part in parts:
        spent = (sum(row[part] for row in time["stages"]) for time in chosen)
        table.add_row(f"of which {PARTS[part]}", *map(in_time, spent))
    table.add_row("speed-up", *(f"{chosen[0][which] / time[which]:.2f}" for time in chosen))
    return table


def cache_table(record: Record, views: int) -> Table:
    """A row per depth, a column per format: what a rank of the smallest cluster holds."""
    chosen = [cache for cache in record["caches"] if cache["views"] == views and cache["nodes"] == record["nodes"][0]]
    title = f"cache of x_j per rank: {views} view(s), {in_nodes(chosen[0])}"
    table = columns(title, "j", *(cache["dtype"] for cache in chosen))
    for depth in chosen[0]["bytes"]:
        table.add_row(str(depth), *(in_words(cache["bytes"][depth]) for cache in chosen))
    table.caption = f"{chosen[0]['ranks']} ranks; N ranks hold 1/N each"
    return table


def peak_table(record: Record) -> Table:
    """A row per number of nodes, a column per format and number of views: the most that a rank holds at once."""
    kinds = [(views, dtype.value) for views in record["views"] for dtype in FeatureDtype]
    table = columns(
        "most that a rank holds at once (x_j while x_j+1 is written)",
        "nodes",
        "ranks",
        *(f"V={views}\n{dtype}" for views, dtype in kinds),
    )
    for nodes in record["nodes"]:
        here = {(cache["views"], cache["dtype"]): cache for cache in record["caches"] if cache["nodes"] == nodes}
        cells = [in_words(here[kind]["peak_bytes"]) + (" !" if here[kind]["fits"] is False else "") for kind in kinds]
        table.add_row(str(nodes), str(here[kinds[0]]["ranks"]), *cells)
    if (memory := record["given"]["memory_bytes"]) is not None:
        table.caption = f"! more than --memory-gb, {in_words(int(memory))} per rank"
    return table


def pays_table(record: Record, views: int) -> Table:
    """A row per stage behind frozen blocks: reading and filling a cache against recomputing."""
    time = next(time for time in record["times"] if time["views"] == views)
    table = columns(
        f"does a cache of {views} view(s) in {record['cache_dtype']} pay? ({in_nodes(time)})",
        *("stage", "read needed a node", "recompute", "fill", "wait for reads", "pays", "run, if cached from here on"),
    )
    for row in time["stages"]:
        if "pays" in row:
            spent = (in_time(row[name]) for name in ("recompute", "advance", "wait"))
            rate, run = f"{in_words(int(row['read_bytes_per_second']))}/s", in_time(row["caching_from_here"])
            table.add_row(row["stage"], rate, *spent, "yes" if row["pays"] else "no", run)
    best = f"from {time['pays_from']} on is best" if time["pays_from"] else "none is best"
    table.caption = f"{best}; without a cache the run takes {in_time(time['recomputing'])}"
    return table


def traffic_table(record: Record) -> Table:
    """A row per stage, a column per number of nodes: bytes that a rank sends in a step."""
    chosen = record["traffic"]
    title = "data parallel: MB sent per step and rank, gradients + synchronised batch norms"
    table = columns(title, "stage", *(in_nodes(traffic) for traffic in chosen))
    for i, stage in enumerate(record["stages"]):
        table.add_row(stage["stage"], *(traffic_cell(traffic["stages"][i]) for traffic in chosen))
    timed = any(row["seconds"] for row in chosen[-1]["stages"])
    table.caption = "time and its share of a step" if timed else None
    return table


def traffic_cell(row: Record) -> str:
    sent = f"{row['gradient_bytes'] / 1e6:.3g} + {row['norm_bytes'] / 1e6:.2g}"
    if row["seconds"] is None:
        return sent
    return f"{sent}\n{in_time(row['seconds'])}" + ("" if row["share"] is None else f", {100 * row['share']:.0f} %")


def boundary_table(record: Record) -> Table:
    """A row per depth: what passes on where blocks train at once on ranks of their own."""
    table = columns(
        f"block-parallel: x_j sent per step of {record['batch_size']} images", "j", "shape", "bytes", "time"
    )
    for row in record["boundaries"]:
        seconds = "–" if row["seconds"] is None else in_time(row["seconds"])
        table.add_row(str(row["depth"]), "×".join(map(str, row["shape"])), in_words(row["bytes"]), seconds)
    table.caption = "detached activations, where x_j and block j+1 are on different nodes"
    return table


def remarks(record: Record) -> list[str]:
    """What was not given, left out or taken for granted."""
    said = [text for name, text in MISSING.items() if record["given"][name] is None]
    said += [f"{entry['nodes']} nodes are left out: {entry['reason']}" for entry in record["left_out"]]
    if not record["caches"]:
        said.append("No stage starts behind frozen blocks: there is nothing to cache.")
    if record["precision_of_this_machine"]:
        said.append(f"precision=auto is {record['precision']} on this machine; say what the GPUs will have.")
    if record["depth_is_chosen"]:
        said.append("plan.patience may end the run earlier; these are the figures of its greatest depth.")
    if record["times"]:
        said.append(
            "Times take a GPU to be as fast with its part of the batch as it was when measured, and count neither "
            "latency nor traffic within a node; no communication hides behind computing."
        )
    return said


def columns(title: str, first: str, *others: str) -> Table:
    """A table of numbers behind one column of names."""
    table = Table(title=title, title_justify="left", min_width=72)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def in_nodes(entry: Record) -> str:
    return f"{entry['nodes']} node{'s' if entry['nodes'] > 1 else ''}"


def in_time(seconds: float) -> str:
    """`3.2 d`, `4.5 h`, `12 min`, `6.1 s`, `250 ms`."""
    for unit, divisor in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= divisor:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms" if seconds else "0"
