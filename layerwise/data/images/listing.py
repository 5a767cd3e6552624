"""Which image files a folder holds: one walk for training, validation, prediction and records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from layerwise.core.errors import LayerwiseError

EXTENSIONS = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx"),
    *(".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
)
"""Files with other endings are no images. Fixed, so that a data set is the same with every version of Pillow."""

SYSTEM_FOLDERS = {
    *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),
    *("$recycle.bin", "lost+found", "system volume information"),
}


@dataclass
class LeftOut:
    """What a walk has not taken.

    Attributes:
        endings: numbers of files that are no images, by ending.
        links: number of links to folders that were read already.
        irregular: number of dangling links, pipes and devices with the name of an image.
        loose: number of images beside the class folders.
    """

    endings: Counter[str] = field(default_factory=Counter)
    links: int = 0
    irregular: int = 0
    loose: int = 0

    def in_words(self) -> str:
        """`files that are no images (2 .txt, 1 .mp4), links to folders that are read already (1)`."""
        parts = []
        if self.endings:
            most = [f"{count} {ending or 'without ending'}" for ending, count in self.endings.most_common(5)]
            parts.append(f"files that are no images ({', '.join(most)}{', …' * (len(self.endings) > 5)})")
        if self.links:
            parts.append(f"links to folders that are read already ({self.links})")
        if self.irregular:
            parts.append(f"dangling links, pipes or devices ({self.irregular})")
        if self.loose:
            parts.append(f"images in no class folder ({self.loose})")
        return ", ".join(parts)


def is_hidden(name: str) -> bool:
    """Whether an entry belongs to a system or a tool: `.ipynb_checkpoints`, `._x.jpg`, `__MACOSX`, `@eaDir`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_image_name(name: str) -> bool:
    """Whether the name of a file ends like that of an image."""
    return name.lower().endswith(EXTENSIONS)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder without hidden ones, sorted by name; links to folders count."""
    return sorted((entry for entry in folder.iterdir() if not is_hidden(entry.name) and entry.is_dir()), key=_name)


def loose_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    named = (entry for entry in folder.iterdir() if not is_hidden(entry.name) and is_image_name(entry.name))
    return sorted((entry for entry in named if entry.is_file()), key=_name)


class Walk:
    """Finds the image files below folders, each real folder once.

    Args:
        folders: that will be walked through; a link inside one of them to another one, or to a folder around them, is
            not followed.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.left_out = LeftOut()
        self._roots = {_identity(folder): folder for folder in reversed(folders)}  # of equal ones the first
        self._seen = {_identity(around) for folder in folders for around in folder.resolve().parents}

    def images_below(self, folder: Path) -> list[bytes]:
        """The paths of the image files below one of the folders, sorted. Hidden entries are passed over.

        Raises:
            LayerwiseError: a folder cannot be read.
        """
        if self._roots.get(_identity(folder)) != folder:  # a link to another one of them
            self.left_out.links += 1
            return []
        self._seen.add(_identity(folder))
        try:
            return sorted(os.fsencode(path) for path in self._walk(str(folder)))
        except OSError as error:
            raise LayerwiseError(f"{error.filename or folder}: cannot be read ({error.strerror or error}).") from error

    def _walk(self, folder: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    known = _identity(entry)
                    if known in self._seen or known in self._roots:
                        self.left_out.links += 1
                    else:
                        self._seen.add(known)
                        yield from self._walk(entry.path)
                elif not is_image_name(entry.name):
                    self.left_out.endings[Path(entry.name).suffix.lower()] += 1
                elif entry.is_file():
                    yield entry.path
                else:
                    self.left_out.irregular += 1


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    """Device and inode of the real folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _name(path: Path) -> str:
    return path.name
