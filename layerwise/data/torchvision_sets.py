"""CIFAR-10, CIFAR-100, SVHN, MNIST, Fashion-MNIST and STL-10 through torchvision, as uint8 tensors.

torchvision is imported where it is used, since importing it takes seconds and most commands do without.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.data.reader import InMemory, Pair

CIFAR10 = DatasetSpec(
    name="cifar10",
    shape=(3, 32, 32),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),  # the paper's code
    std=(0.2023, 0.1994, 0.2010),
    padding=4,
    flip=True,
    train_samples=50_000,
    test_samples=10_000,
)
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = DatasetSpec(
    name="cifar100",
    shape=(3, 32, 32),
    classes=tuple(CIFAR100_CLASSES.split()),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    padding=4,
    flip=True,
    train_samples=50_000,
    test_samples=10_000,
)
SVHN = DatasetSpec(
    name="svhn",
    shape=(3, 32, 32),
    classes=tuple("0123456789"),
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    padding=4,
    flip=False,  # a mirrored digit is another sign
    train_samples=73_257,
    test_samples=26_032,
)
FASHION_MNIST = DatasetSpec(
    name="fashion_mnist",
    shape=(1, 28, 28),
    classes=(
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    mean=(0.2860,),
    std=(0.3530,),
    padding=4,
    flip=True,
    train_samples=60_000,
    test_samples=10_000,
)
MNIST = DatasetSpec(
    name="mnist",
    shape=(1, 28, 28),
    classes=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    padding=2,
    flip=False,
    train_samples=60_000,
    test_samples=10_000,
)
STL10 = DatasetSpec(
    name="stl10",
    shape=(3, 96, 96),
    classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    mean=(0.5, 0.5, 0.5),  # InfoPro's code
    std=(0.5, 0.5, 0.5),
    padding=4,
    flip=True,
    train_samples=5_000,
    test_samples=8_000,
)


@dataclass(frozen=True)
class TorchvisionSet(InMemory):
    """A data set of torchvision.

    Args:
        root: where data sets lie.

    Attributes:
        described: what is known of it.
        source: its class in torchvision.
        subfolder: of the root, where torchvision keeps its files; empty for the root itself.
    """

    root: Path

    described: ClassVar[DatasetSpec]
    source: ClassVar[str]
    subfolder: ClassVar[str]

    def spec(self) -> DatasetSpec:
        return self.described

    @property
    def folder(self) -> Path:
        return self.root / self.subfolder

    @abstractmethod
    def files(self) -> Iterator[tuple[Path, str | None]]:
        """Yields the files and their official MD5 sums, None where torchvision knows none."""

    @abstractmethod
    def part(self, train: bool, download: bool) -> Pair:
        """Returns the samples to train on or to test on."""

    @property
    def _torchvision(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.source)

    def tensors(self) -> tuple[Pair, Pair]:
        """Downloads what is absent.

        Raises:
            LayerwiseError: absent and not to be downloaded, damaged (names the file), or not readable.
        """
        from torchvision.datasets.utils import check_integrity

        name, root = self.described.name, self.root
        files = list(self.files())
        present = any(path.exists() for path, _ in files)
        remains = self.folder if self.subfolder else " and ".join(str(path) for path, _ in files)
        for path, md5 in files:
            if present and not check_integrity(path, md5):
                problem = "is damaged (its MD5 sum is not the official one)" if path.exists() else "is missing"
                raise LayerwiseError(
                    f"{path} {problem}. Restore it, or remove {remains} so that {name} is downloaded afresh."
                )
        try:
            return self.part(True, not present), self.part(False, not present)
        except Exception as error:  # torchvision passes on urllib's, tarfile's, zlib's, numpy's … errors
            if present:
                raise LayerwiseError(
                    f"{name} under {root} cannot be read ({type(error).__name__}: {error}). "
                    f"Remove {remains} so that it is downloaded afresh."
                ) from error
            raise LayerwiseError(
                f"dataset={name}: not found under {root.resolve()}, and it could not be downloaded there ({error}). "
                f"Put the files in {self.folder}, or say where they are: dataset.root=FOLDER "
                "(or LAYERWISE_DATA=FOLDER in the environment). dataset=digits needs no files."
            ) from error


class Cifar10(TorchvisionSet):
    described, source, subfolder = CIFAR10, "CIFAR10", "cifar-10-batches-py"

    def files(self) -> Iterator[tuple[Path, str | None]]:
        cifar = self._torchvision
        for file, md5 in (*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])):
            yield self.folder / file, md5

    def part(self, train: bool, download: bool) -> Pair:
        data = self._torchvision(str(self.root), train=train, download=download)
        return torch.from_numpy(data.data), torch.tensor(data.targets)  # [N, 32, 32, 3]


class Cifar100(Cifar10):
    described, source, subfolder = CIFAR100, "CIFAR100", "cifar-100-python"


class Svhn(TorchvisionSet):
    described, source, subfolder = SVHN, "SVHN", ""

    def files(self) -> Iterator[tuple[Path, str | None]]:
        for split in ("train", "test"):
            _, file, md5 = self._torchvision.split_list[split]
            yield self.folder / file, md5

    def part(self, train: bool, download: bool) -> Pair:
        data = self._torchvision(str(self.root), split="train" if train else "test", download=download)
        images = torch.from_numpy(data.data).permute(0, 2, 3, 1).contiguous()  # from [N, 3, H, W]
        return images, torch.from_numpy(data.labels).long()


class Stl10(Svhn):
    described, source, subfolder = STL10, "STL10", "stl10_binary"

    def files(self) -> Iterator[tuple[Path, str | None]]:
        for file, md5 in (*self._torchvision.train_list, *self._torchvision.test_list):
            yield self.folder / file, md5


class Mnist(TorchvisionSet):
    described, source, subfolder = MNIST, "MNIST", "MNIST"

    def files(self) -> Iterator[tuple[Path, str | None]]:
        for prefix in ("train", "t10k"):
            yield self.folder / "raw" / f"{prefix}-images-idx3-ubyte", None
            yield self.folder / "raw" / f"{prefix}-labels-idx1-ubyte", None

    def part(self, train: bool, download: bool) -> Pair:
        data = self._torchvision(str(self.root), train=train, download=download)
        return data.data[..., None], data.targets.long()  # [N, 28, 28, 1]


class FashionMnist(Mnist):
    described, source, subfolder = FASHION_MNIST, "FashionMNIST", "FashionMNIST"


SETS: dict[str, type[TorchvisionSet]] = {
    one.described.name: one for one in (Cifar10, Cifar100, Svhn, Stl10, Mnist, FashionMnist)
}
"""By the values of `dataset`."""
