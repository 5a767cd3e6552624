"""Greedy layerwise training on CIFAR-10 as the published code does it: what layerwise is measured against.

    python benchmarks/plain.py --root data                             the paper's k = 3 network at its full schedule
    python benchmarks/plain.py --k 3 --width 32 --head-width 32 --epochs 4   what experiment=laptop_cifar10 trains

Belilovsky, Eickenberg and Oyallon's way (ICML 2019), in PyTorch's textbook idioms: images are cropped, flipped and
scaled one by one with PIL in a DataLoader's processes; everything is float32 in the default memory format; each step
computes the frozen blocks anew, asks for the loss and the accuracy (`.item()`), and each epoch ends with a pass over
the test images, whose last scores make the 2^j ensemble. The learning rate drops by a new optimiser.

The layers are layerwise's own, so that both train the same network; nothing else here is. Nothing is tuned for speed,
and nothing is slower than the published code: it runs the frozen blocks in eval mode, without a graph, and starts no
more processes for the data than there are cores (the published code: 6).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10

from layerwise.models.blocknet import BlockNet
from layerwise.models.heads import CnnHead
from layerwise.models.simcnn import SimCnn, doubled

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
DECAY, DECAYS_EVERY = 0.2, 15 / 50
"""The learning rate is multiplied by `DECAY` after each such share of a block's epochs."""

WORKERS = min(6, os.cpu_count() or 1)

TRAIN = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
TEST = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
"""From a PIL image to float32 [3, 32, 32]."""

Batches = Iterable[tuple[Tensor, Tensor]]


def network(k: int, J: int, width: int, head_width: int, downsample: Sequence[int], seed: int = 0) -> BlockNet:
    """The paper's network for images of 32×32: blocks 1 … J and the head of each.

    Args:
        downsample: 1-based numbers of the blocks that halve the resolution.
    """
    architecture = SimCnn(
        widths=doubled(width, J, downsample),
        heads=[CnnHead(k, M, batch_norm=k > 1) for M in doubled(head_width, J, downsample)],
        downsample=downsample,
        batch_norm=k > 1,
        bias=[1] if k == 1 else None,
    )
    return architecture.build((3, 32, 32), 10, seed=seed)


def sgd(net: BlockNet, depth: int, lr: float) -> torch.optim.SGD:
    """A new optimiser of block `depth` and its head."""
    parameters = [*net.blocks[depth - 1].parameters(), *net.head(depth).parameters()]
    return torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_epoch(
    net: BlockNet, depth: int, optimizer: torch.optim.Optimizer, batches: Batches, device: torch.device
) -> tuple[float, float]:
    """Trains block `depth` and its head on all batches; mean loss, and accuracy in per cent."""
    net.train()
    net.blocks[: depth - 1].eval()
    loss_sum, correct, total = 0.0, 0, 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        x = images
        with torch.no_grad():
            for block in net.blocks[: depth - 1]:
                x = block(x)
        optimizer.zero_grad()
        z = net.head(depth)(net.blocks[depth - 1](x))
        loss = nn.functional.cross_entropy(z, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        correct += (z.argmax(dim=1) == labels).sum().item()
        total += len(labels)
    return loss_sum / total, 100 * correct / total


@torch.no_grad()
def evaluate(net: BlockNet, depth: int, batches: Batches, device: torch.device) -> tuple[float, Tensor, Tensor]:
    """Accuracy in per cent of the head at a depth, its scores [N, 10] and the labels [N], both on the CPU."""
    net.eval()
    correct, scores, targets = 0, [], []
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        z = net(images, depth)
        correct += (z.argmax(dim=1) == labels).sum().item()
        scores.append(z.cpu())
        targets.append(labels.cpu())
    return 100 * correct / sum(map(len, targets)), torch.cat(scores), torch.cat(targets)


def ensemble_top1(scores: Sequence[Tensor], labels: Tensor) -> float:
    """Accuracy in per cent of Σ_j 2^j z_j over the first depths' scores."""
    total = sum(2.0**j * z for j, z in enumerate(scores))
    assert isinstance(total, Tensor)
    return 100 * (total.argmax(dim=1) == labels).float().mean().item()


def train(
    net: BlockNet, train_batches: Batches, test_batches: Batches, epochs: int, device: torch.device
) -> list[dict[str, float]]:
    """Trains all blocks, one after another; a row of results for each.

    Args:
        train_batches, test_batches: one epoch's, of normalised images and labels.
    """
    rows: list[dict[str, float]] = []
    scores: list[Tensor] = []  # z_j of the test images, of the depths so far
    for depth in range(1, len(net.blocks) + 1):
        net.blocks[: depth - 1].requires_grad_(False)
        started, drops = time.perf_counter(), -1
        for epoch in range(epochs):
            if int(epoch / epochs / DECAYS_EVERY + 1e-9) > drops:
                drops += 1
                optimizer = sgd(net, depth, LR * DECAY**drops)
            loss, top1 = train_epoch(net, depth, optimizer, train_batches, device)
            test_top1, z, labels = evaluate(net, depth, test_batches, device)
            ensemble = ensemble_top1([*scores, z], labels)
            print(f"block {depth}, epoch {epoch + 1}: loss {loss:.3f}, train {top1:.2f} %, ", end="")
            print(f"test {test_top1:.2f} %, ensemble {ensemble:.2f} %", flush=True)
        scores.append(z)
        seconds = time.perf_counter() - started
        rows.append({"loss": loss, "train": top1, "test": test_top1, "ensemble": ensemble, "seconds": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("LAYERWISE_DATA", "data"), help="folder of CIFAR-10")
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--J", type=int, default=4)
    parser.add_argument("--width", type=int, default=128, help="M")
    parser.add_argument("--head-width", type=int, default=256, help="M~")
    parser.add_argument("--downsample", type=int, nargs="*", default=[3], metavar="BLOCK")
    parser.add_argument("--epochs", type=int, default=50, help="per block")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--limit", type=int, default=50_000, help="training images")
    parser.add_argument("--limit-test", type=int, default=10_000, help="test images")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes that prepare images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results also as JSON")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device(options.device)
    shape = (options.k, options.J, options.width, options.head_width, options.downsample)
    net = network(*shape, seed=options.seed).to(device)
    started = time.perf_counter()
    images = Subset(CIFAR10(options.root, train=True, transform=TRAIN), range(options.limit))
    held_out = Subset(CIFAR10(options.root, train=False, transform=TEST), range(options.limit_test))
    train_batches = DataLoader(images, options.batch_size, shuffle=True, num_workers=options.workers)
    test_batches = DataLoader(held_out, 2 * options.batch_size, num_workers=min(2, options.workers))
    rows = train(net, train_batches, test_batches, options.epochs, device)
    results: dict[str, Any] = {"blocks": rows, "seconds": time.perf_counter() - started}
    print(f"{results['seconds']:.1f} s")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
