"""Clients in other languages: the programs of ``tests/clients``, built where there is a tool chain.

What they are called with, and what they write, is in the README there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import cache
from typing import Self

from tests.support.browser import program
from tests.support.building import run
from tests.support.clients.runtimes import Process, url
from tests.support.daemon import ROOT
from tests.support.npm import install

FOLDER = ROOT / "tests" / "clients"
BUILT = ROOT / "build" / "clients"

#: No proxy of the machine is between a client and the daemon.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
}


def _make(language: str, *command: str) -> None:
    """Run a command that builds; another process of this run that is at the same waits."""
    (BUILT / language).mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{language}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(program(command[0]), *command[1:], cwd=FOLDER / language, environment=os.environ)


@cache
def _go() -> None:
    _make("go", "go", "build", "-o", f"{BUILT / 'go'}/", "./...")


@cache
def _rust() -> None:
    _make("rust", "cargo", "build", "--quiet", "--locked", "--target-dir", str(BUILT / "rust"))


@cache
def _java() -> None:
    _make("java", "mvn", "--quiet", "--batch-mode", "compile", "dependency:copy-dependencies")


@cache
def _react_native() -> None:
    install(FOLDER / "react-native")
    _make("react-native", "npm", "run", "build")


def _of_go(name: str) -> list[str]:
    _go()
    return [str(BUILT / "go" / name)]


def _of_rust(name: str) -> list[str]:
    _rust()
    return [str(BUILT / "rust" / "debug" / name)]


def _of_java(name: str) -> list[str]:
    _java()
    return [program("java"), "-cp", f"{BUILT}/java/classes:{BUILT}/java/dependency/*", name]


def _of_react_native(name: str) -> list[str]:
    _react_native()
    return [program("node"), str(FOLDER / "react-native" / "dist" / f"{name}.mjs")]


#: What builds a program, unless that was done, and returns how it is run; and the name there.
PROGRAMS: dict[str, tuple[Callable[[str], list[str]], str]] = {
    "okhttp-sse": (_of_java, "OkHttpSse"),
    "r3labs-sse": (_of_go, "r3labs-sse"),
    "launchdarkly-go": (_of_go, "launchdarkly-go"),
    "go-sse": (_of_go, "go-sse"),
    "reqwest-eventsource": (_of_rust, "reqwest-eventsource"),
    "eventsource-client": (_of_rust, "eventsource-client"),
    "react-native-sse": (_of_react_native, "react-native-sse"),
}


class Program(Process):
    """A client in another language; without its tool chain, the test ends here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        built, of_library = PROGRAMS[name]
        self._command = built(of_library)

    def connect(self, port: int, token: str, **options: object) -> Self:
        alone = ["alone"] if options.get("alone") else []
        self._start([*self._command, url(port), token, *alone], FOLDER, ENVIRONMENT)
        return self
