"""Memory that is used again: the system takes longer to hand out a fresh page than a core takes to fill it."""

import math
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class Arrays:
    """Arrays of one shape and type. Safe to use from several threads."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._shape, self._dtype = shape, dtype
        self._memory: list[npt.NDArray[Any]] = []
        self._lent: list[weakref.ref[npt.NDArray[Any]]] = []
        """Of each memory, the array that was made of it last."""
        self._lock = threading.Lock()

    def take(self) -> npt.NDArray[Any]:
        """One with anything in it, the caller's own; its memory comes back when nothing holds any part of it any more.

        Views, tensors and whatever is made of them hold it.
        """
        with self._lock:
            # Looked for, not told by a callback: Ctrl-C would be lost in one, as any exception is.
            place = next((i for i, lent in enumerate(self._lent) if lent() is None), len(self._lent))
            if place == len(self._memory):
                self._memory.append(np.empty(self._shape, self._dtype))
            # Views of an array hold the array that owns the memory, past those between; but not past a memoryview.
            array = np.frombuffer(self._memory[place].data.cast("B"), self._dtype)
            self._lent[place : place + 1] = [weakref.ref(array)]
        return array.reshape(self._shape)


class Scratch(threading.local):
    """Arrays for what is made on the way, kept by each thread that uses it."""

    def __init__(self) -> None:
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """A uint8 array with anything in it, valid until this thread takes that name again."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, np.uint8)
        return memory[:size].reshape(shape)
