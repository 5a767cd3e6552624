"""What plans may do with a block: it begins as the identity, loses filters, or is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Batch
from layerwise.models.block import Block
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation
from layerwise.models.heads import CnnHead, PooledHead
from layerwise.models.mlp import Mlp
from layerwise.models.simcnn import SimCnn
from layerwise.models.vgg import Vgg
from layerwise.training.beginnings import check_warm_starts, warm_start
from layerwise.training.plan import compressed, greedy
from layerwise.training.pruning import check_pruning, prune_block

CNN, IMAGE, VECTOR = [CnnHead(2, 6)] * 3, (3, 8, 8), (5,)
NETWORKS = {
    "simcnn": (SimCnn([6] * 3, CNN, batch_norm=False), IMAGE),
    "with a batch norm": (SimCnn([6] * 3, CNN), IMAGE),
    "whitened": (SimCnn([6] * 3, CNN, whiten_input=True), IMAGE),
    "pooled heads": (SimCnn([6] * 3, [PooledHead(2, 6)] * 3, activation=[Activation.relu, Activation.none]), IMAGE),
    "mlp": (Mlp([6] * 3), VECTOR),
    "mlp with a batch norm": (Mlp([6] * 3, k=2, batch_norm=True), VECTOR),
    "vgg without poolings": (Vgg([6, 6, 6], k=2), IMAGE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_warm_start_is_the_identity_or_refused(name):
    architecture, shape = NETWORKS[name]
    network, stages = architecture.build(shape, 3), greedy(3, 1, warm_start=True)
    if name == "vgg without poolings":
        with pytest.raises(LayerwiseError, match="the head at depth 3 has another shape than the one at depth 2"):
            check_warm_starts(network, stages)
        stages = stages[:2]
    check_warm_starts(network, stages)
    network.eval()
    x = network.features(torch.randn(16, *shape), 1).detach()
    warm_start(network, 2, [Batch(x, torch.zeros(16))])
    with torch.no_grad():
        torch.testing.assert_close(network.blocks[1](x), x, rtol=1e-5, atol=1e-5)


class Residual(nn.Module):
    """A block of another package, which is a convolution, but not only."""

    def __init__(self) -> None:
        super().__init__()
        self.path = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.path(x)


def test_a_block_that_does_not_say_how_is_refused_by_name():
    network = SimCnn([6] * 3, CNN).build(IMAGE, 3)
    network = BlockNet([network.blocks[0], Residual(), network.blocks[2]], dict(enumerate(network.heads.values(), 1)))
    with pytest.raises(LayerwiseError, match=r"plan.warm_start=true: block 2 .* class Residual does not say how"):
        check_warm_starts(network, greedy(3, 1, warm_start=True))
    with pytest.raises(LayerwiseError, match=r"plan.prune_to=4: block 2 .* class Residual does not say how"):
        check_pruning(network, compressed(3, 1, prune_to=[4] * 3, prune_epochs=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_block_that_may_be_pruned_can_be(name):
    architecture, shape = NETWORKS[name]
    network, stages = architecture.build(shape, 3), compressed(3, 1, prune_to=[4] * 3, prune_epochs=1)
    check_pruning(network, stages)
    prune_block(network, 1, range(4))
    prune_block(network, 2, range(4))
    assert network.eval().features(torch.randn(2, *shape), 3).shape[1] == 6
    network.blocks[0] = Block(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6))
    with pytest.raises(LayerwiseError, match="block 1 cannot be pruned: it does not have one layer of weights"):
        check_pruning(network, stages)
