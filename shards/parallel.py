"""Independent jobs over processes: a worker that dies is an error, a parent that dies takes its workers along."""

import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from segstream.shards.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 2  # items handed out per process: none waits for work, and few are held in memory twice


def as_they_finish(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    what: str,
    prepare: Callable[[], None] | None = None,
) -> Iterator[tuple[int, R]]:
    """Apply a picklable function to every item; yields (position, result) as results arrive.

    Args:
        workers: processes; with 1 the work is done here, in order.
        what: names the work in errors.
        prepare: called once in every process but this one, before its first item; picklable.

    Raises:
        DataError: a worker died; and whatever `function` raises, after which no further item is begun.
    """
    processes = min(workers, len(items))
    if processes <= 1:
        yield from ((n, function(item)) for n, item in enumerate(items))
        return
    context = multiprocessing.get_context("spawn")  # forking a process whose libraries hold threads can hang
    waiting = iter(enumerate(items))
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(prepare,)) as pool:
        running: dict[Future[R], int] = {}
        try:
            while True:
                for n, item in itertools.islice(waiting, _AHEAD * processes - len(running)):
                    running[pool.submit(function, item)] = n
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"{what}: a worker process died (out of memory?); run the same command again with fewer --workers, "
                f"what was finished is kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Results in order, up to `ahead` of them made by the pool before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin(prepare: Callable[[], None] | None) -> None:
    """Of a worker: one whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if prepare:
        prepare()
