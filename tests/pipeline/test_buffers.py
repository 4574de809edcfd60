import sys
import threading

import numpy as np
import pytest
import torch

from segstream.pipeline.buffers import Arrays, Scratch


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_nothing_holds_it():
    arrays = Arrays((4, 5), np.int16)
    first = arrays.take()
    assert (first.shape, first.dtype) == ((4, 5), np.int16)
    where = address(first)
    tensor = torch.from_numpy(first).permute(1, 0)[1:]
    del first
    assert address(arrays.take()) != where  # the tensor still holds it
    numbers = tensor.numpy()
    del tensor
    assert address(arrays.take()) != where  # now the array that was made of it
    del numbers
    assert where in [address(array) for array in [arrays.take(), arrays.take()]]


@pytest.mark.parametrize("part", [lambda a: a[1], lambda a: a[:, 2:].T, lambda a: memoryview(a), torch.from_numpy])
def test_any_part_holds_the_memory(part):
    arrays = Arrays((4, 5), np.uint8)
    first = arrays.take()
    where, held = address(first), part(first)
    del first
    assert address(arrays.take()) != where
    del held
    assert where in [address(array) for array in [arrays.take(), arrays.take()]]


def test_no_python_runs_when_memory_comes_back():
    """Ctrl-C that arrives in a callback of the garbage collection is lost."""
    arrays = Arrays((3,), np.uint8)
    taken, ran = [arrays.take()], []
    sys.setprofile(lambda frame, event, _: ran.append(event))
    try:
        taken.clear()
    finally:
        sys.setprofile(None)
    assert "call" not in ran


def test_scratch_is_kept_by_name_and_thread():
    scratch = Scratch()
    one = scratch.take("a", (2, 3))
    assert (one.shape, one.dtype) == ((2, 3), np.uint8)
    assert address(scratch.take("a", (3, 2))) == address(one)
    assert address(scratch.take("b", (2, 3))) != address(one)
    assert scratch.take("a", (40, 30, 3)).shape == (40, 30, 3)
    found = []
    thread = threading.Thread(target=lambda: found.append(scratch.take("b", (2, 3))))
    thread.start()
    thread.join()
    assert address(found[0]) != address(scratch.take("b", (2, 3)))
