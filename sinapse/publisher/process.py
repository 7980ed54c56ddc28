"""What each process has of its own: sockets, and locks that a fork copies as they are held."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OfThisProcess(Generic[T]):
    """An object that `make` creates once in each process: a forked child has its own.

    The process is checked at each use. ``os.register_at_fork`` is not enough: it notices only
    Python's own ``fork``, and servers such as uWSGI fork in C.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        """Return it, made now if need be."""
        process = os.getpid()
        try:
            return self._made[process]
        except KeyError:
            # No lock, which a fork could copy while it is held: setdefault gives all threads that
            # come here at once the same one.
            made = self._made.setdefault(process, self._make())
            for other in list(self._made):
                if other != process:
                    self._made.pop(other, None)
            return made
