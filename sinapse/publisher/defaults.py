"""The publisher that the mixins use."""

from collections.abc import Callable
from typing import Generic, TypeVar

from sinapse.publisher.base import BasePublisher
from sinapse.publisher.client import Publisher

T = TypeVar("T")
P = TypeVar("P", bound=BasePublisher)


class Once(Generic[T]):
    """The result of the first call of `make`."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[str, T] = {}

    def __call__(self) -> T:
        """Return the object, and make it first if there is none."""
        try:
            return self._made["it"]
        except KeyError:
            # No lock, which a fork could copy while it is held: to two threads at once, setdefault
            # returns the same object, and the second object has opened nothing yet.
            return self._made.setdefault("it", self._make())

    @property
    def made(self) -> T | None:
        """The object, or None before it is made."""
        return self._made.get("it")

    def forget(self) -> T | None:
        """Make a new object the next time; return the former one, or None."""
        return self._made.pop("it", None)


class Shared(Generic[P]):
    """The publisher that a process shares, one for each kind; `new` makes it of ``REDIS_URL``."""

    def __init__(self, new: Callable[[], P]) -> None:
        self._of_the_environment = Once(new)
        self._chosen: dict[str, P] = {}
        self._configured: list[Callable[[], P]] = []

    def default(self) -> P:
        """Return the publisher of this process.

        That is the one that was set; else that of a framework's settings, if an integration has
        called `configure`; else one made of ``REDIS_URL``. Raises ``ValueError`` if this is
        invalid, and the framework's own error for invalid settings.
        """
        find = self._configured[-1] if self._configured else self._of_the_environment
        return self.default_of(find)

    def default_of(self, find: Callable[[], P]) -> P:
        """Return the publisher that was set; else what `find` returns.

        For an integration that uses its own settings, even if others have been configured later.
        """
        publisher = self._chosen.get("publisher")
        return find() if publisher is None else publisher

    def use(self, publisher: P | None) -> P | None:
        """Make `publisher` the default; with None, restore the default without it.

        Returns the former one, which stays open, or None if there was none yet.
        """
        former = self._chosen.pop("publisher", None) or self._of_the_environment.made
        if publisher is None:
            self._of_the_environment.forget()
        elif publisher is not self._of_the_environment.made:
            self._chosen["publisher"] = publisher
        return former

    def configure(self, find: Callable[[], P] | None) -> None:
        """Let `find` return the default if none was set; with None, ``REDIS_URL`` decides again.

        For integrations, which have settings. `find` must return the same one in a process.
        """
        if find is None:
            self._configured.clear()
        else:
            self.withdraw(find)
            self._configured.append(find)

    def withdraw(self, find: Callable[[], P]) -> None:
        """Remove `find`: the one that was configured before it decides, or ``REDIS_URL``."""
        self._configured = [each for each in self._configured if each != find]


_shared = Shared(Publisher)

default: Callable[[], Publisher] = _shared.default
default_of: Callable[[Callable[[], Publisher]], Publisher] = _shared.default_of
use: Callable[[Publisher | None], Publisher | None] = _shared.use
configure: Callable[[Callable[[], Publisher] | None], None] = _shared.configure
withdraw: Callable[[Callable[[], Publisher]], None] = _shared.withdraw
