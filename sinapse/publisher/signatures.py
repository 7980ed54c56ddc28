"""Name, docstring and signature of a method that is made from a different one."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")


def showing(made: F, method: Callable[..., Any], kind: Any = None) -> F:
    """Return `made` with the documentation of `method`, for ``help()`` and Sphinx.

    With a `kind`, that wraps the return type: ``Deferred[int]`` where `method` has ``int``.
    """
    update_wrapper(made, method)
    signature = inspect.signature(method)
    if kind is not None:
        signature = signature.replace(return_annotation=kind[signature.return_annotation])
    shown: Any = made
    shown.__signature__ = signature
    shown.__annotations__ = {**method.__annotations__, "return": signature.return_annotation}
    return made


def taking(given: Callable[P, Any]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Return a decorator for a function that takes what `given` takes, and passes that on."""

    def decorate(made: Callable[..., T]) -> Callable[P, T]:
        returned = inspect.signature(made).return_annotation
        shown: Any = made
        shown.__signature__ = inspect.signature(given).replace(return_annotation=returned)
        shown.__annotations__ = {**given.__annotations__, "return": returned}
        return made

    return decorate
