"""What a process of a node is given by its parent, in one variable of its environment."""

import json
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

VARIABLE = "SINAPSE_WORKER"

#: What the process is called that hears Redis for all workers; those have numbers.
EAR = "ear"


@dataclass(frozen=True)
class Inheritance:
    """A process' part."""

    label: int | str
    """The number of a worker, from 1, or :data:`EAR`."""
    descriptors: tuple[int, ...]
    """Listening sockets: of a worker one for each ``--port``, in their order, and of the ear one
    for the workers.
    """
    folder: str
    """Where it meets its parent; nobody is left to remove it when that is killed."""
    admin: str | None
    """Path of the socket on which to serve the administration endpoint, for the parent alone."""

    @property
    def ear(self) -> str:
        """Path of the socket on which the ear serves the workers."""
        return ear_socket(Path(self.folder))

    def to_text(self) -> str:
        """Return the value of the variable."""
        return json.dumps(asdict(self))

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self | None:
        """Return what the environment says, and remove it there; None outside of such a process."""
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        given = json.loads(text)
        return cls(given["label"], tuple(given["descriptors"]), given["folder"], given["admin"])


def ear_socket(folder: Path) -> str:
    """Return the path of the socket of the ear, in the folder where processes meet."""
    return str(folder / f"{EAR}.sock")


def title(label: int | str) -> str:
    """Return what people call a process of that label."""
    return f"the {label}" if label == EAR else f"worker {label}"
