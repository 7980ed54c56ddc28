"""Checks for numbers in calls and settings: a bool is not one, though it is to Python."""

from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether `value` is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
