"""Independent jobs over processes: a worker that dies is an error, a parent that dies takes its workers along."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
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
) -> Generator[tuple[int, R], None, None]:
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
    told, stop = context.Pipe(duplex=False)  # closing `stop` ends the workers
    with told, stop, ProcessPoolExecutor(processes, context, _begin, (prepare, told)) as pool:
        running: dict[Future[R], int] = {}
        workers_of = pool._processes  # by id; the pool itself forgets them when one has died
        try:
            while True:
                for n, item in itertools.islice(waiting, _AHEAD * processes - len(running)):
                    with _without_ctrl_c():
                        running[pool.submit(function, item)] = n
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            pool.shutdown()
            codes = {process.exitcode for process in workers_of.values()} - {None, 0, -signal.SIGTERM}  # the pool's own
            how = ", ".join(ending(code) for code in codes if code) or "no exit code is known"
            advice = "what was finished is kept; run the same command again, with fewer --workers if memory ran out"
            raise DataError(f"{what}: a worker process died ({how}); {advice}") from error
        except BaseException as error:
            if not isinstance(error, Exception):
                stop.close()
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)  # what is being written is tidied up
            raise


def in_order(
    results: Generator[tuple[int, R], None, None], sizes: Sequence[int], progress: Callable[[int, int], None] | None
) -> list[R]:
    """All that `as_they_finish` yields, by position.

    Args:
        sizes: what each item counts in progress.
        progress: called with (done, in all) whenever an item is done.
    """
    made, done = dict[int, R](), 0
    with contextlib.closing(results):  # what is raised here ends the work at once
        for n, result in results:
            made[n] = result
            done += sizes[n]
            if progress:
                progress(done, sum(sizes))
    return [made[n] for n in range(len(sizes))]


def ending(code: int) -> str:
    """How a process ended, by its exit code: `exit code 3`, `signal 9 (Killed)`."""
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


def read_ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Results in order, up to `ahead` of them made by the pool before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block never see it: what started them decides what becomes of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(prepare: Callable[[], None] | None, told: Connection) -> None:
    """Of a worker: one whose parent was killed would wait for work for ever."""

    def watch() -> None:
        told.poll(None)  # until the other end is closed, at the latest by the end of the parent
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if prepare:
        prepare()
