"""A map in worker processes that start at its first use and stay for all later ones."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset

from layerwise.core.interrupt import SIGNALS

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerMap(Generic[Item, Result]):
    """Applies a function to items in order, some items ahead.

    Args:
        function: computes one result; every worker has its own copy.
        workers: processes; 0 computes in this one, when a result is asked for.
        pin_memory: gives tensors in page-locked memory, from which a copy to a GPU does not wait.
    """

    def __init__(self, function: Callable[[Item], Result], workers: int, pin_memory: bool = False) -> None:
        self._items = _Items[Item]()
        self._turn = 0
        self.loader = DataLoader(
            _Mapped(function),
            sampler=self._items,  # items are what it takes for indices
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_leave_signals_to_the_main_process,
            generator=torch.Generator(),  # else each epoch would advance the global stream
        )
        _open.add(self)

    def __call__(self, items: Iterable[Item]) -> Iterator[Result]:
        """The results. A new call ends an earlier one that was abandoned before its last result."""
        self._turn += 1
        turn = self._turn
        self._items.items = items
        results: Any = iter(self.loader)
        for worker in getattr(results, "_workers", ()):
            worker.terminate = worker.kill  # the loader's last resort is SIGTERM, which they ignore
        for result in results:
            yield result
            assert turn == self._turn, "the workers were given other items meanwhile"

    def close(self) -> None:
        """Ends the processes."""
        iterator: Any = self.loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()


_open: WeakSet[WorkerMap[Any, Any]] = WeakSet()


@atexit.register
def _close_all() -> None:
    """Python would end remaining processes by SIGTERM, which the workers ignore, and wait for them for ever."""
    for workers in list(_open):
        workers.close()


class _Items(Generic[Item]):
    """What the loader takes for its sampler: gives the items of the present call."""

    items: Iterable[Item] = ()

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


class _Mapped(Dataset[Result], Generic[Item, Result]):
    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.function = function

    def __getitem__(self, item: Item) -> Result:
        return self.function(item)


def _unchanged(result: Result) -> Result:
    return result


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Signals reach the whole process group; the main process still needs batches to stop cleanly."""
    for number in (*SIGNALS, signal.SIGUSR2):  # the last: see layerwise.submitted
        signal.signal(number, signal.SIG_IGN)
