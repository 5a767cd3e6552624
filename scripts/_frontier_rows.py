"""The frontier: what a method reaches for a budget of operations, with networks of one family and one recipe.

The family is that of `pooled_cifar10`, all widths times a factor; the recipe is its own. For each method and budget
several widths and numbers of epochs are tried on held-out training images (`frontier_choice`); the best of them is
trained on all training images and scored on the test images (`frontier`), as are a few for which no choice was run.
`gap` trains one network of the family in the three ways with equally many epochs for each block, and block by block
with longer heads.
"""

from __future__ import annotations

from _row import Row

WIDTHS, HEAD_WIDTH = (64, 64, 128, 128, 128, 128), 128
"""Of the blocks and heads of `pooled_cifar10`, which a factor scales."""

METHODS: dict[str, tuple[str, ...]] = {
    "greedy k=3": ("cache=disk",),
    "greedy k=2": ("k=2", "cache=disk"),
    "greedy k=1": ("k=1", "model.batch_norm=true", "cache=disk"),
    "simultaneous": ("plan=simultaneous",),
    "joint": ("plan=joint",),
}
"""Overrides of `pooled_cifar10` by method."""

CANDIDATES: dict[tuple[str, float], tuple[tuple[float, int], ...]] = {
    ("greedy k=3", 0.03): ((0.375, 4), (0.5, 2), (0.75, 1)),
    ("greedy k=2", 0.03): ((0.375, 4), (0.5, 2), (0.75, 1)),
    ("greedy k=1", 0.03): ((0.375, 7), (0.5, 4), (0.75, 2)),
    ("simultaneous", 0.03): ((0.375, 5), (0.5, 3), (0.75, 1)),
    ("joint", 0.03): ((0.375, 9), (0.5, 5), (0.75, 3)),
    ("greedy k=3", 0.1): ((0.5, 8), (0.75, 4), (1, 2)),
    ("greedy k=2", 0.1): ((0.5, 8), (0.75, 4), (1, 2)),
    ("greedy k=1", 0.1): ((0.75, 7), (1, 4)),
    ("simultaneous", 0.1): ((0.5, 9), (0.75, 4), (1, 2)),
    ("joint", 0.1): ((0.5, 18), (0.75, 10), (1, 6)),
}
"""By method and budget in PFLOP: pairs of a width factor and epochs (greedy: for each block)."""

CHOSEN: dict[tuple[str, float], tuple[float, int]] = {
    ("greedy k=3", 0.03): (0.375, 4),
    ("greedy k=2", 0.03): (0.375, 4),
    ("greedy k=1", 0.03): (0.75, 2),
    ("simultaneous", 0.03): (0.5, 3),
    ("joint", 0.03): (0.5, 5),
    ("greedy k=3", 0.1): (0.75, 4),
    ("greedy k=2", 0.1): (0.75, 4),
    ("greedy k=1", 0.1): (1, 4),
    ("simultaneous", 0.1): (0.5, 9),
    ("joint", 0.1): (0.75, 10),
}
"""The candidate of each with the best accuracy on held-out images, from results/frontier_choice.json."""

HELD_OUT = ("dataset.validation=0.1", "dataset.limit_test=100")


def row(method: str, budget: float, width: float, epochs: int, more: tuple[str, ...] = ()) -> Row:
    """The run of a method with a width factor and a number of epochs."""
    greedy, heads = method.startswith("greedy"), [round(HEAD_WIDTH * width)] * len(WIDTHS)
    words = [
        f"model.widths=[{','.join(str(round(w * width)) for w in WIDTHS)}]",
        f"model.head_widths={'null' if method == 'greedy k=1' else str(heads).replace(' ', '')}",
        f"{'epochs' if greedy else 'plan.epochs'}={epochs}",
    ]
    family = "frontier" + ("" if greedy else "_at_once") + ("_k1" if method == "greedy k=1" else "")
    label = f"{method}, {budget} PFLOP, width {width}, {epochs} epochs"
    return Row("pooled_cifar10", family, (*METHODS[method], *words, *more), label=label)


CHOICE_ROWS = tuple(row(*key, *pair, HELD_OUT) for key, pairs in CANDIDATES.items() for pair in pairs)
FRONTIER_ROWS = tuple(row(*key, *pair) for key, pair in CHOSEN.items())

GAP_WIDTH = 0.375
"""The width factor of the networks of `GAP_ROWS`: the best for greedy k=3 at 0.03 PFLOP."""

GAP_ROWS = (
    *(
        Row("pooled_cifar10", made.family, made.variant, label=f"{method}, {epochs} epochs")
        for epochs in (4, 12)
        for method in ("greedy k=3", "simultaneous", "joint")
        for made in (row(method, 0, GAP_WIDTH, epochs),)
    ),
    *(
        Row("pooled_cifar10", made.family, (f"k={k}", *made.variant), label=f"greedy k={k}, 4 epochs")
        for k in (4, 5)
        for made in (row("greedy k=3", 0, GAP_WIDTH, 4),)
    ),
)
"""With `epochs` for each block: in stages of its own, or of all blocks together."""
