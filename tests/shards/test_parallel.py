"""Work in other processes and threads: every result once, and the end of a worker is told."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from segstream.shards.errors import DataError
from segstream.shards.parallel import as_they_finish, in_order, read_ahead


def _die(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def _refuse(item):
    raise DataError(f"item {item}")


def test_a_worker_that_dies_is_an_error_not_a_hang():
    with pytest.raises(
        DataError, match=r"test: a worker process died \(signal 9 \(Killed\)\); what was finished is kept"
    ):
        list(as_they_finish(_die, [0, 1, 2, 3], workers=2, what="test"))


def test_errors_of_workers_arrive():
    with pytest.raises(DataError, match="item"):
        list(as_they_finish(_refuse, [0, 1, 2, 3], workers=2, what="test"))


def test_results_come_with_their_places():
    assert sorted(as_they_finish(abs, [-1, -2, -3], workers=2, what="test")) == [(0, 1), (1, 2), (2, 3)]
    assert list(as_they_finish(abs, [-1, -2], workers=1, what="test")) == [(0, 1), (1, 2)]


def test_work_that_is_given_up_ends_at_once():
    results = as_they_finish(time.sleep, [0, 600, 600], workers=2, what="test")
    assert next(results) == (0, None)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 60


def test_results_are_put_in_order_and_what_is_raised_meanwhile_ends_the_work():
    told = []
    results = ((n, -n) for n in (2, 0, 1))
    assert in_order(results, [10, 20, 30], lambda *done: told.append(done)) == [0, -1, -2]
    assert told == [(30, 60), (40, 60), (60, 60)]
    results = ((n, n) for n in (0, 1))
    with pytest.raises(ZeroDivisionError):
        in_order(results, [1, 1], lambda done, total: 1 // (done - 1))
    assert list(results) == []


def test_reading_ahead_keeps_the_order_and_a_bound():
    asked = []
    source = (asked.append(i) or i for i in range(100))
    with ThreadPoolExecutor(2) as pool:
        results = read_ahead(pool, lambda i: -i, source, ahead=8)
        assert next(results) == 0
        assert len(asked) == 9
        assert list(results) == [-i for i in range(1, 100)]
