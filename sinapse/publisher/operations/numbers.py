"""Checks for numbers in calls and settings: a bool is not one, though it is to Python."""

from typing import TypeGuard

#: Characters of a value that are shown in the text of an error.
_SHOWN = 80


def shown(value: object) -> str:
    """Return the beginning of a value, for the text of an error."""
    try:
        return repr(value)[:_SHOWN]
    except ValueError:  # Python does not write whole numbers of more than 4,300 digits.
        return "a number of thousands of digits"


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether `value` is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
