"""What an option is, and how one is declared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """What a setting is called. `read` makes it of all values given, and raises ``ValueError``."""

    name: str
    setting: str
    variable: str
    default: str
    read: Callable[[Sequence[str]], Any]
    help: str
    short: str | None = None
    is_flag: bool = False
    heads: str | None = None
    """Title of the group of options that begins with this one."""


def option(default: str, read: Callable[[Sequence[str]], Any], text: str, **more: Any) -> Any:
    """Declare a setting; what it is called follows from its name, unless `more` says otherwise.

    `text` is its help, and `more` what else an :class:`Option` has.
    """
    declared = {"name": "", "setting": "", "variable": ""} | more
    return field(metadata={"option": Option(default=default, read=read, help=text, **declared)})
