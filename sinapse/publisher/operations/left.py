"""What is left in a list that was emptied in all of several Redis: somebody adds to it at once."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sinapse.protocol.keys import channel_name
from sinapse.protocol.names import Names
from sinapse.publisher.operations.operation import Entry, Operation, Request


class ListLeft(Operation[Mapping[str, Entry]]):
    """The entries of a list by their channels, which `make` is called with.

    `command` lists them where the names are those that it is given.
    """

    __slots__ = ("_command", "_make")

    def __init__(
        self, command: Callable[[Names], tuple[str, str]], make: Callable[[str], Entry]
    ) -> None:
        self._command = command
        self._make = make

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(self._command(names))

    def result(self, answer: Any) -> dict[str, Entry]:
        """Return them, without names that only somebody else can have written."""
        found = {}
        for raw in answer:
            with suppress(ValueError):
                name = channel_name(raw.decode())
                found[name] = self._make(name)
        return found
