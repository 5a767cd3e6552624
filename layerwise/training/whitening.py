"""Where the whitening of a network's input meets the training images: once, before the first stage."""

from __future__ import annotations

import torch

from layerwise.core.distributed import all_reduce_sum
from layerwise.core.randomness import below, bits, key
from layerwise.data.dataset import Dataset
from layerwise.models.blocknet import BlockNet
from layerwise.models.whitening import Whitening, patches

IMAGES = 2_000
"""About so many training images are looked at, where there are more."""

PATCH_VALUES = 2**25
"""Of the patches that are held at once, in float64."""


@torch.no_grad()
def whiten_input(network: BlockNet, data: Dataset) -> None:
    """Fits the whitening of block 1 to the training images as they are, not augmented.

    Which of many images are looked at depends on their numbers in the data set alone, so it is a function of the data:
    neither the seed nor the number of processes changes it, but for rounding.

    Args:
        network: on its device; nothing is done to one that has no whitening.
        data: this process's samples.
    """
    before = []
    for layer in network.blocks[0].children():
        if isinstance(layer, Whitening):
            break
        before.append(layer)
    else:
        return
    split = data.splits["train"]
    looked_at = below(bits(key("whitening"), split.samples), len(data.labels["train"]), lane=0) < IMAGES
    order = looked_at.nonzero().flatten()
    dimensions, pixels = layer.dimensions, data.spec.shape[1] * data.spec.shape[2]
    sums = torch.zeros(dimensions, dimensions + 2, dtype=torch.float64, device=data.device)
    for batch in data.batches("train", order, max(1, PATCH_VALUES // (pixels * dimensions))):
        x = batch.inputs
        for step in before:
            x = step(x)
        found = patches(x.double())  # [n, C·9]
        sums[:, :-2] += found.T @ found
        sums[:, -2] += found.sum(0)
        sums[:, -1] += len(found)
    total = all_reduce_sum(sums) / sums[:, -1:]
    second, mean = total[:, :-2], total[:, -2]
    layer.fit(mean, second - mean[:, None] * mean)
