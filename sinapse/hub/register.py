"""What a node knows by ids: whole, and as far as narrow tokens go."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from sinapse.protocol.only import Only


class Listed(Protocol):
    """Something that has a list of channels: all of it, or the part that a token is for."""

    id: bytes
    only: Only | None

    @property
    def key(self) -> bytes:
        """Its place in the register."""


Entry = TypeVar("Entry", bound=Listed)


def part_key(identifier: bytes, only: Only | None) -> bytes:
    """Return the place of what has an id: that itself, if it is whole."""
    return identifier if only is None else b"\n".join((identifier, only.text))


class Register(dict[bytes, Entry]):
    """Subjects or groups by their keys; of an id there are several, if tokens are narrow."""

    def __init__(self) -> None:
        super().__init__()
        #: The keys of those that are parts, by the ids.
        self._parts: dict[bytes, set[bytes]] = {}

    def of(self, identifier: bytes) -> Sequence[Entry]:
        """Return what there is of an id."""
        entry = self.get(identifier)
        whole = () if entry is None else (entry,)
        if identifier not in self._parts:
            return whole
        return (*whole, *(self[key] for key in self._parts[identifier]))

    @property
    def id_count(self) -> int:
        """How many ids there are, each once."""
        again = sum(
            len(keys) - (identifier not in self) for identifier, keys in self._parts.items()
        )
        return len(self) - again

    def add(self, entry: Entry) -> None:
        """Add what is not there yet."""
        self[entry.key] = entry
        if entry.only is not None:
            self._parts.setdefault(entry.id, set()).add(entry.key)

    def discard(self, entry: Entry) -> None:
        """Remove an entry, if it is there."""
        if self.get(entry.key) is not entry:
            return
        del self[entry.key]
        if entry.only is not None:
            keys = self._parts[entry.id]
            keys.discard(entry.key)
            if not keys:
                del self._parts[entry.id]
