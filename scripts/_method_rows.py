"""The rows of `reproduce.py methods`: every method of docs/methods.md on a ResNet-32 in K local modules."""

from __future__ import annotations

from _row import Row

AT_ONCE: dict[str, dict[int, float]] = {
    "deep_supervision": {},
    "local": {},
    "dgl": {2: 91.31, 16: 83.79},
    "auglocal": {},
    "infopro": {2: 92.24, 16: 87.25},
    "infopro_contrast": {2: 92.24, 16: 87.25},
    "trgl": {},
}
"""Experiments that train all modules of a ResNet-32 together, with the figures published by the number of modules."""


def methods(K: int, tail: int) -> list[Row]:
    """The methods of the field on a ResNet-32 of K modules.

    Args:
        tail: modules of SegProp's tail.
    """
    cut = f"model.modules={K}"
    own_cut = {("auglocal", 16): "model.head_depth=2"}  # its file has d + 1 layers in the last module
    rows = [
        Row(f"{name}_cifar10_resnet32", "at_once", (own_cut.get((name, K), cut),), published=published.get(K))
        for name, published in AT_ONCE.items()
    ]
    one_by_one = Row("local_cifar10_resnet32", f"in_turn_{K}", (cut, "plan=greedy", f"plan.epochs={160 // K}"))
    tails = (f"model.tail={tail}", f"plan.epochs={160 // (K - tail)}")
    rows += [
        Row("local_cifar10_resnet32", "at_once", (cut, "model.head=predsim")),
        Row("local_cifar10_resnet32", "goodness", (cut, "model.head=goodness")),
        one_by_one,
    ]
    return [*rows, *([Row("segprop_cifar10_resnet32", f"in_turn_{K}", (cut, *tails))] if K > 2 else [])]


METHOD_ROWS = (
    Row("baseline_cifar10_resnet32", "at_once", ("model.modules=1",), published=92.63),
    *methods(4, tail=1),
    *methods(16, tail=2),
    *methods(2, tail=1),
)
