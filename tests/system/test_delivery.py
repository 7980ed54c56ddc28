"""Delivery is exact, whatever happens: long stories over real daemons and real Redis.

See :mod:`tests.stories`. 66 are told here; ``SINAPSE_STORIES`` is how many times as many, for long
runs by hand, and ``SINAPSE_SEED`` the seed of the first one of each kind. Behind them stand single
cases that were found so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.stories.teller import Counts, Teller
from tests.stories.world import world
from tests.support import EVENT_TIMEOUT, eventually, running_redis
from tests.support.daemon import Daemon, running_daemon
from tests.support.proxy import Link, Proxy, unchanged
from tests.support.subscribing import subscribe

#: Stories of each kind: the less can go wrong in it that is not in another, the fewer.
STORIES = {"nodes": 16, "loss": 16, "databases": 7, "workers": 7, "two": 10, "three": 10}

TIMES = int(os.environ.get("SINAPSE_STORIES", "1"))
SEED = int(os.environ.get("SINAPSE_SEED", "1"))


@pytest.mark.parametrize("mode", STORIES)
@pytest.mark.timeout(600 * (1 + TIMES))
def test_everybody_gets_what_the_story_says_and_nothing_else(
    tmp_path: Path, mode: str, record_property: Callable[[str, object], None]
) -> None:
    counts = Counts()
    began = time.monotonic()
    try:
        with world(tmp_path, mode) as place:
            for seed in range(SEED, SEED + TIMES * STORIES[mode]):
                Teller(place, seed, counts, tmp_path).tell()
    finally:
        summary = f"{mode}: {counts}; {time.monotonic() - began:.0f} s"
        record_property("stories", summary)
        print(summary)  # noqa: T201  # Shown by hand, and where it fails.


def until_nobody_listens(publisher: Publisher, channel: str) -> None:
    eventually(lambda: publisher.publish(channel, "nobody", retain=0) == 0)


@pytest.mark.parametrize("resumes", [False, True], ids=["new", "resumed"])
def test_what_a_stream_began_with_does_not_come_again_after_a_break(
    distant: Daemon, proxy: Proxy, publisher: Publisher, resumes: bool
) -> None:
    """The node has never heard that message: it was read, or was there before."""
    token = subscribe(publisher, "room:1")
    with distant.stream(token).opened() as stream:
        last = stream.position
    until_nobody_listens(publisher, "room:1")
    publisher.publish("room:1", "before")
    with distant.stream(token, after=last if resumes else None).opened() as stream:
        if resumes:
            assert stream.next().data == "before"
        proxy.cut()
        publisher.publish("room:1", "end")
        assert stream.next().data == "end"


def test_a_break_while_a_node_waits_for_its_subscription_passes(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    """Only the subscriber connection is lost, and with it what a new channel waits for."""
    waiting: list[Link] = []
    is_waiting = threading.Event()

    def up(link: Link, data: bytes) -> bytes:
        if link.is_subscriber and (waiting or b"room:2" in data):
            waiting.append(link)
            is_waiting.set()
            return b""
        return data

    with distant.stream(subscribe(publisher, "room:1")).opened() as stream:
        proxy.up = up
        publisher.channels.add("1", "room:2")
        assert is_waiting.wait(EVENT_TIMEOUT)
        proxy.up = unchanged
        waiting[0].cut()
        publisher.publish("room:2", "granted")
        assert stream.next().data == "granted"


def test_a_channel_that_is_withdrawn_and_granted_again_during_a_replay_begins_anew(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    """The node is not subscribed for a moment, and history has been read before it is again."""
    is_unsubscribed, is_published = threading.Event(), threading.Event()
    reads: list[Link] = []

    def up(link: Link, data: bytes) -> bytes:
        if not link.is_subscriber:
            if b"sinapse:retained:room:1" in data:
                reads.append(link)
        elif b"UNSUBSCRIBE" in data:
            is_unsubscribed.set()
        elif reads and b"SUBSCRIBE" in data:
            assert is_published.wait(EVENT_TIMEOUT)
        return data

    def down(link: Link, data: bytes) -> bytes:
        if link in reads and not is_published.is_set():
            publisher.channels.remove("1", "room:1")
            assert is_unsubscribed.wait(EVENT_TIMEOUT)
            until_nobody_listens(publisher, "room:1")
            publisher.channels.add("1", "room:1")
            publisher.publish("room:1", "granted")
            is_published.set()
        return data

    token = subscribe(publisher, "room:1", "room:2")
    with distant.stream(token).opened() as stream:
        last = stream.position
    publisher.publish("room:1", "missed")
    until_nobody_listens(publisher, "room:2")
    proxy.up, proxy.down = up, down
    with distant.stream(token, after=last).opened() as stream:
        assert is_published.wait(EVENT_TIMEOUT)
        publisher.publish("room:2", "end")
        received = [stream.next().data]
        while received[-1] != "end":
            received.append(stream.next().data)
        assert received == ["granted", "end"]


@pytest.mark.parametrize("joins", [False, True], ids=["channel of a group", "joined"])
def test_a_grant_that_is_over_is_no_right_beside_that_of_a_group(
    tmp_path: Path, joins: bool
) -> None:
    """No node has ended it: what a new right brings of the past comes all the same."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path))
        publisher = stack.enter_context(Publisher(redis.url))
        publisher.publish("news", "past", replay=10)
        token = subscribe(publisher, "room:1")
        publisher.channels.add("1", "news", expires_in=0.01)
        page = publisher.position()
        eventually(lambda: "news" not in publisher.channels.list("1"))
        team = publisher.groups.channels("team")
        if joins:
            team.add("news")
            publisher.groups.add("1", "team")
        else:
            publisher.groups.add("1", "team")
            team.add("news")
        daemon = stack.enter_context(running_daemon(tmp_path, redis.url))
        stream = stack.enter_context(daemon.stream(token, after=page).opened())
        publisher.publish("room:1", "end")
        assert [stream.next().data, stream.next().data] == ["past", "end"]
