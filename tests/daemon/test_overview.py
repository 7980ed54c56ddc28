"""The administration endpoint of a node with workers: what one node would say."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.admin.metrics import BY_REASON, GAUGES, HISTOGRAMS, TOTALS, blank, exposition
from sinapse.daemon.workers.client import WORKER_ANSWER_TIMEOUT as ANSWER
from sinapse.daemon.workers.totals import LASTING, add, lasting, one_subject, top_channels, total
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually
from tests.support.daemon import Stream
from tests.support.workers import SERVES, Workers, alive, running_workers


@pytest.fixture(scope="module")
def shared(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Return two workers."""
    folder = tmp_path_factory.mktemp("overview")
    with running_workers(folder, redis_process.url) as workers:
        yield workers
        assert "Traceback" not in workers.daemon.log
        # It asks again and again, and nobody wants to read of it.
        assert "HTTP11ClientFactory" not in workers.daemon.log


@pytest.fixture
def workers(shared: Workers, redis_server: RedisServer) -> Workers:
    shared.all_serve()
    eventually(lambda: shared.daemon.admin("/ready").status == 200)
    return shared


@pytest.fixture
def token(publisher: Publisher) -> str:
    publisher.channels.add("a/b", "room:1")
    return publisher.tokens.generate("a/b")


def ask(workers: Workers, path: str, method: str = "GET") -> dict[str, Any]:
    text = workers.daemon.admin(path, method).text  # type: ignore[attr-defined]
    answer: dict[str, Any] = json.loads(text)
    return answer


def received(streams: dict[int, Stream], data: str) -> None:
    for stream in streams.values():
        stream.wait_for_message(data)


def test_figures_are_those_of_all_workers(
    workers: Workers, publisher: Publisher, token: str
) -> None:
    before = workers.daemon.metrics()
    with workers.one_of_each(token) as streams:
        publisher.publish("room:1", "1")
        received(streams, "1")
        seen = workers.daemon.metrics()
        told = ask(workers, "/status")
    # Some worker may have got more than one on the way.
    assert seen["sinapse_streams"] == told["streams"] >= 2
    assert seen["sinapse_messages_total"] - before["sinapse_messages_total"] == 2
    assert seen["sinapse_deliveries_total"] - before["sinapse_deliveries_total"] == told["streams"]
    assert seen["sinapse_fan_out_seconds_count"] - before["sinapse_fan_out_seconds_count"] == 2
    assert seen["sinapse_redis_up"] == seen["sinapse_build_info"] == 1
    assert seen["sinapse_workers_wanted"] == seen["sinapse_workers_serving"] == 2
    parent = seen["process_resident_memory_bytes parent"]
    assert seen["process_resident_memory_bytes"] > parent > 0
    assert seen["process_resident_memory_bytes 1"] > 0
    assert (told["redis"], told["ready"]) == ("connected", True)
    assert told["pid"] == workers.daemon.pid
    assert [each["number"] for each in told["workers"]] == [1, 2]
    assert sum(each["streams"] for each in told["workers"]) == told["streams"]
    assert {each["pid"] for each in told["workers"]} == set(streams)
    assert seen["process_resident_memory_bytes ear"] > 0
    assert told["ear"] == {"pid": workers.ear(), "serves": True, "answers": True, "ends": 0}


def test_a_subject_is_looked_up_and_ended_everywhere(
    workers: Workers, publisher: Publisher, token: str
) -> None:
    path = f"/subjects/{quote('a/b', safe='')}"
    publisher.channels.add("a/b", "room:2")
    with workers.one_of_each(token) as streams:
        found = ask(workers, path)
        assert found["subject"] == "a/b"
        assert found["channels"] == ["room:1", "room:2"]
        assert {each["worker"] for each in found["streams"]} == {1, 2}
        ended = ask(workers, path, "DELETE")
        assert ended["ended"] == len(found["streams"])
        for stream in streams.values():
            stream.wait_for_end()
    assert ask(workers, path)["streams"] == []


def test_channels_are_ordered_by_the_sum(
    workers: Workers, publisher: Publisher, token: str
) -> None:
    publisher.channels.add("2", "room:2")
    other = publisher.tokens.generate("2")
    with workers.one_of_each(token), workers.daemon.stream(other).opened():
        found = ask(workers, "/channels?top=1")
        assert found["total"] == 2
        assert [each["channel"] for each in found["channels"]] == ["room:1"]
        assert found["channels"][0]["streams"] >= 2
    assert workers.daemon.admin("/channels?top=0").status == 400
    assert workers.daemon.admin("/").status == 200


def test_counters_outlive_a_worker(workers: Workers, publisher: Publisher, token: str) -> None:
    with workers.one_of_each(token) as streams:
        publisher.publish("room:1", "1")
        received(streams, "1")
        before, ends = workers.daemon.metrics(), ask(workers, "/status")["worker_ends"]
        assert before["sinapse_messages_total"] >= 2
        os.kill(workers.all_serve()[1], signal.SIGKILL)
        eventually(lambda: ask(workers, "/status")["worker_ends"] > ends)
        # Whether there is another one already or not.
        during = workers.daemon.metrics()
    workers.all_serve()
    eventually(lambda: workers.daemon.admin("/ready").status == 200)
    after = workers.daemon.metrics()
    names = [name for name in before if name.startswith("sinapse_") and "_total" in name]
    assert len(names) > 10
    for seen in (during, after):
        assert [name for name in names if seen[name] < before[name]] == []
    assert after["sinapse_redis_connects_total"] > before["sinapse_redis_connects_total"]


def test_a_worker_that_does_not_answer_is_left_out(workers: Workers) -> None:
    before = workers.daemon.metrics()
    silent = workers.all_serve()[2]
    os.kill(silent, signal.SIGSTOP)
    try:
        started = time.monotonic()
        told = ask(workers, "/status")
        assert time.monotonic() - started >= ANSWER / 2
        assert [each["answers"] for each in told["workers"]] == [True, False]
        seen = workers.daemon.metrics()
        assert seen["sinapse_worker_silences_total"] > before["sinapse_worker_silences_total"]
        assert seen["sinapse_redis_connects_total"] >= before["sinapse_redis_connects_total"]
        assert "process_resident_memory_bytes 2" not in seen
        answer = workers.daemon.admin("/ready")
        assert answer.status == 503
        assert answer.text == "503 1 of 2 workers are ready\n"  # type: ignore[attr-defined]
    finally:
        os.kill(silent, signal.SIGCONT)
    eventually(lambda: workers.daemon.admin("/ready").status == 200)


def test_a_worker_that_drains_is_told_of(workers: Workers, token: str) -> None:
    served = len(SERVES.findall(workers.daemon.log))
    draining = workers.all_serve()[1]
    os.kill(draining, signal.SIGTERM)
    eventually(lambda: not alive(draining))
    eventually(lambda: len(SERVES.findall(workers.daemon.log)) > served)
    assert "exit code" not in workers.daemon.log
    eventually(lambda: ask(workers, "/status")["workers_serving"] == 2)


# Adding up.

NUMBERS = st.recursive(
    st.integers(0, 1000),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def shaped(sample: st.DataObject, shape: Any) -> Any:
    """Return an object of the same names and depths, some of them left out."""
    if not isinstance(shape, dict):
        return sample.draw(st.integers(0, 1000))
    return {
        name: shaped(sample, inner) for name, inner in shape.items() if sample.draw(st.booleans())
    }


@given(st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=3), st.data())
def test_the_order_makes_no_difference(shape: dict[str, Any], sample: st.DataObject) -> None:
    one, other, third = (shaped(sample, shape) for _ in range(3))
    assert add(one, other) == add(other, one)
    assert add(add(one, other), third) == add(one, add(other, third))
    assert add(one, {}) == one


def figures(**changes: Any) -> dict[str, Any]:
    histogram = {"buckets": {"0.1": 1, "+Inf": 2}, "sum": 3.0}
    return {**blank(), "redis_up": 1, **dict.fromkeys(HISTOGRAMS, histogram), **changes}


def test_what_is_absent_has_only_what_lasts() -> None:
    here = figures(streams=2, messages=3, streams_closed={"client gone": 1}, pid=9, redis="on")
    gone = figures(streams=5, messages=7, streams_closed={"client gone": 1, "slow consumer": 1})
    whole = total([here], [gone])
    assert whole["streams"] == 2
    assert whole["messages"] == 10
    assert whole["streams_closed"] == {"client gone": 2, "slow consumer": 1}
    assert whole["fan_out_seconds"] == {"buckets": {"0.1": 2, "+Inf": 4}, "sum": 6.0}
    assert "pid" not in whole
    assert set(lasting(gone)) == set(LASTING)


def test_redis_is_there_if_it_is_for_all() -> None:
    assert total([figures(), figures()], [])["redis_up"] == 1
    assert total([figures(), figures(redis_up=0)], [])["redis_up"] == 0
    assert total([], [figures()])["redis_up"] == 0
    one, other = figures(redis_by_name={"a": 1, "b": 1}), figures(redis_by_name={"a": 1, "b": 0})
    assert total([one, other], [])["redis_by_name"] == {"a": 1, "b": 0}
    assert total([], [one])["redis_by_name"] == {}


def test_a_node_whose_workers_are_all_silent_still_has_figures() -> None:
    text = exposition("", total([], []), prefix="")[0].decode()
    for name in (*GAUGES, *(f"{name}_total" for name in TOTALS)):
        assert f"sinapse_{name} 0.0" in text
    for name in BY_REASON:
        assert f"# TYPE sinapse_{name}_total counter" in text


def test_parts_of_a_subject_become_one() -> None:
    parts = {
        1: {"subject": "1", "channels": ["b"], "streams": [{"age": 1}]},
        2: {"subject": "1", "channels": ["a", "b"], "streams": [{"age": 2}]},
    }
    assert one_subject(parts) == {
        "channels": ["a", "b"],
        "streams": [{"age": 1, "worker": 1}, {"age": 2, "worker": 2}],
    }


def test_the_first_of_all_need_not_be_the_first_of_any() -> None:
    def channel(name: str, streams: int) -> dict[str, Any]:
        return {"channel": name, "streams": streams, "messages": 1}

    parts = [
        {"total": 2, "channels": [channel("a", 5), channel("c", 4)]},
        {"total": 2, "channels": [channel("b", 5), channel("c", 4)]},
    ]
    found = top_channels(parts, 2, "streams")
    assert found["total"] == 3
    assert found["channels"][0] == {"channel": "c", "streams": 8, "messages": 2}
    assert len(found["channels"]) == 2
