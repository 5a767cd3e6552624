"""The sets of experiments that reproduce.py runs: their rows, and what a smaller scale changes."""

from __future__ import annotations

from _frontier_rows import CHOICE_ROWS, FRONTIER_ROWS, GAP_ROWS, HELD_OUT
from _method_rows import METHOD_ROWS
from _row import Row

FIVE = (
    *("J=5", "model.widths=[64,256,256,256,256]", "model.head_widths=[128,256,256,256,256]"),
    "model.downsample=[1,2,4]",
)
"""The network of which `fast_cifar10` is the first three blocks."""

SETS: dict[str, tuple[Row, ...]] = {
    "methods": METHOD_ROWS,
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
    "recipes": (Row("modern_cifar10_k3"),),
    "pooled": (
        Row("pooled_cifar10", "pooled", ("cache=disk",), label="pooled_cifar10"),
        Row("pooled_cifar10", "pooled", ("epochs=4", "cache=disk")),
        Row("pooled_cifar10", "pooled", ("epochs=4", "cache=disk", "optimizer.muon_lr=0.1")),
        Row("pooled_cifar10", "pooled", ("epochs=8", "cache=disk")),
        Row("pooled_cifar10", "pooled", ("plan=joint", "plan.epochs=6")),
    ),
    "fast": (
        Row("fast_cifar10", "fast", ("cache=disk",), label="fast_cifar10"),
        Row("best_cifar10", "fast"),
        Row("fast_cifar10", "five", (*FIVE, "cache=disk"), label="fast_cifar10, 5 blocks"),
        Row(
            "fast_cifar10",
            "five_joint",
            (*FIVE, "plan=joint", "plan.epochs=20"),
            label="fast_cifar10, 5 blocks, end to end",
        ),
    ),
    "fast_choice": (Row("fast_cifar10", "five", (*FIVE, *HELD_OUT), label="fast_cifar10, 5 blocks, held out"),),
    "frontier_choice": CHOICE_ROWS,
    "frontier": FRONTIER_ROWS,
    "gap": GAP_ROWS,
    "vit": (
        Row("vit_cifar10", "vit"),
        Row("vit_cifar10", "vit", ("k=1",)),
        Row("vit_cifar10", "vit", ("plan=simultaneous",)),
        Row("vit_cifar10", "vit", ("plan=joint",)),
    ),
    "imagenet": (
        Row("paper_imagenet_k1_table3"),
        Row("paper_imagenet_k1_table7"),
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

_NARROW = ("dataset.limit=5000", "batch_size=64", "optimizer.lr=0.1", "model.width=8")
_TINY = ("dataset.limit=400", "dataset.limit_test=200", "batch_size=50", "epochs=1")
_TINY_POOLED = (*_TINY, "model.widths=[4,4,8,8,8,8]")
_SMALL_POOLED = ("model.widths=[16,16,32,32,32,32]", "epochs=3")
_TINY_FIVE = (*_TINY, "model.widths=[4,8,8,8,8]", "model.head_widths=[8,8,8,8,8]")
_SMALL_FIVE = ("model.widths=[16,32,32,32,32]", "model.head_widths=[32,32,32,32,32]", "epochs=3")
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
        "at_once": (*_NARROW, "plan.epochs=4"),
        "goodness": (*_NARROW, "plan.epochs=4", "model.width=16"),  # a channel for each class
        "in_turn_2": (*_NARROW, "plan.epochs=2"),
        "in_turn_4": (*_NARROW, "plan.epochs=1"),
        "in_turn_16": (*_NARROW, "plan.epochs=1"),
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
            *("model.width=32", "model.head_width=32", "plan.last_head_width=16", "epochs=3"),
            *("plan.prune_to=16", "plan.prune_epochs=2"),
        ),
        "compressed_shape": ("model.width=16", "model.head_width=16", "plan.epochs=10"),
        "pooled": (*_SMALL_POOLED, "model.head_widths=[32,32,32,32,32,32]"),
        "frontier": (*_SMALL_POOLED, "model.head_widths=[32,32,32,32,32,32]"),
        "frontier_k1": _SMALL_POOLED,
        "frontier_at_once": (*_SMALL_POOLED, "model.head_widths=[32,32,32,32,32,32]", _AS_GREEDY),
        "fast": ("model.widths=[16,32,32]", "model.head_widths=[32,32,32]", "epochs=3"),
        "five": _SMALL_FIVE,
        "five_joint": (*_SMALL_FIVE, _AS_GREEDY),
        "vit": (
            *("dataset.limit=10000", "epochs=3", "model.options.depth=3", "model.options.embed_dim=96"),
            "model.options.num_heads=3",
        ),
    },
    "tiny": {
        **dict.fromkeys(("at_once", "in_turn_2", "in_turn_4"), (*_TINY, "model.width=4", "plan.epochs=1")),
        "goodness": (*_TINY, "model.width=16", "plan.epochs=1"),
        "in_turn_16": (*_TINY, "model.width=4", "plan.epochs=1", "model.modules=8"),
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
            *(*_TINY, "model.width=8", "model.head_width=8", "plan.last_head_width=4"),
            *("plan.prune_to=4", "plan.prune_epochs=1"),
        ),
        "compressed_shape": (*_TINY, "model.width=4", "model.head_width=4", "plan.epochs=2"),
        "pooled": (*_TINY_POOLED, "model.head_widths=[8,8,8,8,8,8]"),
        "frontier": (*_TINY_POOLED, "model.head_widths=[8,8,8,8,8,8]"),
        "frontier_k1": _TINY_POOLED,
        "frontier_at_once": (*_TINY_POOLED, "model.head_widths=[8,8,8,8,8,8]", _AS_GREEDY),
        "fast": (*_TINY, "model.widths=[4,8,8]", "model.head_widths=[8,8,8]"),
        "five": _TINY_FIVE,
        "five_joint": (*_TINY_FIVE, _AS_GREEDY),
        "vit": (*_TINY, "model.options.depth=1", "model.options.embed_dim=12", "model.options.num_heads=1"),
    },
}
"""Overrides that make a set affordable, by scale and family. The full scale has none."""

SET_SCALES: dict[tuple[str, str], tuple[str, ...]] = {
    ("imagenette", "small"): ("dataset.size=64", "batch_size=64"),
    ("imagenette", "tiny"): ("dataset.size=64",),
    ("imagenet", "small"): ("dataset.size=64", "dataset.limit=100000", "dataset.limit_test=5000"),
    ("imagenet", "tiny"): ("dataset.size=64",),
}
"""Further overrides of all rows of a set, by set and scale."""

PROBE_SCALES: dict[str, tuple[str, ...]] = {
    "full": (),
    "quarter": (),
    "small": ("--epochs=2", "--width=32", "--limit=10000"),
    "tiny": ("--epochs=1", "--width=4", "--limit=200"),
}
"""Options of `layerwise probe` by scale."""
