"""What a method shows that is made of another one: its name, docstring and signature."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def showing(made: F, method: Callable[..., Any], kind: Any = None) -> F:
    """Return `made`, which shows to ``help()`` and Sphinx what `method` is documented with.

    What it returns is in a `kind`, if one is given: ``Deferred[int]`` where `method` has ``int``.
    """
    update_wrapper(made, method)
    signature = inspect.signature(method)
    if kind is not None:
        signature = signature.replace(return_annotation=kind[signature.return_annotation])
    shown: Any = made
    shown.__signature__ = signature
    shown.__annotations__ = {**method.__annotations__, "return": signature.return_annotation}
    return made
