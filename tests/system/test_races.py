"""Authorisation is exact in any race, with the real daemon on a real Redis.

Each example makes a story of publishing, adding, removing, opening and closing for one subject,
and lets it run as fast as it can, without waiting for anything between two steps. Redis' order is
the order of the story, since one publisher does it all. What each stream may have received
follows from the story alone:

- nothing that was published to a channel that was not on the list at that moment;
- all that was published with retention, after it was known to be open, to channels that were on
  the list at that moment;
- without retention, only if the channel was on the list all the time since the stream was asked
  for: for one that is added later the daemon has to subscribe first, and what is published before
  it has reaches nobody, as the number that PUBLISH returns tells.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer
from tests.support.daemon import Daemon, Ended, Stream

CHANNELS = ("race:1", "race:2", "race:3")

#: Always on the list, so that the streams stay open, and what says that a story has ended.
ANCHOR = "race:anchor"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("add"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("remove"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("open"), st.just("")),
    ),
    min_size=1,
    max_size=40,
)

subjects = itertools.count(1)


class Published(NamedTuple):
    """A message of the story."""

    channel: str
    since: int | None
    """The step that put the channel on the list; None if it was not on it."""


@dataclass
class Reader:
    """A stream that is read in a thread of its own until the story ends."""

    daemon: Daemon
    token: str
    asked_at: int
    """The step that asked for it."""
    received: list[int] = field(default_factory=list)
    open_at: int | None = None
    """Messages of the story when it was first known to be open."""
    is_open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        with self.daemon.stream(self.token) as stream:
            self.follow(stream)

    def follow(self, stream: Stream) -> None:
        try:
            stream.opened()
            self.is_open.set()
            while (number := int(stream.next().data)) >= 0:
                self.received.append(number)
        except Ended:
            pass

    def check(self, story: list[Published], *, retained: bool) -> None:
        """Compare what was received with the story."""
        assert self.received == sorted(set(self.received)), "out of order, or twice"
        for number in self.received:
            assert story[number].since is not None, f"message {number} was never for this subject"
        for number, message in enumerate(story):
            is_listed = message.since is not None and (retained or message.since < self.asked_at)
            if is_listed and self.open_at is not None and number >= self.open_at:
                assert number in self.received, f"message {number} is missing"


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, start=st.sets(st.sampled_from(CHANNELS)), retained=st.booleans())
def test_a_stream_gets_what_its_subject_may_read_and_nothing_else(
    daemon: Daemon,
    redis_server: RedisServer,
    steps: list[tuple[str, str]],
    start: set[str],
    retained: bool,
) -> None:
    subject = str(next(subjects))
    with Publisher(redis_server.url) as publisher:
        since = dict.fromkeys((ANCHOR, *start), -1)
        for channel in since:
            publisher.channels.add(subject, channel)
        token = publisher.tokens.generate(subject)
        readers = [Reader(daemon, token, 0)]
        story: list[Published] = []
        for step, (action, channel) in enumerate(steps):
            for reader in readers:
                if reader.open_at is None and reader.is_open.is_set():
                    reader.open_at = len(story)
            if action == "publish":
                publisher.publish(channel, str(len(story)), retain=60 if retained else 0)
                story.append(Published(channel, since.get(channel)))
            elif action == "add":
                publisher.channels.add(subject, channel)
                since.setdefault(channel, step)
            elif action == "remove":
                publisher.channels.remove(subject, channel)
                since.pop(channel, None)
            else:
                readers.append(Reader(daemon, token, step))
        for reader in readers:
            assert reader.is_open.wait(EVENT_TIMEOUT)
        publisher.publish(ANCHOR, "-1", retain=60 if retained else 0)
        for reader in readers:
            reader.thread.join(EVENT_TIMEOUT)
            assert not reader.thread.is_alive()
            reader.check(story, retained=retained)
