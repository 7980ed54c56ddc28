"""Runs of every kind of publisher: what pages are told, and what the block raises."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sinapse.errors import (
    BrokerUnavailable,
    InvalidMessage,
    InvalidSubject,
    MessageTooLarge,
    RunLost,
    RunOver,
    RunStopped,
)
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from sinapse.publisher.runs import RunState
from sinapse.publisher.runs.block import ERROR_TEXT
from tests.support import RedisServer, eventually, free_port, running_redis
from tests.support.flavours import Flavour
from tests.support.running import Told, pieces, told


@pytest.fixture
def publisher(flavour: Flavour, redis_server: RedisServer) -> Iterator[Publisher]:
    with flavour(redis_server.url) as publisher:
        yield publisher


class TestTheEnd:
    def test_pieces_come_in_their_order_and_then_the_end(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        sent = ["It", " is", {"done": 40}, ["a", None], 4.5, True, "ü\n"]
        with publisher.run("42", name="answer") as run:
            for piece in sent:
                run.send(piece)
        messages = told(redis_client, run.channel)
        assert pieces(messages) == sent
        about = {"run": run.id, "name": "answer"}
        assert messages[-1] == Told("end", about)
        assert all(each.data == {**about, "pieces": each.data["pieces"]} for each in messages[:-1])

    def test_many_pieces_make_few_messages(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            for number in range(500):
                run.send(number)
        messages = told(redis_client, run.channel)
        assert pieces(messages) == [*range(500)]
        assert len(messages) < 100

    def test_an_exception_is_told_with_the_text_of_the_application_and_goes_on(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with (  # noqa: PT012
            pytest.raises(KeyError, match="secret"),
            publisher.run("42", name="answer", error_text="Sorry.") as run,
        ):
            run.send("before")
            raise KeyError("secret")
        about = {"run": run.id, "name": "answer"}
        assert told(redis_client, run.channel) == [
            Told("piece", {**about, "pieces": ["before"]}),
            Told("error", {**about, "error": "Sorry."}),
        ]
        assert publisher.runs.get(run.id).state is RunState.FAILED  # type: ignore[union-attr]

    def test_there_is_a_text_if_the_application_has_none(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with pytest.raises(KeyError), publisher.run("42") as run:
            raise KeyError("secret")
        assert told(redis_client, run.channel)[-1].data["error"] == ERROR_TEXT

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_so_are_exceptions_that_are_no_errors(
        self, publisher: Publisher, redis_client: redis.Redis, kind: type[BaseException]
    ) -> None:
        with pytest.raises(kind), publisher.run("42") as run:
            raise kind
        assert [each.event for each in told(redis_client, run.channel)] == ["error"]

    def test_it_fails_with_a_text_when_the_application_says_so(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            run.send("before")
            run.fail("The model is overloaded.")
            with pytest.raises(RunOver, match="has ended"):
                run.send("after")
        messages = told(redis_client, run.channel)
        assert [each.event for each in messages] == ["piece", "error"]
        assert messages[-1].data["error"] == "The model is overloaded."

    def test_all_of_it_expires_and_the_grant_with_it(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42", retain=0.5) as run:
            run.send("piece")
            assert publisher.channels.list("42") == {run.channel}
        eventually(lambda: not redis_client.exists(PLAIN.retained_key(run.channel)))
        eventually(lambda: publisher.runs.get(run.id) is None)
        eventually(lambda: publisher.channels.list("42") == set())

    def test_a_run_without_pieces_is_told_to_end(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            pass
        assert [each.event for each in told(redis_client, run.channel)] == ["end"]


class TestBeforeTheEnd:
    def test_the_subject_may_listen_from_the_beginning_on(self, publisher: Publisher) -> None:
        with publisher.run(42) as run:
            assert publisher.channels.has("42", run.channel)

    def test_a_piece_does_not_wait_for_the_next_one(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            for number in range(3):
                run.send(number)
            eventually(lambda: pieces(told(redis_client, run.channel)) == [0, 1, 2])

    def test_a_flush_waits_until_redis_has_all(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            for number in range(10):
                run.send(number)
            run.flush()
            assert pieces(told(redis_client, run.channel)) == [*range(10)]
            run.flush()

    def test_it_is_known_to_all(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        with publisher.run("42", name="answer") as run:
            status = publisher.runs.get(run.id)
            assert status is not None
            assert (status.id, status.name, status.subject) == (run.id, "answer", "42")
            assert status.state is RunState.RUNNING
            seconds, _ = redis_client.time()
            assert status.begun <= status.seen <= seconds + 1
            # It gives signs of life while it tells nothing.
            eventually(lambda: publisher.runs.get(run.id).seen > status.seen)  # type: ignore[union-attr]
            assert redis_client.zscore(PLAIN.runs, run.id)
        status = publisher.runs.get(run.id)
        assert status is not None
        assert status.state is RunState.ENDED
        assert redis_client.zscore(PLAIN.runs, run.id) is None

    def test_a_channel_that_was_removed_meanwhile_does_not_come_back(
        self, publisher: Publisher
    ) -> None:
        with publisher.run("42") as run:
            publisher.channels.remove("42", run.channel)
            run.send("piece")
            run.flush()
            assert not publisher.channels.has("42", run.channel)
        assert not publisher.channels.has("42", run.channel)


class TestStopping:
    def test_pages_are_told_and_nothing_follows(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42", name="answer") as run:
            run.send("before")
            run.flush()
            assert not run.stopped
            assert publisher.runs.stop(run.id)
            assert not publisher.runs.stop(run.id)
            eventually(lambda: run.stopped)
            with pytest.raises(RunStopped):
                run.send("after")
            with pytest.raises(RunStopped):
                run.flush()
        assert told(redis_client, run.channel) == [
            Told("piece", {"run": run.id, "name": "answer", "pieces": ["before"]}),
            Told("stopped", {"run": run.id, "name": "answer"}),
        ]
        assert publisher.runs.get(run.id).state is RunState.STOPPED  # type: ignore[union-attr]

    def test_the_block_is_left_and_does_not_raise(self, publisher: Publisher) -> None:
        with publisher.run("42") as run:
            publisher.runs.stop(run.id)
            while True:
                run.send("piece")
                run.flush()
        assert run.stopped

    def test_what_is_raised_besides_goes_on(self, publisher: Publisher) -> None:
        with pytest.raises(KeyError), publisher.run("42") as run:  # noqa: PT012
            publisher.runs.stop(run.id)
            eventually(lambda: run.stopped)
            raise KeyError

    def test_one_that_is_over_or_unknown_is_not_stopped(self, publisher: Publisher) -> None:
        with publisher.run("42") as run:
            pass
        assert not publisher.runs.stop(run.id)
        assert not publisher.runs.stop("unknown")
        assert publisher.runs.get("unknown") is None


class TestFaults:
    def test_one_that_counts_as_lost_is_told_so(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with pytest.raises(RunLost), publisher.run("42") as run:  # noqa: PT012
            redis_client.hset(PLAIN.run_key(run.id), "state", "lost")
            while True:
                run.send("piece")
                run.flush()
        assert told(redis_client, run.channel) == []

    def test_at_its_end_too(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        with pytest.raises(RunLost, match="forgot"), publisher.run("42") as run:
            redis_client.delete(PLAIN.run_key(run.id))

    def test_pieces_wait_while_redis_is_away_and_come_in_order(
        self, flavour: Flavour, tmp_path: Path
    ) -> None:
        with running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
            with flavour(server.url) as publisher, publisher.run("42") as run:
                run.send(0)
                run.flush()
                server.kill()
                for number in range(1, 200):
                    run.send(number)
                server.start()
            with server.client() as client:
                messages = told(client, run.channel)
        assert pieces(messages) == [*range(200)]
        assert messages[-1].event == "end"

    def test_while_redis_is_away_no_more_than_its_share_is_held(
        self,
        flavour: Flavour,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("sinapse.publisher.runs.buffer.RETRY_TIMEOUT", 1.0)
        taken = 0
        with running_redis(tmp_path) as server, flavour(server.url) as publisher:
            with pytest.raises(BrokerUnavailable), publisher.run("42") as run:  # noqa: PT012
                server.kill()
                for _ in range(100):
                    run.send("x" * 5000)
                    taken += 1
            assert 12 <= taken <= 13
            with pytest.raises(BrokerUnavailable):
                run.send("x")
            server.start()

    def test_its_beginning_fails_at_once_if_redis_is_away(self, flavour: Flavour) -> None:
        with (
            flavour(f"redis://127.0.0.1:{free_port()}/0") as publisher,
            pytest.raises(BrokerUnavailable),
            publisher.run("42"),
        ):
            pytest.fail("it has begun")

    def test_the_exception_of_the_block_is_not_hidden_by_a_redis_that_is_away(
        self, flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sinapse.publisher.runs.buffer.RETRY_TIMEOUT", 0.2)
        with running_redis(tmp_path) as server, flavour(server.url) as publisher:
            with pytest.raises(KeyError) as raised, publisher.run("42"):  # noqa: PT012
                server.kill()
                raise KeyError
            assert "Redis could not be told" in raised.value.__notes__[0]
            server.start()

    def test_one_of_several_redis_has_all_of_a_run(self, flavour: Flavour, tmp_path: Path) -> None:
        folders = [tmp_path / "one", tmp_path / "two"]
        with contextlib.ExitStack() as stack:
            servers = []
            for folder in folders:
                folder.mkdir()
                servers.append(stack.enter_context(running_redis(folder)))
            publisher = stack.enter_context(flavour(" ".join(each.url for each in servers)))
            clients = [stack.enter_context(each.client()) for each in servers]
            used = set()
            for _ in range(12):
                with publisher.run("42") as run:
                    run.send("piece")
                    run.flush()
                    publisher.runs.stop(run.id)
                assert publisher.runs.get(run.id).state is RunState.STOPPED  # type: ignore[union-attr]
                [place] = [number for number, each in enumerate(clients) if told(each, run.channel)]
                assert clients[place].exists(PLAIN.run_key(run.id))
                assert clients[place].sismember(PLAIN.channels_key("42"), run.channel)
                used.add(place)
            assert used == {0, 1}


class TestBadInput:
    def test_a_run_is_used_in_its_block_only(self, publisher: Publisher) -> None:
        run = publisher.run("42")
        with pytest.raises(RunOver, match="has not begun"):
            run.send("piece")
        with run:
            pass
        for use in (lambda: run.send("piece"), run.flush, lambda: run.fail("text")):
            with pytest.raises(RunOver, match="has ended"):
                use()
        with pytest.raises(RunOver, match="begins once"):
            run.__enter__()

    def test_pieces_that_cannot_be_sent_are_refused_and_the_run_goes_on(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with publisher.run("42") as run:
            for piece in (b"bytes", {1}, float("inf"), "\ud800"):
                with pytest.raises(InvalidMessage):
                    run.send(piece)
            with pytest.raises(MessageTooLarge):
                run.send("x" * 2**20)
            with pytest.raises(InvalidMessage):
                run.fail(None)  # type: ignore[arg-type]
            run.send("good")
        assert pieces(told(redis_client, run.channel)) == ["good"]

    @pytest.mark.parametrize("name", ["", "x" * 129, "line\nbreak", None, 1])
    def test_names(self, publisher: Publisher, name: str) -> None:
        with pytest.raises(ValueError, match="the name of a run"):
            publisher.run("42", name=name)

    @pytest.mark.parametrize("retain", [0, -1, 10**9, float("nan"), "1", None])
    def test_retention(self, publisher: Publisher, retain: float) -> None:
        with pytest.raises(ValueError, match="retain is seconds"):
            publisher.run("42", retain=retain)

    def test_subjects_and_texts(self, publisher: Publisher) -> None:
        with pytest.raises(InvalidSubject):
            publisher.run("")
        with pytest.raises(InvalidMessage):
            publisher.run("42", error_text=ValueError("it"))  # type: ignore[arg-type]

    @pytest.mark.parametrize("run", [1, None, b"x"])
    def test_ids(self, publisher: Publisher, run: str) -> None:
        for ask in (publisher.runs.get, publisher.runs.stop):
            with pytest.raises(ValueError, match=re.compile("id of a run")):
                ask(run)

    @pytest.mark.parametrize("run", ["", "x" * 65, "ü", "a\nb"])
    def test_a_text_that_no_id_is_like_is_unknown(self, publisher: Publisher, run: str) -> None:
        """It comes from strangers, in the path of a request."""
        assert publisher.runs.get(run) is None
        assert not publisher.runs.stop(run)
