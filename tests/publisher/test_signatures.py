"""The library is one: what readers and a type checker see of it is the same for every kind."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sinapse import publisher as library
from sinapse.publisher import aio, awaiting, tx
from sinapse.publisher import pipeline as pipelines
from sinapse.publisher.aio import mixins as aio_mixins
from sinapse.publisher.channels import Channels
from sinapse.publisher.groups import GroupChannels, Groups
from sinapse.publisher.mixins import Auth, Members, OwnSessions, SharedChannels, Sinapse
from sinapse.publisher.sessions import Sessions
from sinapse.publisher.tokens import Tokens
from sinapse.publisher.tx import client as deferred
from tests.support import PYTHON

ROOT = Path(__file__).parents[2]

#: What is the same, and what a result is in; None if it is as it is.
NAMESAKES: list[tuple[type, type, Any]] = [
    (library.Publisher, aio.Publisher, None),
    (Tokens, awaiting.Tokens, None),
    (Sessions, awaiting.Sessions, None),
    (Channels, awaiting.Channels, None),
    (Groups, awaiting.Groups, None),
    (GroupChannels, awaiting.GroupChannels, None),
    (pipelines.Pipeline, awaiting.Pipeline, None),
    (Auth, aio_mixins.Auth, None),
    (OwnSessions, aio_mixins.OwnSessions, None),
    (Sinapse, aio_mixins.Sinapse, None),
    (library.Subject, aio.Subject, None),
    (library.Publishable, aio.Publishable, None),
    (library.Group, aio.Group, None),
    (Members, aio_mixins.Members, None),
    (SharedChannels, aio_mixins.SharedChannels, None),
    (library.Publisher, tx.Publisher, Deferred),
    (Tokens, deferred.Tokens, Deferred),
    (Sessions, deferred.Sessions, Deferred),
    (Channels, deferred.Channels, Deferred),
    (Groups, deferred.Groups, Deferred),
    (GroupChannels, deferred.GroupChannels, Deferred),
    (pipelines.Pipeline, deferred.Pipeline, Deferred),
    (Tokens, pipelines.CollectedTokens, pipelines.Pending),
    (Sessions, pipelines.CollectedSessions, pipelines.Pending),
    (Channels, pipelines.CollectedChannels, pipelines.Pending),
    (Groups, pipelines.CollectedGroups, pipelines.Pending),
    (GroupChannels, pipelines.CollectedGroupChannels, pipelines.Pending),
]


def public(kind: type) -> dict[str, Any]:
    members = inspect.getmembers_static(kind)
    return {name: value for name, value in members if not name.startswith("_")}


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in public(kind).items() if inspect.isfunction(value)}


def asks_redis(kind: type, name: str) -> bool:
    """Whether there is something to wait for: not for what is used in its turn."""
    is_collected = issubclass(kind, pipelines.Collection) and hasattr(pipelines.Collection, name)
    if (kind, name) == (Groups, "channels"):
        return False
    return name not in ("pipeline", "run") and not is_collected


@pytest.mark.parametrize(("plain", "other", "kind"), NAMESAKES)
class TestNamesakes:
    def test_have_the_same_names(self, plain: type, other: type, kind: Any) -> None:
        assert public(other).keys() == public(plain).keys()

    def test_take_the_same(self, plain: type, other: type, kind: Any) -> None:
        for name, method in methods(plain).items():
            parameters = inspect.signature(method).parameters
            assert inspect.signature(methods(other)[name]).parameters == parameters, name

    def test_return_the_same_but_for_when(self, plain: type, other: type, kind: Any) -> None:
        for name, method in methods(plain).items():
            if not asks_redis(plain, name):
                continue
            expected = inspect.signature(method).return_annotation
            found = methods(other)[name]
            assert inspect.iscoroutinefunction(found) is (kind is None), name
            returned = inspect.signature(found).return_annotation
            assert returned == (expected if kind is None else kind[expected]), name
            assert found.__annotations__["return"] == returned  # Sphinx looks there.

    def test_say_what_they_do(self, plain: type, other: type, kind: Any) -> None:
        for name, method in methods(other).items():
            documented, said = inspect.getdoc(methods(plain)[name]), inspect.getdoc(method)
            assert documented
            assert said
            if plain in (Tokens, Sessions, Channels, Groups, GroupChannels):
                assert said == documented


def test_the_publishers_are_made_in_the_same_way() -> None:
    assert inspect.signature(aio.Publisher) == inspect.signature(library.Publisher)


#: Whoever asks, and what a type checker sees a result in.
KINDS = {
    "sync": ("Publisher", "{}"),
    "aio": ("aio.Publisher", "Coroutine[Any, Any, {}]"),
    "twisted": ("tx.Publisher", "Deferred[{}]"),
}

RESULTS = {
    'it.tokens.get("42")': "str | None",
    'it.tokens.get("42", kind="Admin")': "str | None",
    'it.tokens.generate(42, "Admin", expires_in=60)': "str",
    'it.tokens.reset("42", "Admin", 60)': "str",
    'it.tokens.obtain("42", expires_in=0.5)': "str",
    'it.tokens.renew("42")': "bool",
    'it.tokens.clear("42")': "bool",
    'it.sessions.open("42", device="Phone", expires_in=60, only=["news"])': "NewSession",
    'it.sessions.list("42")': "list[Session]",
    'it.sessions.renew("42", "0a", 60)': "bool",
    'it.sessions.end("42", "0a")': "bool",
    'it.sessions.end_all("42", but="0a")': "int",
    'it.channels.list("42")': "set[str]",
    'it.channels.has("42", "news")': "bool",
    'it.channels.add(subject="42", channel="news")': "bool",
    'it.channels.remove("42", "news")': "bool",
    'it.channels.clear("42")': "int",
    'it.groups.add("42", "team:3")': "bool",
    'it.groups.remove(subject=42, group="team:3")': "bool",
    'it.groups.clear("42")': "int",
    'it.groups.of("42")': "set[str]",
    'it.groups.members("team:3", after="42", limit=5)': "list[str]",
    'it.groups.channels("team:3").list()': "set[str]",
    'it.groups.channels("team:3").add("news")': "bool",
    'it.groups.channels("team:3").remove("news")': "bool",
    'it.groups.channels("team:3").clear()': "int",
    'it.publish(["news", "sport"], {"a": 1}, event="goal", message_id="7")': "Published",
    'it.publish("news", {"a": 1}, replay="all", retain_messages=5)': "Published",
    'it.publish_to(42, {"a": 1}, event="goal", retain=0)': "Published",
    'it.publish_many([("news", "hello")])': "list[Published]",
    'it.history("news", after="a-1", limit=5)': "History",
    "it.position()": "str",
    'it.online("42")': "bool",
    'it.online_in("news")': "set[str]",
    'it.audience("news")': "Audience",
    "it.pipeline().send()": "list[Any]",
    "it.close()": "None",
}

COLLECTED = {
    'it.pipeline().tokens.get("42")': "str | None",
    'it.pipeline().tokens.generate("42", expires_in=60)': "str",
    'it.pipeline().tokens.clear("42")': "bool",
    'it.pipeline().sessions.open("42")': "NewSession",
    'it.pipeline().sessions.list("42")': "list[Session]",
    'it.pipeline().sessions.end("42", "0a")': "bool",
    'it.pipeline().channels.list("42")': "set[str]",
    'it.pipeline().channels.add("42", "news")': "bool",
    'it.pipeline().groups.add("42", "team:3")': "bool",
    'it.pipeline().groups.members("team:3")': "list[str]",
    'it.pipeline().groups.channels("team:3").add("news")': "bool",
    'it.pipeline().publish("news", "hello", replay=1)': "Published",
    'it.pipeline().history("news")': "History",
    "it.pipeline().position()": "str",
}

REFUSED = [
    "it.tokens.get()",
    "it.tokens.get(1.5)",
    "it.tokens.get(None)",
    'it.tokens.get("42", 7)',
    'it.tokens.get("42", sort="Admin")',
    'it.tokens.generate("42", expires_in="60")',
    'it.sessions.open("42", "Phone")',
    'it.sessions.open("42", only=7)',
    'it.sessions.end("42")',
    'it.channels.add("42")',
    'it.channels.add("42", 7)',
    'it.publish("news")',
    'it.publish(7, "hello")',
    'it.publish("news", "hello", retain="60")',
    'it.publish("news", "hello", replay="some")',
    'it.history("news", limit="5")',
    "it.online(None)",
    "it.pipeline().tokens.get(1.5)",
    'it.pipeline().channels.add("42", "news", "more")',
]

IMPORTS = """\
from collections.abc import Coroutine
from typing import Any, assert_type

from twisted.internet.defer import Deferred

from sinapse.publisher import Audience, History, NewSession, Published, Publisher, Session, aio, tx
from sinapse.publisher.pipeline import Pending
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what strict mypy has to say of each statement, of each kind."""
    folder = tmp_path_factory.mktemp("types")
    lines = [*IMPORTS.splitlines()]
    places = {}
    for kind, (publisher, form) in KINDS.items():
        statements = [
            *(f"_ = assert_type({call}, {form.format(it)})" for call, it in RESULTS.items()),
            *(f"_ = assert_type({call}, Pending[{it}])" for call, it in COLLECTED.items()),
            *(f"_ = {call}" for call in REFUSED),
        ]
        for statement, call in zip(statements, [*RESULTS, *COLLECTED, *REFUSED], strict=True):
            lines.append(f"def f{len(lines)}(it: {publisher}) -> None: {statement}")
            places[len(lines)] = f"{kind}: {call}"
    program = folder / "program.py"
    program.write_text("\n".join(lines))
    checked = subprocess.run(
        [PYTHON, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", folder, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stderr == ""
    found: dict[str, list[str]] = {place: [] for place in places.values()}
    for line, text in re.findall(
        r"^\S+program\.py:(\d+): error: (.+)$", checked.stdout, re.MULTILINE
    ):
        found[places[int(line)]].append(text)
    return found


def of_each_kind(*calls: dict[str, str] | list[str]) -> list[str]:
    return [f"{kind}: {call}" for kind in KINDS for some in calls for call in some]


@pytest.mark.timeout(180)  # The first one waits for mypy.
@pytest.mark.parametrize("call", of_each_kind(RESULTS, COLLECTED))
def test_a_type_checker_knows_what_a_call_returns(faults: dict[str, list[str]], call: str) -> None:
    assert faults[call] == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("call", of_each_kind(REFUSED))
def test_a_type_checker_refuses_what_a_call_cannot_take(
    faults: dict[str, list[str]], call: str
) -> None:
    [fault] = faults[call]
    assert re.search(r"\[(arg-type|call-arg)\]$", fault)
