"""The publisher that the mixins use."""

from collections.abc import Callable
from typing import Generic, TypeVar

from sinapse.publisher.base import BasePublisher
from sinapse.publisher.client import Publisher

T = TypeVar("T")
P = TypeVar("P", bound=BasePublisher)


class Once(Generic[T]):
    """What `make` returned when it was called for the first time."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[str, T] = {}

    def __call__(self) -> T:
        """Return it, made now if need be."""
        try:
            return self._made["it"]
        except KeyError:
            # No lock, which a fork could copy while it is held: of two threads that come here at
            # once, setdefault gives both the same one, and the other has opened nothing yet.
            return self._made.setdefault("it", self._make())

    @property
    def made(self) -> T | None:
        """What was made, or None."""
        return self._made.get("it")

    def forget(self) -> T | None:
        """Have another one made the next time; return the former one, or None."""
        return self._made.pop("it", None)


class Shared(Generic[P]):
    """The publisher of one kind that all of a process share; `new` makes one of ``REDIS_URL``."""

    def __init__(self, new: Callable[[], P]) -> None:
        self._of_the_environment = Once(new)
        self._chosen: dict[str, P] = {}
        self._configured: list[Callable[[], P]] = []

    def default(self) -> P:
        """Return the publisher of this process.

        That is the one that was set; else the one that a framework's settings name, if `configure`
        was told; else one made of ``REDIS_URL``. Raises ``ValueError`` if that cannot be read, and
        what the framework has for settings that cannot.
        """
        find = self._configured[-1] if self._configured else self._of_the_environment
        return self.default_of(find)

    def default_of(self, find: Callable[[], P]) -> P:
        """Return the publisher that was set; else what `find` returns.

        For an integration that uses its own settings, whoever else has been configured meanwhile.
        """
        publisher = self._chosen.get("publisher")
        return find() if publisher is None else publisher

    def use(self, publisher: P | None) -> P | None:
        """Make `publisher` the default, or with None go back to what it was without.

        Returns the former one, None if there was none yet; it is left open.
        """
        former = self._chosen.pop("publisher", None) or self._of_the_environment.made
        if publisher is None:
            self._of_the_environment.forget()
        elif publisher is not self._of_the_environment.made:
            self._chosen["publisher"] = publisher
        return former

    def configure(self, find: Callable[[], P] | None) -> None:
        """Have `find` return the default, whenever none was set; with None it is ``REDIS_URL``'s.

        For integrations, which know of settings. `find` keeps what it returns, one for a process.
        """
        if find is None:
            self._configured.clear()
        else:
            self.withdraw(find)
            self._configured.append(find)

    def withdraw(self, find: Callable[[], P]) -> None:
        """Ask `find` no more, but whoever was asked before, or ``REDIS_URL``."""
        self._configured = [each for each in self._configured if each != find]


_shared = Shared(Publisher)

default: Callable[[], Publisher] = _shared.default
default_of: Callable[[Callable[[], Publisher]], Publisher] = _shared.default_of
use: Callable[[Publisher | None], Publisher | None] = _shared.use
configure: Callable[[Callable[[], Publisher] | None], None] = _shared.configure
withdraw: Callable[[Callable[[], Publisher]], None] = _shared.withdraw
