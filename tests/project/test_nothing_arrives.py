"""The page for those to whom nothing arrives: it quotes what is really said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sinapse.cli import main
from sinapse.publisher import Publisher
from tests.support import RedisServer, free_port
from tests.support.daemon import ROOT, Daemon

PAGE = (ROOT / "docs" / "nothing-arrives.md").read_text()

#: The rows of the last table: a status, and what is said with it.
SAID = [
    (int(status), words)
    for statuses, cell in re.findall(r"^\| ([\d, ]+) \| (`.*?) \|", PAGE, re.MULTILINE)
    for status in statuses.split(", ")
    for words in re.findall(r"`(.*?)`", cell)
]


def said(*arguments: str) -> str:
    """Return the one line that a command says to people."""
    result = CliRunner().invoke(main, arguments)
    [line] = result.stderr.splitlines()
    return line


def test_what_commands_say(
    daemon: Daemon, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    nobody = free_port()
    nowhere = f"redis://localhost:{nobody}/0"
    here = f"http://localhost:{daemon.port}/"
    private = tmp_path / "data"
    lines = [
        said("listen", here, "--subject", "42"),
        said("listen", here, "--token", "x"),
        said("listen", f"{here}push/", "--token", "x"),
        said("publish", "news", "hello"),
        said("listen", f"http://localhost:{nobody}/", "--token", "x"),
        said("publish", "news", "hello", "--redis", nowhere),
        said("publish", "news", "hello", "--redis", f"embedded:{private}"),
    ]
    for line in lines:
        shown = line.replace(str(daemon.port), "9000")
        shown = shown.replace(f"http://localhost:{nobody}", "http://localhost:9000")
        shown = shown.replace(str(nobody), "6379").replace(str(private), "/home/ada/data")
        assert f"`{shown}`" in PAGE


def test_what_the_daemon_says(daemon: Daemon, publisher: Publisher) -> None:
    """Of what can be had without another daemon."""
    token = publisher.tokens.generate("42")
    answers = [
        daemon.get("/"),
        daemon.get("/?access_token=x"),
        daemon.get(f"/?access_token={token}"),
        daemon.get("/push/"),
    ]
    for answer in answers:
        status, _, words = answer.text.strip().partition(" ")  # type: ignore[attr-defined]
        assert (answer.status, words) in SAID
        assert status == str(answer.status)


@pytest.mark.parametrize(("status", "words"), SAID)
def test_every_word_of_the_daemon_is_its_own(status: int, words: str) -> None:
    source = "".join(path.read_text() for path in (ROOT / "sinapse").rglob("*.py"))
    assert f'"{words}"' in source or f"{status} {words}" in source
