"""Delivery is exact, whatever happens: a state machine over two real daemons and a real Redis.

Rules publish, change lists and tokens, let browser tabs come and go, and break things: daemons are
stopped for a while or killed, connections to Redis are cut, Redis is stopped for a moment or killed
and started again from its append-only file. One publisher does all of it, one step after another,
so the order of the steps, the *story*, is the order of Redis. An *instant* is a place between two
steps, named by how many steps came before it.

What a stream must have received follows from the story and the instants at which the stream joined
it:

- A *live* stream gets each message whose channel was on the list when it was published, and no
  other.
- A stream that is *behind* since an instant, because it resumes with that last event ID or because
  its node has lost Redis, gets nothing, until it joins at an instant J. It then gets, in one go,
  all retained messages of after the first instant and before J whose channels have been on the list
  from their publication to J: none of before their channel was added for the last time, and none of
  a channel that has been removed. From J on it is live.
- A node that loses Redis does not know when: it has heard what it has heard, and knows nothing of
  messages on channels that nobody there may read. So its live streams are behind since the last
  message that they got, or some instant between that and the loss; as if they had come back with
  their last event IDs.
- A new stream gets nothing before J, and is live from then on.

Only J is not known exactly: it is after the step at which the stream was asked for, and before a
step at which it was seen to be live. Hence the check: there must be a J that explains all that was
received, each message once and in order. Where no step is taken between asking and seeing, there
is one J only, and the check is an equation. A disturbed node may have lost Redis at any instant
between the disturbance and the next settling, so there a live stream may fall behind.

To *settle* is to publish to the anchor, a channel that is always on every list, and to wait until
each open stream has got that message: ids are in order, so whatever is missing then is lost. Each
rule either settles or deliberately does not, and the next steps are taken while the former ones
are under way. On each node a tab of nobody else's watches the anchor all the time, and tells that
the node is well again. Ids are checked as well: the counter goes up by one from message to message.

A stream that ended may lack the end of all this, since what was on its way was lost with it, but
not where its token was cleared: what was published before that has been delivered.

Messages that are not retained are counted separately. Each comes at most once, and only if its
channel was on the list when it was published. It must come if the stream was live at the last
settling, the channel was on the list from then on, and the node has not been disturbed since.

A tab does as a browser does: a stream that ends makes it come back with its last event ID, at
another node where its own refuses connections; after a 401 it gives up. A stream that
has opened ends with its token or its node alone; an answer without an opening, with which a node
that has lost Redis sends a browser away, is good on disturbed nodes only. No ``reset`` is ever
told, because nothing is ever lost.

``SINAPSE_EXAMPLES`` is the number of examples, for long runs by hand; ``--hypothesis-seed`` chooses
them.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from sinapse.eventid import EventID
from sinapse.keys import RETENTION
from sinapse.publisher import Publisher
from tests.daemon import Daemon, running_daemon
from tests.eventsource import EventSourceParser
from tests.proxy import Link, Proxy, unchanged
from tests.support import PATIENCE, RedisServer, eventually, running_redis

EXAMPLES = int(os.environ.get("SINAPSE_EXAMPLES", "200"))

#: Rules of an example. Long stories are made of the same races as short ones.
STEPS = 16

CHANNELS = ("a", "b", "c")
ANCHOR = "anchor"

#: The subject of each tab that comes and goes; the last subject is that of the watchers.
SLOTS = (0, 0, 1)
WATCHER = 2

#: How often each of them happens: the dear ones are rare.
FAULTS = ("cut",) * 8 + ("hiccup",) * 4 + ("kill", "restart")

#: Seconds after which a tab comes back: not those that it is told, since nobody has the time.
RECONNECTION = 0.02


@dataclass
class Node:
    """A daemon, and what was done to it."""

    daemon: Daemon
    is_stopped: bool = False
    disturbed_since: int | None = None
    """Instant since which it may have lost Redis, or be starting; None if it is well."""

    def is_disturbed(self, instant: int) -> bool:
        return self.disturbed_since is not None and instant >= self.disturbed_since

    def stop(self) -> None:
        if not self.is_stopped:
            os.kill(self.daemon.pid, signal.SIGSTOP)
            self.is_stopped = True

    def go_on(self) -> None:
        if self.is_stopped:
            os.kill(self.daemon.pid, signal.SIGCONT)
            self.is_stopped = False

    def kill(self) -> None:
        """Kill it and start it again, and wait for neither."""
        process = self.daemon.process
        assert process is not None
        process.kill()
        process.wait()
        self.is_stopped = False
        assert "Traceback" not in self.daemon.log, self.daemon.log
        self.daemon.launch()


@dataclass
class World:
    """What is kept from example to example."""

    redis: RedisServer
    nodes: list[Node]
    publisher: Publisher
    examples: int = 0

    def position(self) -> int:
        with contextlib.closing(self.redis.client()) as client:
            return int(client.hget(RETENTION, "counter") or 0)

    def cut(self) -> None:
        """Cut every connection to Redis."""
        with contextlib.closing(self.redis.client()) as client:
            for kind in ("pubsub", "normal"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        self.publisher.close()

    def restart_redis(self) -> None:
        process = self.redis.process
        assert process is not None
        process.kill()
        process.wait()
        self.redis.start()
        self.publisher.close()


@dataclass(frozen=True)
class Step:
    """A step of the story, and the lists of all subjects after it."""

    lists: tuple[frozenset[str], ...]
    channel: str | None = None
    """That of a message."""
    counter: int | None = None
    """That of a retained message."""


class Story:
    """What was done so far, in the order of Redis."""

    def __init__(self, counter: int) -> None:
        self.steps = [Step((frozenset((ANCHOR,)),) * (WATCHER + 1))]
        #: Of the last retained message.
        self.counter = counter
        self._instants = {counter: 0}

    @property
    def now(self) -> int:
        return len(self.steps)

    def list_of(self, subject: int, instant: int | None = None) -> frozenset[str]:
        return self.steps[self.now - 1 if instant is None else instant - 1].lists[subject]

    def publish(self, channel: str, *, retained: bool) -> int:
        """Add a message, and return its number."""
        if retained:
            self.counter += 1
            self._instants[self.counter] = self.now + 1
        counter = self.counter if retained else None
        self.steps.append(Step(self.steps[-1].lists, channel, counter))
        return self.now - 1

    def change(self, subject: int, channels: frozenset[str]) -> None:
        lists = list(self.steps[-1].lists)
        lists[subject] = channels
        self.steps.append(Step(tuple(lists)))

    def instant_of(self, identifier: str) -> int:
        """Return the instant after the message with that id."""
        parsed = EventID.parse(identifier)
        assert parsed is not None, identifier
        return self._instants[parsed.counter]

    def gives(self, subject: int, number: int, instant: int) -> bool:
        """Whether the list of `instant` has the channel of step `number`, if that is a message."""
        return self.steps[number].channel in self.list_of(subject, instant)

    def missed(self, subject: int, since: int, instant: int) -> list[int]:
        """Return what a stream that is behind since then gets when it joins at `instant`."""
        return [
            number
            for number in range(since, instant)
            if self.steps[number].counter is not None
            and all(self.gives(subject, number, each) for each in range(number + 1, instant + 1))
        ]


Way = tuple[int | None, int]


@dataclass
class Log:
    """One stream, or what followed the last settling of it."""

    subject: int
    node: Node
    begin: int
    """Instant from which on it can have joined."""
    since: int | None = None
    """Instant since which it is behind; None for one that is live or new."""
    live_by: int | None = None
    """Instant at which one that is live or new was seen to be live."""
    settled_at: int | None = None
    retained: list[int] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)
    latest: int = -1

    def is_explained(self, story: Story, end: int, *, whole: bool) -> bool:
        """Whether some instants of joining explain what was received.

        If it is `whole`, it is all there is until the instant `end`; otherwise there was more.
        """
        if not whole and not self.retained:
            return True
        # Ways to explain it: the instant since which the stream is behind, None if it is live;
        # and how much of what was received is explained.
        ways: set[Way] = set() if self.since is None else {(self.since, 0)}
        for instant in range(self.begin, end + 1):
            if instant > self.begin:
                ways = set(self._follow(story, instant - 1, ways))
            ways |= set(self._turn(story, instant, ways, whole=whole))
            if not whole and any(count == len(self.retained) for _, count in ways):
                return True
        return whole and (None, len(self.retained)) in ways

    def _turn(self, story: Story, instant: int, ways: set[Way], *, whole: bool) -> Iterator[Way]:
        """Open, join or fall behind at an instant, or one after the other."""
        live = [count for since, count in ways if since is None]
        if self.live_by is not None and instant <= self.live_by:
            live.append(0)
        for since, count in ways:
            if since is not None:
                missed = story.missed(self.subject, since, instant)
                received = self.retained[count : count + len(missed)]
                if received == missed or (not whole and received == missed[: len(received)]):
                    live.append(count + len(received))
        for count in live:
            yield None, count
            if self.node.is_disturbed(instant):
                latest = self.retained[count - 1] + 1 if count else self.begin
                for since in range(latest, instant + 1):
                    yield since, count

    def _follow(self, story: Story, number: int, ways: set[Way]) -> Iterator[Way]:
        """Go on by a step."""
        is_given = story.steps[number].counter is not None and story.gives(
            self.subject, number, number
        )
        for since, count in ways:
            if since is not None or not is_given:
                yield since, count
            elif self.retained[count : count + 1] == [number]:
                yield since, count + 1

    def check_plain(self, story: Story, end: int, *, whole: bool) -> None:
        assert self.plain == sorted(set(self.plain)), "out of order, or twice"
        for number in self.plain:
            assert story.gives(self.subject, number, number), f"{number} was not for it"
        if whole and self.settled_at is not None and self.node.disturbed_since is None:
            given = story.list_of(self.subject, self.settled_at)
            for number in range(self.settled_at, end):
                given &= story.list_of(self.subject, number)
                step = story.steps[number]
                if step.counter is None and step.channel in given:
                    assert number in self.plain, f"{number}, which is not retained, is missing"

    def settle(self, now: int) -> None:
        """Begin anew with a stream that is live, and has got everything."""
        self.since, self.begin, self.live_by, self.settled_at = None, now, now, now
        self.retained.clear()
        self.plain.clear()


class Body:
    """Takes a response in pieces, and gives its body: chunked for HTTP/1.1, plain for 1.0."""

    def __init__(self) -> None:
        self._received = b""
        self._head: bytes | None = None
        self._length: int | None = None
        #: It is complete, though the connection may stay open.
        self.has_ended = False

    @property
    def status(self) -> int | None:
        return None if self._head is None else int(self._head.split(maxsplit=2)[1])

    def feed(self, data: bytes) -> bytes:
        self._received += data
        if self._head is None:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return b""
            self._head, self._received = head, rest
            if length := re.search(rb"Content-Length: (\d+)", head):
                self._length = int(length[1])
        return b"".join(self._chunks() if b"chunked" in self._head else self._plain())

    def _plain(self) -> Iterator[bytes]:
        body, self._received = self._received, b""
        if self._length is not None:
            self._length -= len(body)
            self.has_ended = self._length == 0
        yield body

    def _chunks(self) -> Iterator[bytes]:
        while match := re.match(rb"([0-9a-f]+)\r\n", self._received):
            size = int(match[1], 16)
            if len(self._received) < match.end() + size + 2:
                return
            yield self._received[match.end() : match.end() + size]
            self._received = self._received[match.end() + size + 2 :]
            self.has_ended = size == 0


@dataclass
class Tab:
    """A tab of a browser, with an EventSource in it."""

    subject: int
    token: str
    node: int
    protocol: str
    roams: bool = True
    """It comes back at any node that is there."""
    wants: bool = True
    """It is open, and not to stay away for now."""
    refused: bool = False
    last_id: str | None = None
    socket: socket.socket | None = None
    log: Log | None = None
    pid: int = 0
    """The process that it is connected to."""
    opened: bool = False
    due: float = 0.0
    body: Body = field(default_factory=Body)
    parser: EventSourceParser = field(default_factory=EventSourceParser)


class Delivery(RuleBasedStateMachine):
    """One example."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        self.nodes = world.nodes
        world.examples += 1
        self.prefix = f"{os.getpid()}:{world.examples}"
        self.selector = selectors.DefaultSelector()
        self.story = Story(world.position())
        self.journal: list[str] = []
        self.tokens: dict[int, str] = {}
        self.revoked: dict[str, int] = {}
        """Tokens that were cleared, and the instants."""
        for subject in range(WATCHER + 1):
            world.publisher.channels.add(self.name(subject), self.name(ANCHOR))
            self.new_token(subject)
        self.slots = {
            slot: Tab(SLOTS[slot], self.tokens[SLOTS[slot]], node, "HTTP/1.1")
            for node, slot in enumerate((0, len(SLOTS) - 1))
        }
        self.watchers = [
            Tab(WATCHER, self.tokens[WATCHER], node, "HTTP/1.1", roams=False)
            for node in range(len(world.nodes))
        ]
        self.settle()

    def name(self, part: object) -> str:
        return f"{self.prefix}:{part}"

    def tabs(self) -> list[Tab]:
        return [*self.watchers, *self.slots.values()]

    # Rules

    @rule(
        channel=st.sampled_from(CHANNELS),
        count=st.integers(1, 3),
        retained=st.sampled_from((True, True, True, False)),
        wait=st.booleans(),
    )
    def publish(self, channel: str, count: int, retained: bool, wait: bool) -> None:
        for _ in range(count):
            self.send(channel, retained=retained)
        self.after(wait)

    @rule(subject=st.integers(0, 1), channel=st.sampled_from(CHANNELS), wait=st.booleans())
    def add_channel(self, subject: int, channel: str, wait: bool) -> None:
        self.world.publisher.channels.add(self.name(subject), self.name(channel))
        self.note(f"{channel} is added to the list of {subject}")
        self.story.change(subject, self.story.list_of(subject) | {channel})
        self.after(wait)

    @rule(subject=st.integers(0, 1), channel=st.sampled_from(CHANNELS), wait=st.booleans())
    def remove_channel(self, subject: int, channel: str, wait: bool) -> None:
        self.world.publisher.channels.remove(self.name(subject), self.name(channel))
        self.note(f"{channel} is removed from the list of {subject}")
        self.story.change(subject, self.story.list_of(subject) - {channel})
        self.after(wait)

    @rule(
        slot=st.integers(0, len(SLOTS) - 1),
        node=st.integers(0, 1),
        protocol=st.sampled_from(("HTTP/1.0", "HTTP/1.1")),
        wait=st.booleans(),
    )
    def come(self, slot: int, node: int, protocol: str, wait: bool) -> None:
        """Open a tab, or let one come back: after its page has asked for a token, if need be."""
        subject = SLOTS[slot]
        if subject not in self.tokens:
            self.new_token(subject)
        tab = self.slots.get(slot)
        if tab is None:
            tab = self.slots[slot] = Tab(subject, self.tokens[subject], node, protocol)
        elif tab.refused:
            tab.token, tab.refused = self.tokens[subject], False
        self.note(f"tab {slot} comes to node {node}")
        self.disconnect(tab)
        tab.node, tab.wants, tab.due = node, True, 0
        self.after(wait)

    @rule(slot=st.integers(0, len(SLOTS) - 1), reset=st.booleans(), for_good=st.booleans())
    def leave(self, slot: int, reset: bool, for_good: bool) -> None:
        """Close a tab, or let it lose its connection."""
        tab = self.slots.get(slot)
        if tab is not None:
            self.note(f"tab {slot} leaves")
            if reset and tab.socket is not None:
                linger = struct.pack("ii", 1, 0)
                tab.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.disconnect(tab)
            tab.wants = False
            if for_good:
                del self.slots[slot]

    @rule(subject=st.integers(0, 1), replaced=st.booleans(), wait=st.booleans())
    def revoke(self, subject: int, replaced: bool, wait: bool) -> None:
        """Clear a token, or generate a new one."""
        if replaced:
            self.new_token(subject)
        else:
            self.world.publisher.tokens.clear(self.name(subject))
            self.note_revoked(subject)
        self.after(wait)

    @rule(node=st.integers(0, 1), cut=st.booleans())
    def stop(self, node: int, cut: bool) -> None:
        """Stop a daemon for a while: what is done meanwhile it hears later, or not at all."""
        self.note(f"node {node} is stopped{' and cut off' if cut else ''}")
        self.nodes[node].stop()
        if cut:
            self.disturb(*self.nodes)
            self.world.cut()

    @rule(node=st.integers(0, 1), wait=st.booleans())
    def go_on(self, node: int, wait: bool) -> None:
        self.note(f"node {node} goes on")
        self.nodes[node].go_on()
        self.after(wait)

    @rule(fault=st.sampled_from(FAULTS), node=st.integers(0, 1), wait=st.booleans())
    def break_something(self, fault: str, node: int, wait: bool) -> None:
        self.note(f"{fault}, node {node}")
        if fault == "hiccup":
            assert self.world.redis.process is not None
            self.world.redis.process.send_signal(signal.SIGSTOP)
            self.pump(0.01)
            self.world.redis.process.send_signal(signal.SIGCONT)
        elif fault == "kill":
            self.disturb(self.nodes[node])
            self.nodes[node].kill()
        else:
            self.disturb(*self.nodes)
            self.world.cut() if fault == "cut" else self.world.restart_redis()
        self.after(wait)

    def teardown(self) -> None:
        for node in self.nodes:
            node.go_on()
        try:
            self.settle()
        finally:
            for node in self.nodes:
                node.disturbed_since = None
            for tab in self.tabs():
                tab.wants = False
                self.drop(tab)
            self.selector.close()

    # Steps

    def send(self, channel: str, *, retained: bool = True) -> int:
        number = self.story.publish(channel, retained=retained)
        self.note(f"{number} is published to {channel}{'' if retained else ', plain'}")
        retain = None if retained else 0
        self.world.publisher.publish(self.name(channel), self.name(number), retain=retain)
        return number

    def new_token(self, subject: int) -> None:
        token = self.world.publisher.tokens.generate(self.name(subject))
        self.note_revoked(subject)
        self.tokens[subject] = token

    def note_revoked(self, subject: int) -> None:
        former = self.tokens.pop(subject, None)
        if former is not None:
            self.note(f"the token of {subject} is revoked")
            self.revoked[former] = self.story.now

    def disturb(self, *nodes: Node) -> None:
        for node in nodes:
            if node.disturbed_since is None:
                node.disturbed_since = self.story.now

    def after(self, wait: bool) -> None:
        if wait:
            self.settle()
        else:
            self.pump(0)

    def settle(self) -> None:
        """Wait until nothing is under way, and check all that was received."""
        # A new stream gets what comes after its opening.
        self.wait(lambda tab: tab.last_id is not None)
        number = self.send(ANCHOR)
        sent = self.story.now

        def has_got_it(tab: Tab) -> bool:
            log = tab.log
            if log is None:
                return False
            # One that has come from a node that is stopped, and opened only now, gets later ones.
            return log.latest == number or (tab.opened and log.since is None and log.begin >= sent)

        self.wait(has_got_it)
        self.note("all is settled")
        now = self.story.now
        for tab in self.tabs():
            if tab.log is not None and tab.log.latest == number:
                self.check(tab, now, whole=True)
                tab.log.settle(now)
        for node in self.nodes:
            if not node.is_stopped:
                node.disturbed_since = None

    def wait(self, condition: Callable[[Tab], bool]) -> None:
        """Wait until it is true of all tabs that are or will be connected."""

        def is_done(tab: Tab) -> bool:
            if not tab.wants or self.nodes[tab.node].is_stopped:
                return True
            return tab.refused if tab.token in self.revoked else condition(tab)

        deadline = time.monotonic() + PATIENCE
        while waiting := [tab for tab in self.tabs() if not is_done(tab)]:
            assert time.monotonic() < deadline, self.report("nothing comes any more", *waiting)
            self.pump(RECONNECTION)

    # Tabs

    def pump(self, timeout: float) -> None:
        """Do what the tabs do, until something has come or `timeout` is over."""
        for tab in self.tabs():
            if tab.wants and tab.socket is None and not tab.refused and time.monotonic() > tab.due:
                self.connect(tab)
        for key, _ in self.selector.select(timeout):
            self.read(key.data)

    def connect(self, tab: Tab) -> None:
        try:
            daemon = self.nodes[tab.node].daemon
            tab.socket = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
            tab.pid = daemon.pid
        except ConnectionError:
            if tab.roams:
                tab.node = (tab.node + 1) % len(self.nodes)
            tab.due = time.monotonic() + RECONNECTION
            return
        resumes = "" if tab.last_id is None else f"Last-Event-ID: {tab.last_id}\r\n"
        request = (
            f"GET /?access_token={tab.token} {tab.protocol}\r\nHost: localhost\r\n"
            f"Accept: text/event-stream\r\n{resumes}\r\n"
        )
        tab.socket.sendall(request.encode())
        tab.socket.setblocking(False)
        since = None if tab.last_id is None else self.story.instant_of(tab.last_id)
        tab.log = Log(tab.subject, self.nodes[tab.node], self.story.now, since)
        tab.opened, tab.body, tab.parser = False, Body(), EventSourceParser()
        self.selector.register(tab.socket, selectors.EVENT_READ, tab)

    def read(self, tab: Tab) -> None:
        assert tab.socket is not None
        try:
            data = tab.socket.recv(65536)
        except ConnectionError:
            data = b""
        if data:
            body = tab.body.feed(data)
            if tab.body.status == 200:
                for type_, text, identifier in tab.parser.feed(body):
                    self.take(tab, type_, text, identifier)
        if not data or tab.body.has_ended:
            self.end(tab)

    def end(self, tab: Tab) -> None:
        """Do what a browser does when a response has ended."""
        node = self.nodes[tab.node]
        if tab.body.status == 401:
            assert tab.token in self.revoked, self.report("a token is not known", tab)
            tab.refused = True
        elif tab.opened:
            is_revoked, is_killed = tab.token in self.revoked, tab.pid != node.daemon.pid
            assert is_revoked or is_killed, self.report("a stream has ended", tab)
            if node.disturbed_since is None:
                settled = tab.log is not None and tab.log.settled_at is not None
                self.check(tab, self.revoked[tab.token], whole=settled)
                self.drop(tab)
        else:
            assert node.disturbed_since is not None, self.report("it was sent away", tab)
        self.disconnect(tab)
        tab.due = time.monotonic() + RECONNECTION

    def take(self, tab: Tab, type_: str, text: str, identifier: str) -> None:
        log, story = tab.log, self.story
        assert log is not None
        if type_ == "authentication":
            tab.opened = True
            if tab.last_id is None:
                log.live_by = story.now
                tab.last_id = identifier
                # Everything up to there was published before it opened.
                log.begin = max(log.begin, story.instant_of(identifier))
            return
        if type_ == "position":
            return
        assert type_ == "message", self.report(f"{type_} {text}", tab)
        number = int(text.removeprefix(self.name("")))
        if story.steps[number].counter is None:
            log.plain.append(number)
        else:
            assert story.instant_of(identifier) == number + 1, self.report("a wrong id", tab)
            log.retained.append(number)
            tab.last_id = identifier
        log.latest = number

    def disconnect(self, tab: Tab) -> None:
        if tab.log is not None:
            self.check(tab, self.story.now, whole=False)
        self.drop(tab)

    def drop(self, tab: Tab) -> None:
        if tab.socket is not None:
            self.selector.unregister(tab.socket)
            tab.socket.close()
        tab.socket = tab.log = None

    # Checking

    def check(self, tab: Tab, end: int, *, whole: bool) -> None:
        log = tab.log
        assert log is not None
        if not log.is_explained(self.story, end, whole=whole):
            raise AssertionError(self.report("lost, doubled or not allowed", tab))
        log.check_plain(self.story, end, whole=whole)

    def note(self, what: str) -> None:
        self.journal.append(f"{self.story.now}: {what}")

    def report(self, what: str, *tabs: Tab) -> str:
        return "\n".join([what, *self.journal, *map(str, tabs)])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a Redis whose data survive it, and two nodes."""
    with contextlib.ExitStack() as stack:
        always: Callable[..., RedisServer] = stack.enter_context
        server = always(running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always"))
        nodes = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            nodes.append(Node(stack.enter_context(running_daemon(folder, server.url))))
        publisher = stack.enter_context(Publisher(server.url))
        publisher.publish("first", "so that there is a counter")
        yield World(server, nodes, publisher)
        for node in nodes:
            node.go_on()
            assert "Traceback" not in node.daemon.log, node.daemon.log


@pytest.mark.timeout(60 + 2 * EXAMPLES)
def test_every_stream_gets_exactly_what_its_story_says(world: World) -> None:
    Delivery.world = world
    run_state_machine_as_test(
        Delivery,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def subscribe(publisher: Publisher, *channels: str) -> str:
    for channel in channels:
        publisher.channels.add("1", channel)
    return publisher.tokens.generate("1")


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
        assert is_waiting.wait(PATIENCE)
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
            assert is_published.wait(PATIENCE)
        return data

    def down(link: Link, data: bytes) -> bytes:
        if link in reads and not is_published.is_set():
            publisher.channels.remove("1", "room:1")
            assert is_unsubscribed.wait(PATIENCE)
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
        assert is_published.wait(PATIENCE)
        publisher.publish("room:2", "end")
        received = [stream.next().data]
        while received[-1] != "end":
            received.append(stream.next().data)
        assert received == ["granted", "end"]
