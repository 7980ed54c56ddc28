"""What a worker is given by its parent, in one variable of its environment."""

import json
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from typing import Self

VARIABLE = "SINAPSE_WORKER"


@dataclass(frozen=True)
class Inheritance:
    """A worker's part."""

    number: int
    """From 1."""
    descriptors: tuple[int, ...]
    """A listening socket for each ``--port``, in their order."""
    folder: str
    """Where it meets its parent; nobody is left to remove it when that is killed."""
    admin: str | None
    """Path of the socket on which to serve the administration endpoint, for the parent alone."""

    def to_text(self) -> str:
        """Return the value of the variable."""
        return json.dumps(asdict(self))

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self | None:
        """Return what the environment says, and remove it there; None outside of a worker."""
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        given = json.loads(text)
        return cls(given["number"], tuple(given["descriptors"]), given["folder"], given["admin"])
