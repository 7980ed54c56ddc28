"""``sinapse relay``: what it sends, what it refuses in one line, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, MetaData, create_engine, select
from sqlalchemy.orm import Session

from sinapse.cli import main
from sinapse.publisher import Publisher, use
from sinapse.publisher.sqlalchemy import publish
from sinapse.publisher.sqlalchemy.table import NAME, table_of
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port
from tests.support.daemon import ROOT
from tests.support.listening import Listener, heard

METADATA = MetaData()
MESSAGES = table_of(METADATA, NAME, None)


@pytest.fixture(autouse=True)
def _redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def keep(engine: Engine, *messages: str) -> None:
    """Let messages wait."""
    with Publisher(f"redis://127.0.0.1:{free_port()}") as nobody:
        former = use(nobody)
        with Session(engine, info={"outbox": MESSAGES}) as session, session.begin():
            for message in messages:
                publish(session, "news", message)
        use(former)


def waiting(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(MESSAGES.c.message)))


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["relay", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def one_line(*arguments: str, code: int = 1) -> str:
    [line] = run(*arguments, code=code).stderr.splitlines()
    return line.removeprefix("Error: ")


class TestOnce:
    @pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
    def test_it_sends_what_is_there(
        self, engine: Engine, driver: str, tmp_path: Path, listener: Listener
    ) -> None:
        keep(engine, "1", "2")
        place = tmp_path / "test.db"
        result = run("--once", "--database", f"{driver}:///{place}")
        assert result.stdout == f"sqlite:///{place}: 2 sent, 0 wait.\n"
        assert heard(listener) == [("news", "1"), ("news", "2")]
        assert waiting(engine) == []

    def test_the_environment_may_name_the_database(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", str(engine.url))
        assert "0 sent, 0 wait." in run("--once").stdout
        monkeypatch.setenv("DATABASE_URL", "nothing")
        assert one_line("--once").startswith("DATABASE_URL must be a URL")

    def test_several_databases_are_done_in_turn(self, engine: Engine, tmp_path: Path) -> None:
        other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
        METADATA.create_all(other)
        keep(engine, "1")
        keep(other, "2", "3")
        urls = (str(engine.url), str(other.url))
        result = run("--once", *(part for url in urls for part in ("--database", url)))
        assert result.stdout == f"{urls[0]}: 1 sent, 0 wait.\n{urls[1]}: 2 sent, 0 wait.\n"
        other.dispose()

    def test_one_that_is_away_keeps_nothing_of_others_waiting(
        self, engine: Engine, listener: Listener
    ) -> None:
        keep(engine, "1")
        away = f"postgresql+psycopg://ada@127.0.0.1:{free_port()}/shop"
        result = run("--once", "--database", away, "--database", str(engine.url), code=69)
        assert result.stdout == f"{engine.url}: 1 sent, 0 wait.\n"
        assert result.stderr.startswith(f"Error: --database {away}: ")
        assert heard(listener) == [("news", "1")]

    def test_what_redis_does_not_take_waits(self, engine: Engine) -> None:
        keep(engine, "1")
        redis = f"redis://127.0.0.1:{free_port()}"
        result = run("--once", "--database", str(engine.url), "--redis", redis, code=69)
        assert "0 sent, 1 wait." in result.stdout
        [line] = result.stderr.splitlines()
        assert line.startswith(f"Error: Redis at {redis}")


class TestRefusals:
    def test_without_a_database_it_says_how_to_name_one(self) -> None:
        assert "--database is needed, or DATABASE_URL" in run(code=2).stderr

    def test_a_url_that_is_none_is_not_shown(self) -> None:
        line = one_line("--database", "secret")
        assert line == "--database must be a URL, as postgresql+psycopg://user@host/database"

    def test_no_part_of_a_password_is_taken_for_the_host(self) -> None:
        line = one_line("--database", "postgresql+psycopg://ada:se@cret@host/shop")
        assert line == "--database must have %40 for each @ of its user and its password"

    @pytest.mark.parametrize(
        ("driver", "told"),
        [
            ("nothing", "SQLAlchemy knows no nothing"),
            ("postgresql+nothing", "SQLAlchemy knows no postgresql+nothing"),
            ("mssql+pymssql", "pymssql is not installed"),
        ],
    )
    def test_a_driver_that_is_not_there_is_named(self, driver: str, told: str) -> None:
        line = one_line("--database", f"{driver}://ada:secret@host/shop?password=hidden")
        assert line == f"--database {driver}://ada:***@host/shop: {told}"

    def test_a_table_that_is_not_there_is_named(self, engine: Engine) -> None:
        url = str(engine.url)
        assert one_line("--database", url, "--table", "letters") == (
            f"--database {url}: there is no table letters: see --table"
        )

    def test_a_database_that_does_not_answer_is_told_in_one_line(self) -> None:
        url = f"postgresql+psycopg://ada:secret@127.0.0.1:{free_port()}/shop"
        line = one_line("--once", "--database", url, code=69)
        assert line.startswith(f"--database {url.replace('secret', '***')}: ")

    def test_one_that_is_given_twice_is_refused(self, engine: Engine) -> None:
        twice = ("--database", str(engine.url)) * 2
        assert one_line("--once", *twice) == "--database: one is given twice"

    @pytest.mark.parametrize("address", ["x", "70000", "127.0.0.1:", "a:b:c"])
    def test_an_address_that_is_none_is_refused(self, engine: Engine, address: str) -> None:
        line = one_line("--database", str(engine.url), "--metrics", address)
        assert line.startswith(f"--metrics {address}: ")

    def test_without_sqlalchemy_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.startswith("sinapse.publisher.sqlalch")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        line = one_line("--database", "sqlite://")
        assert line == "sqlalchemy is not installed: pip install 'sinapse-push[sqlalchemy]'"


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_sends_until_it_is_told_to_end_and_says_what_it_has_done(
    engine: Engine,
    driver: str,
    number: signal.Signals,
    tmp_path: Path,
    listener: Listener,
) -> None:
    port = free_port()
    host = "" if number == signal.SIGTERM else "[::1]:"
    base = f"http://{host or '127.0.0.1:'}{port}"
    url = f"{driver}:///{tmp_path / 'test.db'}"
    process = subprocess.Popen(
        [PYTHON, "-m", "sinapse", "relay", "--database", url, "--metrics", f"{host}{port}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )

    def metrics() -> str:
        with contextlib.suppress(OSError), urlopen(f"{base}/metrics") as found:
            assert found.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return str(found.read().decode())
        return ""

    try:
        told = f'{{outbox="sqlite:///{tmp_path / "test.db"}"}}'
        assert f"sinapse_outbox_waiting{told} 0" in eventually(metrics)
        keep(engine, "hello")
        eventually(lambda: ("news", "hello") in heard(listener))
        eventually(lambda: f"sinapse_outbox_sent_total{told} 1" in metrics())
        process.send_signal(number)
        _, said = process.communicate(timeout=EVENT_TIMEOUT)
    finally:
        end(process)
    assert (process.returncode, said) == (0, b"")
