"""What each process has of its own: sockets, and locks that a fork copies as they are held."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OfThisProcess(Generic[T]):
    """What `make` returned when this process asked first: a forked child has its own.

    Which process it is is looked at each time. ``os.register_at_fork`` would not do: only Python's
    own ``fork`` tells of itself, and servers such as uWSGI fork in C.
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
