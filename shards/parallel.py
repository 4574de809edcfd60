"""Independent jobs over processes: a worker that dies is an error, a parent that dies takes its workers along."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from shards.errors import DataError

T = TypeVar("T")
R = TypeVar("R")


def as_they_finish(
    function: Callable[[T], R], items: Sequence[T], *, workers: int, what: str
) -> Iterator[tuple[int, R]]:
    """Apply a picklable function to every item; yields (position, result) as results arrive.

    Args:
        workers: processes; with 1 the work is done here, in order.
        what: names the work in errors.

    Raises:
        DataError: a worker died; and whatever `function` raises, after which no further item is begun.
    """
    if min(workers, len(items)) <= 1:
        yield from ((n, function(item)) for n, item in enumerate(items))
        return
    context = multiprocessing.get_context("spawn")  # forking a process whose libraries hold threads can hang
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_end_with_parent) as pool:
        futures = {pool.submit(function, item): n for n, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"{what}: a worker process died (out of memory?); run the same command again with fewer --workers, "
                f"what was finished is kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"
    threading.Thread(target=functools.partial(_watch, parent.join), daemon=True).start()


def _watch(wait: Callable[[], None]) -> None:
    wait()
    os._exit(1)
