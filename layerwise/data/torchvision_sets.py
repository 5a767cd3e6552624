"""CIFAR-10, CIFAR-100, SVHN, MNIST, Fashion-MNIST and STL-10 through torchvision, as uint8 tensors.

torchvision is imported where it is used, since importing it takes seconds and most commands do without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec

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
SPECS = {spec.name: spec for spec in (CIFAR10, CIFAR100, SVHN, MNIST, FASHION_MNIST, STL10)}


def read(name: str, root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images uint8 [N, H, W, C], labels [N]) of train and test; downloads what is absent.

    Raises:
        LayerwiseError: absent and not to be downloaded, damaged (names the file), or not readable.
    """
    from torchvision.datasets.utils import check_integrity

    files = list(_files(name, root))
    present = any(path.exists() for path, _ in files)
    for path, md5 in files:
        if present and not check_integrity(path, md5):
            problem = "is damaged (its MD5 sum is not the official one)" if path.exists() else "is missing"
            raise LayerwiseError(
                f"{path} {problem}. Restore it, or remove {_remains(name, root)} so that {name} is downloaded afresh."
            )
    try:
        return _construct(name, root, True, not present), _construct(name, root, False, not present)
    except Exception as error:  # torchvision passes on urllib's, tarfile's, zlib's, numpy's … errors
        if present:
            raise LayerwiseError(
                f"{name} under {root} cannot be read ({type(error).__name__}: {error}). "
                f"Remove {_remains(name, root)} so that it is downloaded afresh."
            ) from error
        raise LayerwiseError(
            f"dataset={name}: not found under {root.resolve()}, and it could not be downloaded there ({error}). "
            f"Put the files in {_folder(name, root)}, or say where they are: dataset.root=FOLDER "
            "(or LAYERWISE_DATA=FOLDER in the environment). dataset=digits needs no files."
        ) from error


def _construct(name: str, root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    if name in ("cifar10", "cifar100"):
        cifar = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        data = cifar(str(root), train=train, download=download)
        return torch.from_numpy(data.data), torch.tensor(data.targets)  # [N, 32, 32, 3]
    if name == "svhn":
        svhn = datasets.SVHN(str(root), split="train" if train else "test", download=download)
        images = torch.from_numpy(svhn.data).permute(0, 2, 3, 1).contiguous()  # from [N, 3, 32, 32]
        return images, torch.from_numpy(svhn.labels).long()
    if name == "stl10":
        stl = datasets.STL10(str(root), split="train" if train else "test", download=download)
        images = torch.from_numpy(stl.data).permute(0, 2, 3, 1).contiguous()  # from [N, 3, 96, 96]
        return images, torch.from_numpy(stl.labels).long()
    grey = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    data = grey(str(root), train=train, download=download)
    return data.data[..., None], data.targets.long()  # [N, 28, 28, 1]


def _remains(name: str, root: Path) -> str:
    """What to remove for a new download: the set's own folder, or its files where it has none."""
    if _folder(name, root) != root:
        return str(_folder(name, root))
    return " and ".join(str(path) for path, _ in _files(name, root))


def _folder(name: str, root: Path) -> Path:
    subfolders = {
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
        "mnist": "MNIST",
        "fashion_mnist": "FashionMNIST",
        "stl10": "stl10_binary",
        "svhn": "",
    }
    return root / subfolders[name]


def _files(name: str, root: Path) -> Iterator[tuple[Path, str | None]]:
    """The data set's files and their official MD5 sums, None where torchvision knows none."""
    from torchvision import datasets

    folder = _folder(name, root)
    if name in ("cifar10", "cifar100"):
        cifar = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        for file, md5 in (*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])):
            yield folder / file, md5
    elif name == "svhn":
        for split in ("train", "test"):
            _, file, md5 = datasets.SVHN.split_list[split]
            yield folder / file, md5
    elif name == "stl10":
        for file, md5 in (*datasets.STL10.train_list, *datasets.STL10.test_list):
            yield folder / file, md5
    else:
        for prefix in ("train", "t10k"):
            yield folder / "raw" / f"{prefix}-images-idx3-ubyte", None
            yield folder / "raw" / f"{prefix}-labels-idx1-ubyte", None
