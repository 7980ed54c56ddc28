"""An audience: the open streams of one framing that hear the same."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar


class Member(Protocol):
    """What an audience needs of a stream."""

    @property
    def descriptor(self) -> int | None:
        """Its socket, if frames can be written straight to that; it is the same for ever."""

    def send(self, frame: bytes) -> None:
        """Write `frame`, now or as soon as the stream has caught up."""


M = TypeVar("M", bound=Member)


class Audience(AbstractSet[M], Generic[M]):
    """A set of streams. Nearly all are in `direct`, by the descriptors of their sockets.

    A loop over these touches nothing of a stream itself: to load the parts of thousands of objects
    into the processor's caches is what a delivery costs beside the kernel.
    """

    __slots__ = ("direct", "others")

    def __init__(
        self, direct: dict[int, M] | None = None, others: AbstractSet[M] = frozenset()
    ) -> None:
        self.direct: dict[int, M] = {} if direct is None else direct
        #: Those over TLS or HTTP/2, and long polls. Mostly none: all audiences share an empty one.
        self.others: AbstractSet[M] = others

    def add(self, member: M) -> None:
        """Add a stream."""
        if member.descriptor is not None:
            self.direct[member.descriptor] = member
        elif isinstance(self.others, set):
            self.others.add(member)
        else:
            self.others = {*self.others, member}

    def discard(self, member: M) -> None:
        """Remove a stream, if it is there."""
        if member.descriptor is None:
            if isinstance(self.others, set):
                self.others.discard(member)
        elif self.direct.get(member.descriptor) is member:
            del self.direct[member.descriptor]

    def united(self, other: "Audience[M]") -> "Audience[M]":
        """Return a new one with the streams of both, each once."""
        return Audience(self.direct | other.direct, self.others | other.others)

    def __contains__(self, member: object) -> bool:
        """Whether a stream is there."""
        descriptor = getattr(member, "descriptor", None)
        if descriptor is None:
            return member in self.others
        return self.direct.get(descriptor) is member

    def __iter__(self) -> Iterator[M]:
        """Return all streams."""
        return chain(self.direct.values(), self.others)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.direct) + len(self.others)

    @classmethod
    def _from_iterable(cls, members: Any) -> Any:
        return set(members)
