"""Image data sets of other libraries: any of torchvision's, and any of the Hugging Face Hub or a folder of its form.

They are functions that `dataset._target_` may name (`training/contracts.py`); conf/dataset/torchvision.yaml and
conf/dataset/huggingface.yaml do. All samples are held in memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError, suggest
from layerwise.data.images.decoding import UnreadableImage, grey_or_colours
from layerwise.data.own import Samples, check_memory, whole

TEST_SPLITS = ("test", "validation", "valid", "val")
"""Names of the split to test on, the first that a data set has."""


def torchvision(
    source: str,
    root: Path,
    side: int | None = None,
    mirror: bool = False,
    train_split: str | None = None,
    test_split: str | None = None,
) -> Samples:
    """Returns a classification data set of torchvision, which is downloaded where it is absent.

    Args:
        source: its class, such as Flowers102.
        side: images are resized to side × side pixels; None if all have one size.
        mirror: whether half of the views of a training image are mirrored.
        train_split, test_split: the values of its parameter `split`; by default "train", and the first of `TEST_SPLITS`
            that it takes. Data sets with a parameter `train` need neither.

    Raises:
        LayerwiseError: no such class, or its samples cannot be read.
    """
    from torchvision import datasets

    kind: Any = getattr(datasets, source, None)
    if not inspect.isclass(kind) or not issubclass(kind, datasets.VisionDataset):
        raise LayerwiseError(
            f"dataset.source={source}: torchvision has no such data set.{suggest(source, datasets.__all__)}"
        )
    parameters, build = inspect.signature(kind).parameters, cast("Callable[..., Any]", kind)

    def open_split(words: dict[str, Any]) -> Any:
        more = {"download": True} if "download" in parameters else {}
        return build(str(root), **words, **more)

    try:
        if "train" in parameters:
            for key, value in (("train_split", train_split), ("test_split", test_split)):
                if value is not None:
                    raise LayerwiseError(f"dataset.{key}={value}: {source} has no splits by name. Leave it out.")
            parts = [open_split({"train": True}), open_split({"train": False})]
        elif "split" in parameters:
            parts = [open_split({"split": train_split or "train"}), _first(open_split, test_split)]
        else:
            raise LayerwiseError(f"dataset.source={source}: has no training and test split. Use dataset=imagefolder.")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise LayerwiseError(
            f"dataset.source={source}: cannot be read or downloaded under {root} ({type(error).__name__}: {error}). "
            "Put its files there, or set dataset.root."
        ) from error
    names = getattr(parts[0], "classes", None)
    train, test = (
        _stacked((part[i] for i in range(len(part))), len(part), side, f"dataset.source={source}") for part in parts
    )
    return Samples(train, test, tuple(map(str, names)) if names else (), flip=mirror, squashed=side is not None)


def _first(open_split: Any, name: str | None) -> Any:
    """The split to test on: the named one, or the first that there is."""
    problem: ValueError | None = None
    for split in TEST_SPLITS if name is None else (name,):
        try:
            return open_split({"split": split})
        except ValueError as error:  # torchvision's word for an unknown split
            problem = problem or error
    assert problem is not None
    raise problem


def huggingface(
    repository: str,
    root: Path,
    subset: str | None = None,
    side: int | None = None,
    mirror: bool = False,
    train_split: str = "train",
    test_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Samples:
    """Returns an image classification data set through the library `datasets`.

    Args:
        repository: its name on the Hub, or a local folder of images or Parquet files.
        subset: its configuration, where it has several.
        side: images are resized to side × side pixels; None if all have one size.
        mirror: whether half of the views of a training image are mirrored.
        train_split, test_split: names of splits; by default to test on the first of `TEST_SPLITS` that it has.
        image_column, label_column: by default the column of images, and the one of class labels.

    Raises:
        LayerwiseError: the library is absent, or there is no such data set, split or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise LayerwiseError(
            "dataset=huggingface needs the library datasets: pip install 'layerwise[huggingface]'."
        ) from error
    place = str(Path(repository).expanduser()) if Path(repository).expanduser().exists() else repository
    try:
        found = datasets.load_dataset(place, subset, cache_dir=str(root / "huggingface"))
    except Exception as error:  # the library passes on what many others raise
        first = str(error).splitlines()[0] if str(error) else ""
        raise LayerwiseError(
            f"dataset.repository={repository}: cannot be loaded ({type(error).__name__}: {first})."
        ) from error
    test_split = test_split or next((name for name in TEST_SPLITS if name in found), "test")
    for key, name in (("train_split", train_split), ("test_split", test_split)):
        if name not in found:
            raise LayerwiseError(
                f"dataset.{key}={name}: {repository} has the splits {', '.join(found)}. Choose one of them."
            )
    features = found[train_split].features
    image = _column("image_column", image_column, features, datasets.Image)
    label = _column("label_column", label_column, features, datasets.ClassLabel)
    kind = features[label]
    for split in (train_split, test_split):
        _check_labels(found[split][label], label, split, repository)
    names = list(kind.names) if isinstance(kind, datasets.ClassLabel) else sorted(set(found[train_split][label]))
    numbers = {name: number for number, name in enumerate(names)}
    parts = []
    for split in (train_split, test_split):
        labels = found[split][label]
        if not isinstance(kind, datasets.ClassLabel):
            strange = sorted(set(labels) - set(numbers))
            if strange:
                raise LayerwiseError(
                    f"dataset.label_column={label}: '{strange[0]}' is in {split} but not in {train_split}."
                )
            labels = [numbers[value] for value in labels]
        pairs = zip(found[split][image], labels, strict=True)
        parts.append(_stacked(pairs, len(labels), side, f"dataset.repository={repository}"))
    return Samples(parts[0], parts[1], tuple(map(str, names)), flip=mirror, squashed=side is not None)


def _column(key: str, name: str | None, features: Any, kind: type) -> str:
    """A column by its name, or the only one of a kind."""
    if name is not None and name not in features:
        raise LayerwiseError(f"dataset.{key}={name}: there is no such column.{suggest(name, list(features))}")
    fitting = [column for column, feature in features.items() if isinstance(feature, kind)]
    if name is None and len(fitting) != 1:
        raise LayerwiseError(f"dataset.{key}: choose one of the columns {', '.join(fitting or features)}.")
    return name or fitting[0]


def _check_labels(labels: Sequence[Any], column: str, split: str, repository: str) -> None:
    """Refuses a split with samples without a label, and values that are no classes."""
    absent = sum(value is None or (isinstance(value, int) and value < 0) for value in labels)
    if absent:
        raise LayerwiseError(
            f"dataset.repository={repository}: {absent} of {len(labels)} samples of {split} have no label in {column} "
            "(None, or a negative number). Choose another split (dataset.train_split, dataset.test_split)."
        )
    strange = next((value for value in labels if not isinstance(value, str | int)), None)
    if strange is not None:
        raise LayerwiseError(f"dataset.label_column={column}: holds {strange!r}; classes are names or whole numbers.")


def _stacked(pairs: Iterable[tuple[Any, Any]], count: int, side: int | None, name: str) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, H, W, C], C = 1 if all are grey, and labels [N], of `count` pairs of a PIL image and a label."""
    images: list[Any] = []
    labels: list[int] = []
    for image, label in pairs:
        if image is None:
            raise LayerwiseError(f"{name}: sample {len(images)} has no image.")
        try:
            colours = grey_or_colours(image)  # before resizing, which a palette does not bear
        except UnreadableImage as error:
            raise LayerwiseError(f"{name}: sample {len(images)}: {error}.") from error
        images.append(
            colours if side is None or colours.size == (side, side) else colours.resize((side, side), resample=2)
        )
        if len(images) == 1:
            check_memory(count, len(images[0].tobytes()), name)
        try:
            labels.append(whole(label))
        except (TypeError, ValueError) as error:
            raise LayerwiseError(f"{name}: is no classification data set: {type(error).__name__}: {error}.") from error
    grey = all(image.mode == "L" for image in images)
    return _pixels(images if grey else [image.convert("RGB") for image in images]), torch.tensor(labels)


def _pixels(images: Sequence[Any]) -> Tensor:
    import numpy as np

    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise LayerwiseError(f"The images have {len(sizes)} sizes. Set dataset.side=PIXELS, and all are resized to it.")
    pixels = torch.from_numpy(np.stack([np.array(image) for image in images]))
    return pixels[..., None] if pixels.dim() == 3 else pixels  # [N, H, W, C]
