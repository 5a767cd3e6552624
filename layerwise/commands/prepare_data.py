"""Packs image files into records: smaller JPEGs in a few large files, which training reads faster.

    layerwise prepare_data imagenet --root FOLDER --output FOLDER
    layerwise prepare_data imagenette --root FOLDER --output FOLDER --short-side 160
    layerwise prepare_data imagefolder --root FOLDER --output FOLDER --short-side 64 --quality 90

--root is what dataset.root would be. Images whose short side is longer than --short-side are resized to it and
compressed again as JPEG; all others are kept byte for byte, and training on them gives the same numbers as on the
files. Held-out images of imagenet and imagenette are cropped from a short side of dataset.size*8/7 pixels (256 for
224), those of imagefolder from dataset.size; training refuses records that were made smaller.

The same command continues where it stopped. OUTPUT.partial becomes OUTPUT once it is complete.
Then: layerwise train dataset=… dataset.root=OUTPUT. The image files are no longer needed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from layerwise.commands.arguments import Parser, at_least, named
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import usable_cores
from layerwise.data.images import imagenet
from layerwise.data.images.folders import ClassFolders
from layerwise.data.images.imagefolder import ImageFolder
from layerwise.data.images.record_writer import Preparation, RecordWriter
from layerwise.data.images.records import Records

SETS: dict[str, type[ImageFolder | imagenet.ImageNet]] = {**imagenet.SETS, "imagefolder": ImageFolder}
"""By the values of `dataset`."""


def main(words: Sequence[str]) -> None:
    parser = Parser("prepare_data", __doc__)
    parser.add_argument("name", choices=list(SETS), help="the data set")
    parser.add_argument("--root", type=named, required=True, metavar="FOLDER", help="folder of its image files")
    parser.add_argument("--output", type=named, required=True, metavar="FOLDER", help="new folder for the records")
    parser.add_argument("--short-side", type=at_least(1), default=256, metavar="N", help="in pixels (default: 256)")
    parser.add_argument("--quality", type=at_least(1), default=95, metavar="N", help="of JPEGs, 1 to 95 (default: 95)")
    parser.add_argument("--workers", type=at_least(0), metavar="N", help="processes (default: one per usable core)")
    parser.add_argument("--shard-mb", type=at_least(1), default=512, metavar="N", help="largest file (default: 512)")
    parser.add_argument(
        "--unreadable",
        choices=["fatal", "skip"],
        default="fatal",
        help="what to do about image files that cannot be decoded (default: fatal)",
    )
    parser.add_argument(
        "--exif", action="store_true", help="resized images: apply EXIF orientation (dataset.exif=true)"
    )
    options = parser.parse_args(words)
    if options.quality > 95:
        raise LayerwiseError(
            f"--quality {options.quality}: use 95 or less; a higher one takes space without visible gain."
        )
    writer = RecordWriter(
        find_files(options.name, options.root, options.short_side),
        options.output,
        Preparation(options.short_side, options.quality, options.exif),
        shard_bytes=options.shard_mb * 10**6,
        workers=usable_cores() if options.workers is None else options.workers,
        skip_unreadable=options.unreadable == "skip",
    )
    if writer.finished is not None:
        print(f"{options.output}: holds these records already")
    with (
        StopRequest() as stop,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            console=(console := Console(stderr=True)),
            disable=not console.is_terminal or writer.finished is not None,
        ) as bar,
    ):
        task = bar.add_task(f"preparing {options.name}", total=len(writer))

        def advance(images: int) -> None:
            bar.advance(task, images)
            stop.all_check()

        records = writer.write(advance)
    show(records)
    print(f"train on them: layerwise train dataset={options.name} dataset.root={shlex.quote(str(options.output))}")


def find_files(name: str, root: Path, short_side: int) -> ClassFolders:
    """The class folders of a data set; Imagenette is downloaded if it is absent.

    Raises:
        LayerwiseError: they are not there, not complete, or are records.
    """
    source = SETS[name](root, short_side).source()
    if not isinstance(source, ClassFolders):
        raise LayerwiseError(f"--root {root}: holds records. Give the folder of the image files.")
    return source


def show(records: Records) -> None:
    """Prints sizes before and after."""
    for split, held in records.splits.items():
        images, resized = records.count(split), held["resized"]
        before, after = held["source_bytes"] / 1e6, int(held["lengths"].sum()) / 1e6
        shards = len(held["images_per_shard"])
        print(
            f"{split}: {images:,} images, {before:,.1f} MB → {after:,.1f} MB in {shards} file(s); "
            f"{resized:,} resized, {images - resized:,} kept as they were"
        )


class Rate(ProgressColumn):
    """Images per second of the last while."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")
