"""A Redis joins three others, and another one leaves, while everything runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from tests.support import PYTHON, RedisServer, eventually, running_named
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.flavours import FLAVOURS

T = TypeVar("T")

#: Seconds for which messages are retained: clients are back by then.
RETAIN = 20.0

SUBJECTS = [f"subject {number}" for number in range(5)]
CHANNELS = [f"room:{number}" for number in range(48)]
GROUP = "team"
MEMBERS = SUBJECTS[:2]


def is_steady(subject: str, channel: str) -> bool:
    """Whether a subject may always listen: it must hear all, whenever it comes back."""
    return (SUBJECTS.index(subject) + CHANNELS.index(channel)) % 3 == 0


#: How often a copy is killed before it may end.
KILLS = 3

#: Seconds between what a thread of the backend does and what it does next: so daemons, copies and
#: tabs have their turns.
PAUSE = 0.03

#: Rights that nobody changes: a copy takes a while, and is killed in the midst.
OTHERS = 8_000


class Tab:
    """A client that comes back whenever its stream ends, with the id that it has."""

    def __init__(self, daemon: Daemon, token: str) -> None:
        self._daemon = daemon
        self._token = token
        self._last: str | None = None
        self.heard: list[str] = []
        self.resets: list[str] = []
        self.refusals: list[int] = []
        #: The names of the Redis that its stream lacks.
        self.lacks: list[str] = []
        self._stream: Stream | None = None
        self._is_over = threading.Event()
        self.is_open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(OSError, Ended):
                self._listen()
            self.is_open.clear()
            time.sleep(0.02)

    def _listen(self) -> None:
        with self._daemon.stream(self._token, after=self._last) as stream:
            self._stream = stream
            self.lacks = []
            if stream.status != 200:
                if stream.status != 503:
                    self.refusals.append(stream.status)
                return
            while not self._is_over.is_set():
                event = stream.next()
                self.is_open.set()
                self._last = event.id or self._last
                if event.event == "degraded":
                    self.lacks = json.loads(event.data)
                elif event.event == "reset":
                    self.resets.append(event.data)
                elif event.event is None:
                    self.heard.append(event.data)

    def end(self) -> None:
        self._is_over.set()
        if self._stream is not None:
            with contextlib.suppress(OSError):  # It has ended.
                self._stream.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class Backend:
    """Publishers of all kinds, whichever is free; each channel belongs to one thread."""

    def __init__(self, url: str, seed: int) -> None:
        self.publishers = [self._publisher(kind, url) for kind in FLAVOURS]
        self.kinds = list(FLAVOURS)
        self._random = random.Random(seed)
        self._switching = [threading.Lock() for _ in self.kinds]
        #: Subjects that may hear a message, by its text.
        self.allowed: dict[str, frozenset[str]] = {}
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(CHANNELS[n::4], seed + n), daemon=True)
            for n in range(4)
        ]

    @staticmethod
    def _publisher(kind: str, url: str) -> Publisher:
        return FLAVOURS[kind](url, retain=RETAIN)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def switch(self, url: str) -> Iterator[None]:
        """Replace the publishers one after the other."""
        for number, kind in enumerate(self.kinds):
            publisher = self._publisher(kind, url)
            with self._switching[number]:
                former, self.publishers[number] = self.publishers[number], publisher
            former.close()
            yield

    def do(self, chance: random.Random, call: Callable[..., T], *its: Any) -> T:
        """Return what any publisher returns."""
        number = chance.randrange(len(self.kinds))
        with self._switching[number]:
            return call(self.publishers[number], *its)

    def _run(self, channels: list[str], seed: int) -> None:
        chance = random.Random(seed)
        own = {
            name: {subject for subject in SUBJECTS if is_steady(subject, name)} for name in channels
        }
        grouped: set[str] = set()
        count = 0
        try:
            while not self._is_over.is_set():
                channel, subject = chance.choice(channels), chance.choice(SUBJECTS)
                match chance.choice(["add", "remove", "group", "publish", "publish", "publish"]):
                    case "remove" if not is_steady(subject, channel):
                        self.do(chance, lambda it, *its: it.channels.remove(*its), subject, channel)
                        own[channel].discard(subject)
                    case "add" | "remove":
                        ends = chance.choice([None, None, 600])
                        self.do(
                            chance, lambda it, *its: it.channels.add(*its), subject, channel, ends
                        )
                        own[channel].add(subject)
                    case "group" if channel in grouped:
                        self.do(
                            chance, lambda it, its: it.groups.channels(GROUP).remove(its), channel
                        )
                        grouped.discard(channel)
                    case "group":
                        self.do(chance, lambda it, its: it.groups.channels(GROUP).add(its), channel)
                        grouped.add(channel)
                    case _:
                        count += 1
                        text = f"{channel} {seed} {count}"
                        members = MEMBERS if channel in grouped else ()
                        self.allowed[text] = frozenset({*own[channel], *members})
                        self.do(chance, lambda it, *its: it.publish(*its), channel, text)
                time.sleep(PAUSE)
        except BaseException as error:
            self.failures.append(error)
            raise

    def pause(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self.pause()
        for publisher in self.publishers:
            publisher.close()


def resharding(url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [PYTHON, "-m", "sinapse", "reshard", *arguments]
    environment = {**os.environ, "REDIS_URL": url}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def reshard(url: str, *arguments: str) -> tuple[int, str]:
    """Run the command; returns its exit code and what it says."""
    process = resharding(url, *arguments)
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    return process.returncode, said


def others_in(server: RedisServer) -> int:
    """Return how many rights of those that nobody changes are there."""
    with contextlib.closing(server.client()) as client:
        keys = list(client.scan_iter(match="sinapse:channels:other*", count=1000))
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.scard(key)
        return sum(pipeline.execute())


def ended(url: str) -> tuple[int, str]:
    """Run it to its end, once the lock of one that was killed is over."""
    while True:
        code, said = reshard(url)
        if "another one runs" not in said:
            return code, said
        time.sleep(0.3)


def kill_in_the_midst(url: str, server: RedisServer) -> None:
    """Begin to copy, and kill that when it has come further than the one before."""
    there = others_in(server)
    while True:
        process = resharding(url)
        while process.poll() is None:
            if others_in(server) > there:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return
        said, _ = process.communicate()
        assert "another one runs" in said, said
        time.sleep(0.3)


def listed(servers: dict[str, RedisServer], spec: str) -> str:
    """Return a list of Redis: ``a b d?tokens=no``."""
    return " ".join(
        f"{name}={servers[name].url}{mark}{query}"
        for name, mark, query in (each.partition("?") for each in spec.split())
    )


@contextlib.contextmanager
def nodes(folder: Path, url: str, count: int) -> Iterator[list[Daemon]]:
    with contextlib.ExitStack() as stack:
        daemons = []
        for number in range(count):
            (folder / f"node-{number}").mkdir()
            # So that one is ready when it has all of them: a token can be in any.
            node = running_daemon(folder / f"node-{number}", url, "--min-redis", "100%")
            daemons.append(stack.enter_context(node))
        yield daemons


def restart(daemon: Daemon, url: str) -> None:
    daemon.stop()
    assert "Traceback" not in daemon.log, daemon.log
    daemon.command[daemon.command.index("--redis") + 1] = url
    daemon.start()


def check(tab: Tab, subject: str, allowed: dict[str, frozenset[str]]) -> None:
    counts = Counter(tab.heard)
    assert not [text for text, count in counts.items() if count > 1], "doubled"
    wrong = [text for text in counts if subject not in allowed[text]]
    assert not wrong, f"{subject} may not hear {wrong[:5]}"


def has_all(tab: Tab, subject: str, allowed: dict[str, frozenset[str]]) -> bool:
    """Whether it has heard what it must; of a channel of a reset nothing is promised."""
    heard = set(tab.heard)
    told = {channel for reset in tab.resets for channel in json.loads(reset)["channels"]}
    return all(
        text in heard or text.split()[0] in told
        for text in allowed
        if text == "end" or is_steady(subject, text.split()[0])
    )


def check_token(daemon: Daemon, backend: Backend, number: int) -> None:
    """Check that a token works until it is cleared, by whatever publisher."""
    chance = random.Random(number)
    subject, channel = f"visitor {number}", CHANNELS[number % len(CHANNELS)]
    backend.do(chance, lambda it: it.channels.add(subject, channel))
    token = backend.do(chance, lambda it: it.tokens.generate(subject))
    with daemon.stream(token).opened() as stream:
        backend.do(chance, lambda it: it.tokens.clear(subject))
        stream.wait_for_end()
    with daemon.stream(token) as refused:
        assert refused.status == 401
    session = backend.do(chance, lambda it: it.sessions.open(subject))
    with daemon.stream(session.token).opened() as stream:
        assert backend.do(chance, lambda it: it.sessions.end(subject, session.id))
        stream.wait_for_end()
    with daemon.stream(session.token) as refused:
        assert refused.status == 401


class Story:
    """Everything that runs, with a list that changes."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, before: str) -> None:
        self.daemons = stack.enter_context(nodes(folder, before, 2))
        self.backend = Backend(before, random.randrange(1 << 30))
        stack.callback(self.backend.close)
        tokens = {}
        with Publisher(before) as publisher:
            for member in MEMBERS:
                publisher.groups.add(member, GROUP)
            with publisher.pipeline() as pipeline:  # So that a copy takes a while.
                for number in range(OTHERS):
                    pipeline.channels.add(f"other {number % 400}", f"other:{number}")
            for subject in SUBJECTS:
                steady = [channel for channel in CHANNELS if is_steady(subject, channel)]
                for channel in [f"own:{subject}", *steady]:
                    publisher.channels.add(subject, channel)
                tokens[subject] = publisher.tokens.generate(subject)
        self.tabs = {
            (subject, number): Tab(daemon, tokens[subject])
            for subject in SUBJECTS
            for number, daemon in enumerate(self.daemons)
        }
        for tab in self.tabs.values():
            stack.callback(tab.end)
            eventually(tab.is_open.is_set)
        self.backend.start()
        self._checks = 0

    def check_tokens(self) -> None:
        """Check tokens, with one daemon after the other."""
        self._checks += 1
        check_token(self.daemons[self._checks % 2], self.backend, self._checks)

    def restart(self, url: str) -> None:
        for daemon in self.daemons:
            restart(daemon, url)
        # Who is new to a Redis begins there before anything is done in it.
        eventually(
            lambda: all(tab.is_open.is_set() and not tab.lacks for tab in self.tabs.values())
        )

    def switch(self, url: str) -> None:
        """Give publishers another list, one after the other."""
        for _ in self.backend.switch(url):
            self.check_tokens()
            time.sleep(0.3)  # Those of both lists do something.

    def outlive(self, url: str) -> None:
        """Wait until nothing is retained where channels were: then one place is enough."""
        while True:
            code, said = reshard(url, "--finish", "--dry-run")
            assert code == 0, said
            if ", 0 stay" in said:
                return
            time.sleep(1)

    def finish(self, url: str) -> None:
        """Wait until what was retained elsewhere is gone."""
        while True:
            code, said = reshard(url, "--finish")
            if not code:
                return
            assert "are retained" in said, said
            time.sleep(1)

    def end(self, url: str) -> None:
        """Check what everybody has heard."""
        self.backend.pause()
        assert self.backend.failures == []
        allowed = {**self.backend.allowed, "end": frozenset(SUBJECTS)}
        with Publisher(url) as publisher:
            for subject in SUBJECTS:
                publisher.publish(f"own:{subject}", "end")
        for (subject, _), tab in self.tabs.items():
            # One Redis may be behind another one.
            eventually(
                partial(has_all, tab, subject, allowed),
                f"{subject} has all",
            )
            assert tab.refusals == []
            check(tab, subject, allowed)

    def resets(self) -> list[str]:
        return [each for tab in self.tabs.values() for each in tab.resets]


def misplaced(servers: dict[str, RedisServer], url: str) -> list[Any]:
    """Return the rights to channels that stand where these are not."""
    shards = shards_of(parse_all([url]))
    found: list[Any] = []
    for number, name in enumerate(shards.names):
        with contextlib.closing(servers[name].client()) as client:
            for key in client.scan_iter(match="sinapse:channels:*"):
                channels: Any = client.smembers(key)
                found += [each for each in channels if shards.of(each) != number]
    return found


@pytest.mark.timeout(300)
def test_one_joins_and_nothing_is_lost_doubled_or_heard_too_late(tmp_path: Path) -> None:
    with running_named(tmp_path, "abcd") as servers, contextlib.ExitStack() as stack:
        before = listed(servers, "a b c")
        joining = listed(servers, "a b c d?state=joining")
        joined = listed(servers, "d?state=joined c b a")
        after = listed(servers, "a d c b")
        story = Story(tmp_path, stack, before)
        story.restart(joining)
        story.switch(joining)
        for _ in range(KILLS):
            kill_in_the_midst(joining, servers["d"])
        there = others_in(servers["d"])
        code, said = ended(joining)
        assert code == 0, said
        assert others_in(servers["d"]) > there
        story.switch(joined)
        story.outlive(joined)
        restart(story.daemons[0], joined)
        restart(story.daemons[1], after)
        story.switch(after)
        assert story.resets() == []
        story.finish(after)
        assert misplaced(servers, after) == []
        story.restart(after)
        story.check_tokens()
        shards = shards_of(parse_all([after]))
        for reset in story.resets():  # Since it was finished.
            channels = json.loads(reset)["channels"]
            assert {shards.names[shards.of(each.encode())] for each in channels} == {"d"}
        story.end(after)
        homes = Counter(shards.of(text.split()[0].encode()) for text in story.backend.allowed)
        assert len(homes) == 4


@pytest.mark.timeout(300)
def test_one_leaves_and_nothing_is_lost_doubled_or_heard_too_late(tmp_path: Path) -> None:
    with running_named(tmp_path, "abc") as servers, contextlib.ExitStack() as stack:
        before = listed(servers, "a b c")
        leaving = listed(servers, "c?state=leaving a b")
        left = listed(servers, "b a c?state=left")
        after = listed(servers, "b a")
        story = Story(tmp_path, stack, before)
        story.switch(leaving)
        code, said = reshard(leaving)
        assert code == 0, said
        story.switch(left)
        story.outlive(left)
        story.switch(after)
        assert story.resets() == []
        story.restart(after)
        code, said = reshard(after, "--finish")
        assert code == 0, said
        servers["c"].stop()
        story.check_tokens()
        assert misplaced(servers, after) == []
        story.backend.pause()
        shards = shards_of(parse_all([before]))
        for tab in story.tabs.values():
            # What it may have missed of the one that is gone, it is told.
            for reset in tab.resets:
                channels = json.loads(reset)["channels"]
                assert {shards.names[shards.of(each.encode())] for each in channels} == {"c"}
        story.end(after)


def test_an_id_from_before_a_redis_had_its_share_is_unknown_to_it_once(tmp_path: Path) -> None:
    with running_named(tmp_path, "ab") as servers, contextlib.ExitStack() as stack:
        url = listed(servers, "a b?tokens=no")
        [daemon] = stack.enter_context(nodes(tmp_path, url, 1))
        publisher = stack.enter_context(Publisher(url))
        shards = shards_of(publisher.urls)
        for name in CHANNELS:
            publisher.channels.add("1", name)
        own = {name for name in CHANNELS if shards.names[shards.of(name.encode())] == "b"}
        token = publisher.tokens.generate("1")
        for name in CHANNELS:
            publisher.publish(name, "before")
        last = publisher.position()
        other = next(name for name in CHANNELS if name not in own)
        publisher.publish(other, "missed")
        with contextlib.closing(servers["b"].client()) as client:
            client.hset(
                "sinapse:retention", "since", client.hincrby("sinapse:retention", "counter")
            )

        def resumed() -> Event | None:
            """Return the first event, if it is a reset: the daemon asks every few seconds."""
            with daemon.stream(token, after=last).opened() as stream:
                first = stream.next()
                if first.event != "reset":
                    assert first.data == "missed"
                    return None
                assert stream.message().data == "missed"
                return first

        reset = eventually(resumed)
        assert reset is not None
        assert set(json.loads(reset.data)["channels"]) == own
        with daemon.stream(token, after=reset.id).opened() as stream:
            assert stream.message().data == "missed"
