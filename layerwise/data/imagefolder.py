"""Any folder of images with `train/<class>/…` and `val/<class>/…`, at one resolution.

Images are decoded, resized (short side) and cut (centre) to size × size once where they fit the
memory, else batch by batch in worker processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as transforms

from layerwise.data.images import DatasetSpec, ResidentImages, Split
from layerwise.errors import LayerwiseError

TRAIN, VAL = "train", "val"


def spec(root: Path, size: int) -> DatasetSpec:
    """Classes and shape of a folder; the statistics are ImageNet's.

    Raises:
        LayerwiseError: train/ or val/ is missing or has no class folders, or their classes differ.
    """
    classes = _classes(root / TRAIN)
    if (val_classes := _classes(root / VAL)) != classes:
        missing, unknown = sorted(set(classes) - set(val_classes)), sorted(set(val_classes) - set(classes))
        raise LayerwiseError(
            f"{root / VAL} has other classes than {root / TRAIN}: "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}. Both need the same class folders."
        )
    return DatasetSpec(
        name="imagefolder",
        shape=(3, size, size),
        classes=tuple(classes),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        padding=max(1, size // 8),
        flip=True,
        train_images=len(_list(root / TRAIN)[0]),
        test_images=len(_list(root / VAL)[0]),
    )


def read(root: Path, size: int, device: torch.device, workers: int, budget_bytes: int) -> tuple[Split, Split]:
    """Train and val images, resident on the device if both fit the budget, else streamed.

    Raises:
        LayerwiseError: a class folder without images, or an unreadable image (both are named).
    """
    splits = [FolderImages(*_list(root / name), size=size, device=device, workers=workers) for name in (TRAIN, VAL)]
    if sum(len(split) for split in splits) * size * size * 3 > budget_bytes:
        return splits[0], splits[1]
    resident = [split.decoded() for split in splits]
    return resident[0], resident[1]


class FolderImages:
    """Images that stay on the disk and are decoded batch by batch in worker processes.

    Args:
        paths: files.
        labels: int64 [N].
        size: side of the square that is cut out, in pixels.
        device: where batches go.
        workers: processes that decode; 0 decodes in this one.
    """

    def __init__(
        self,
        paths: list[Path],
        labels: Tensor,
        *,
        size: int,
        device: torch.device,
        workers: int,
        samples: Tensor | None = None,
    ) -> None:
        self.paths = paths
        self.labels = labels.to(device)
        self.samples = torch.arange(len(paths), device=device) if samples is None else samples
        self.size, self.device, self.workers = size, device, workers

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Tensor) -> FolderImages:
        positions = positions.to(self.device)
        return FolderImages(
            [self.paths[i] for i in positions.tolist()],
            self.labels[positions],
            size=self.size,
            device=self.device,
            workers=self.workers,
            samples=self.samples[positions],
        )

    def pixels(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        loader = DataLoader(
            _Decoder(self.paths, self.size),
            sampler=[positions.tolist() for positions in batches],
            batch_size=None,  # the sampler gives whole batches
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        for images in loader:
            if isinstance(images, str):
                raise LayerwiseError(images)
            yield images.to(self.device, non_blocking=True)

    def decoded(self) -> ResidentImages:
        """All images, on the device."""
        batches = torch.arange(len(self)).split(256)
        return ResidentImages(torch.cat(list(self.pixels(batches))), self.labels, self.device, self.samples)


class _Decoder(Dataset[Tensor | str]):
    """Decodes batches. An unreadable image gives a message: a worker's exception would arrive as a traceback."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, positions: list[int]) -> Tensor | str:
        images = []
        for path in (self.paths[i] for i in positions):
            try:
                images.append(self._decode(path))
            except (OSError, SyntaxError) as error:
                return f"{path} cannot be decoded ({str(error).splitlines()[0]}). Repair or remove it."
        return torch.stack(images)  # uint8 [B, S, S, 3]

    def _decode(self, path: Path) -> Tensor:
        with Image.open(path) as file:
            image = transforms.pil_to_tensor(file.convert("RGB"))  # [3, H, W]
        image = transforms.resize(image, [self.size], antialias=True)
        square: Tensor = transforms.center_crop(image, [self.size, self.size])
        return square.permute(1, 2, 0).contiguous()


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise LayerwiseError(
            f"dataset.root={folder.parent}: there is no folder {folder}. "
            "An image folder needs train/<class>/… and val/<class>/…; say where: dataset.root=FOLDER."
        )
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise LayerwiseError(f"{folder}: {len(classes)} class folder(s) found; classification needs two or more.")
    return classes


def _list(folder: Path) -> tuple[list[Path], Tensor]:
    paths, labels = [], []
    for label, name in enumerate(_classes(folder)):
        files = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
        if not files:
            raise LayerwiseError(f"{folder / name} holds no images ({', '.join(IMG_EXTENSIONS)}).")
        paths += files
        labels += [label] * len(files)
    return paths, torch.tensor(labels)
