"""Batches on their way to the device: fetched from the disk, gathered and copied to a GPU while it trains.

To a GPU from the host or the disk, a thread gathers each batch into page-locked memory, and a stream of its own copies
it. As a shuffled batch has to be gathered into one piece before it can be copied, only this piece is page-locked, and
not the tens of gigabytes that it is taken from.

On a CPU such a thread would take the cores from the training. There the system is told which rows of a file come next.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

AHEAD = 2
"""Batches that are read before they are asked for."""

MOST_QUEUED = 4
"""Batches on a GPU whose steps it has not done yet. Kernels are queued faster than they run, and each queued step
holds its batch."""

Arrays = dict[str, Tensor]
"""What a batch consists of."""

Request = TypeVar("Request")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Request], Result], requests: Iterable[Request], cores: int) -> Iterator[Result]:
    """`map(read, requests)`, some results ahead, by one thread that lasts as long as the iterator.

    Args:
        read: is called in the thread; what it raises is raised here, in its turn.
    """
    waiting = iter(requests)
    with ThreadPoolExecutor(1, "read-ahead", torch.set_num_threads, (cores,)) as thread:
        try:
            coming = deque(thread.submit(read, request) for request in islice(waiting, AHEAD))
            while coming:
                result = coming.popleft().result()
                coming.extend(thread.submit(read, request) for request in islice(waiting, 1))
                yield result
        finally:
            thread.shutdown(wait=False, cancel_futures=True)  # of an abandoned iterator


def to_device(batches: Iterable[Arrays], device: torch.device) -> Iterator[Arrays]:
    """The batches on the device. They are copied to a GPU by a stream of its own, each while the one before is used.

    Args:
        batches: on the host; in page-locked memory, or a copy waits for the GPU.
        device: that the results are used on, by the stream that is current when they are asked for.
    """
    if device.type == "cpu":
        yield from batches
        return
    copies, queued = _copy_stream(device), deque[torch.cuda.Event]()

    def begin(batch: Arrays) -> tuple[Arrays, torch.cuda.Event]:
        with torch.cuda.stream(copies):
            copied = {name: array.to(device, non_blocking=True) for name, array in batch.items()}
            return copied, copies.record_event()

    for copied, done in early(map(begin, batches), 1):
        consumer = torch.cuda.current_stream(device)
        consumer.wait_event(done)
        for array in copied.values():
            array.record_stream(consumer)  # its memory belongs to the other stream, which would use it again
        yield copied
        queued.append(consumer.record_event())  # behind the step that uses the batch
        if len(queued) > MOST_QUEUED:
            queued.popleft().synchronize()


def announced(rows: Iterable[Tensor], path: Path, row_bytes: int) -> Iterator[Tensor]:
    """The same batches, but the system is told of each some batches before, and fetches it from the disk meanwhile.

    Args:
        rows: int64 [B] each, on the CPU.
        row_bytes: size of a row. Below a page it is not worth a call: what the system reads at a time holds many.
    """
    if row_bytes < mmap.PAGESIZE or not hasattr(os, "posix_fadvise"):  # macOS
        yield from rows
        return
    with open(path, "rb") as file:

        def announce(batch: Tensor) -> Tensor:
            for row in batch.tolist():
                os.posix_fadvise(file.fileno(), row * row_bytes, row_bytes, os.POSIX_FADV_WILLNEED)
            return batch

        yield from early(map(announce, rows), AHEAD)


def early(items: Iterable[Result], n: int) -> Iterator[Result]:
    """The same items, but each is taken from its source when the one n places in front of it is given."""
    taken: deque[Result] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > n:
            yield taken.popleft()
    yield from taken


def gather(arrays: Arrays, rows: Tensor, page_locked: bool = False) -> Arrays:
    """Some rows of arrays [N, …].

    Args:
        rows: int64 [B], there.
        page_locked: where they are put, so that a copy to a GPU does not wait.
    """
    if not page_locked:
        return {name: array.index_select(0, rows) for name, array in arrays.items()}
    found = {
        name: torch.empty(len(rows), *array.shape[1:], dtype=array.dtype, pin_memory=True)
        for name, array in arrays.items()
    }
    for name, array in arrays.items():
        torch.index_select(array, 0, rows, out=found[name])
    return found


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all copies to a device, as each stream has memory of its own."""
    return torch.cuda.Stream(device)
