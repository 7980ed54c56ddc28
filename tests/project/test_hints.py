"""Hints of the library: what is not said type checkers infer, each in its own way."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.modules import MODULES

LIBRARY = [name for name in MODULES if name.split(".")[0] == "publisher"]


def name_of(target: ast.expr) -> str:
    """Return the name of a variable or an attribute."""
    return target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)


def unsaid(module: ast.Module) -> Iterator[str]:
    """Yield names whose type is that of what a call returns, or of somebody's attribute.

    Those of modules, and those that ``__init__`` sets; a name that says its type once has done so.
    """
    functions = (each for each in ast.walk(module) if isinstance(each, ast.FunctionDef))
    places: list[ast.Module | ast.FunctionDef] = [module, *functions]
    said = {name_of(each.target) for each in ast.walk(module) if isinstance(each, ast.AnnAssign)}
    for place in places:
        if isinstance(place, ast.FunctionDef) and place.name != "__init__":
            continue
        kind = ast.Name if isinstance(place, ast.Module) else ast.Attribute
        for each in place.body:
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Attribute | ast.Call):
                names = {name_of(target) for target in each.targets if isinstance(target, kind)}
                if not ast.unparse(each.value).startswith(("TypeVar(", "ParamSpec(")):
                    yield from names - said


@pytest.mark.parametrize("name", LIBRARY)
def test_what_is_public_says_its_type(name: str) -> None:
    module = ast.parse(MODULES[name].read_text())
    assert [each for each in unsaid(module) if not each.startswith("_")] == []
