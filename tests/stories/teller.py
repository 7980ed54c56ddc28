"""A story told with dice: what happens next, and whether all that came of it is right."""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import signal
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sinapse.protocol.keys import INBOXES
from sinapse.protocol.names import PLAIN
from sinapse.protocol.sharding import shard_of
from sinapse.publisher.operations.messages import INBOX_RETAIN
from tests.stories.model import PART, PASTS, Record, Rights, Story, Token
from tests.stories.tabs import Browser, Item
from tests.stories.world import LOSSY, World
from tests.support import EVENT_TIMEOUT
from tests.support.proxy import away

SUBJECTS = 40
MESSAGES = 150
TABS = 12
CHANNELS = ("a", "b", "c", "a.small", "b.small", "a.past", "b.past")

#: Kinds of tokens for the whole list: of a subject by its class, and of a session; and one of a
#: session that is for a part of it.
KINDS = ("User", "Tablet", "session")
PARTIAL = "partial session"
SESSIONS = ("session", PARTIAL)

#: By subject and channel, monotonic seconds between which a grant ends.
Ends: TypeAlias = dict[tuple[int, str], tuple[float, float]]
TRANSPORTS = ("sse", "sse", "sse", "http10", "ws", "poll")
RETAINS = (0.0, 0.05, 1.0, 300.0, 300.0, 300.0, 300.0, 86400.0)

GROUPS = ("g", "h")

#: What streams are called; None for nothing.
NAMES = (None, "mine", "other")

#: Seconds until a grant ends, if it does.
LIVES = (0.02, 0.1, 0.5, 3.0)

#: Seconds around the end of a grant in which it is changed by nobody else: a slow machine may take
#: as long for a change.
CLOSE = 0.2

#: Seconds in which nodes that were cut off come back, and read the lists.
CHURN = 0.2

#: Seconds after which a tab comes back: not those that it is told, since nobody has the time.
RECONNECTION = 0.02


def _inbox(part: object) -> int | None:
    """Return whose inbox a channel is of which this is the name here; None if it is another one."""
    _, inbox, subject = str(part).rpartition("inbox")
    return int(subject) if inbox else None


@dataclass
class Tab:
    """A page that is open in a browser, wherever its connection is at the moment."""

    record: Record
    token: Token
    kind: str
    node: int
    last: str | None = None
    browser: Browser | None = None
    is_open: bool = False
    is_refused: bool = False
    wants: bool = True
    due: float = 0.0
    anchors: set[int] = field(default_factory=set)


@dataclass
class Counts:
    """What was checked, and what was wrong."""

    stories: int = 0
    deliveries: int = 0
    required: int = 0
    resets: int = 0
    streams: int = 0
    degraded: int = 0
    """Streams that were told that a Redis is away."""
    wrong: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = ("doubled", "late", "lost", "forbidden", "past", "needless")
        faults = ", ".join(f"{self.wrong[kind]} {kind}" for kind in kinds)
        return (
            f"{self.stories} stories, {self.streams} streams, {self.deliveries} deliveries, "
            f"{self.required} of them required, {self.resets} resets, "
            f"{self.degraded} without one of several Redis: {faults}"
        )


class Teller:
    """Tells one story in a world."""

    def __init__(self, world: World, seed: int, counts: Counts, folder: Path) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.seed = seed
        self.counts = counts
        self.folder = folder
        world.stories += 1
        self.prefix = f"{seed}."
        self.story = Story()
        self.journal: list[str] = []
        self.awaited: set[int] = set()
        self.wrong: Counter[str] = Counter()
        self.tokens: dict[tuple[int, str], Token] = {}
        self.tabs: list[Tab] = []
        self.selector = selectors.DefaultSelector()
        self.snapshot: tuple[int, Rights, set[str], Ends] | None = None
        #: Grants that end: between which moments.
        self.ends: Ends = {}
        count = len(world.servers)
        self.anchors = [
            next(name for n in range(999) if self.shard(name := f"anchor{n}") == shard)
            for shard in range(count)
        ]
        self.look_at_counters()
        with world.publisher.pipeline() as pipe:
            for subject in range(SUBJECTS):
                names = [*self.anchors, *self.dice.sample(CHANNELS, self.dice.randint(0, 4))]
                for name in names:
                    pipe.channels.add(self.name(subject), self.name(name))
                    self.story.add(subject, name)
                for group in self.dice.sample(GROUPS, self.dice.randint(0, 2)):
                    pipe.groups.add(self.name(subject), self.name(group))
                    self.story.join(subject, group)
            for group in GROUPS:
                for name in self.dice.sample(CHANNELS, self.dice.randint(0, 3)):
                    pipe.groups.channels(self.name(group)).add(self.name(name))
                    self.story.add_to_group(group, name)

    def look_at_counters(self) -> None:
        for shard, server in enumerate(self.world.servers):
            with contextlib.closing(server.client()) as client:
                self.story.counters[shard] = int(client.hget(PLAIN.retention, "counter") or 0)

    def name(self, part: object) -> str:
        inbox = _inbox(part)
        return f"{self.prefix}{part}" if inbox is None else f"{INBOXES}{self.name(inbox)}"

    def part(self, name: str) -> str:
        """Return of what something is the name."""
        part = name.removeprefix(INBOXES).removeprefix(self.prefix)
        return f"inbox{part}" if name.startswith(INBOXES) else part

    def shard(self, channel: str) -> int:
        return shard_of(self.name(channel).encode(), len(self.world.servers))

    def note(self, text: str) -> None:
        self.journal.append(f"{self.story.now}: {text}")

    # The story

    def tell(self) -> None:
        """Tell it to its end; raises ``AssertionError`` with all of it if something is wrong."""
        actions = self.actions()
        try:
            for _ in range(TABS):
                self.come()
            self.rest()
            while self.story.now < MESSAGES:
                self.dice.choice(actions)()
                if self.dice.random() < 0.06:
                    self.rest()
                else:
                    self.pump(0)
            self.rest()
        finally:
            self.world.go_on()
            for tab in self.tabs:
                self.disconnect(tab)
            self.selector.close()
            self.counts.stories += 1
            self.counts.wrong += self.wrong
        assert not self.wrong, self.report()

    def actions(self) -> list[Callable[[], None]]:
        """Return what may happen, as often as it is likely."""
        often: list[Callable[[], None]] = [self.publish] * 14 + [self.change] * 8 + [self.come] * 4
        often += [self.leave] * 4 + [self.together] + [self.token] * 2 + [self.give_back] * 3
        often += [self.to_one] * 3 + [self.reload] * 3 + [self.lend] * 2 + [self.change_group] * 5
        mode = self.world.mode
        faults: list[Callable[[], None]] = [self.cut, self.cut, self.churn, self.hiccup]
        faults += [self.cut_midway]
        if mode in LOSSY:
            faults += [self.save, self.save, self.lose, self.lose_a_little, self.flush]
        else:
            faults += [self.restart]
        if len(self.world.servers) > 1:
            faults += [self.lose_touch, self.lose_touch]
        if self.world.has_workers:
            faults += [self.kill_ear]
        else:
            faults += [self.stop, self.stop, self.kill]
        return often * 2 + faults

    def publish(self) -> None:
        """Publish some messages to a channel, few of which may be retained."""
        channel = self.dice.choice(CHANNELS)
        retain = self.dice.choice(RETAINS)
        for _ in range(self.dice.choice((1, 1, 2, 3, 8, 20))):
            self.send(channel, retain, self.dice.choice((None, None, *NAMES)))

    def send(self, channel: str, retain: float = 300.0, but: str | None = None) -> int:
        self.end_grants()
        if (subject := _inbox(channel)) is not None:  # Publishing grants it, and retains it.
            self.story.add(subject, channel)
            retain = max(retain, INBOX_RETAIN / 1000)
        sent = self.story.publish(channel, retain, self.shard(channel), time.monotonic(), but)
        world = self.world
        publisher = world.few if channel.endswith("small") else world.publisher
        replay = PASTS.get(channel) if retain else None
        publisher.publish(
            self.name(channel), self.name(sent.number), retain=retain, replay=replay, but=but
        )
        self.note(f"{sent.number} is published to {channel}, retained for {retain:g}, but {but}")
        now = time.monotonic()
        sent.unsure = {
            each
            for (who, name), (at, _) in self.ends.items()
            if name == channel and at <= now
            for each in (who, who + PART)
        }
        if world.other is not None and self.dice.random() < 0.3:
            world.other.publish(self.name("elsewhere"), "noise")
        return sent.number

    def to_one(self) -> None:
        """Publish a message to one subject, which may not have that channel, or not any more."""
        self.send(f"inbox{self.somebody()}", self.dice.choice(RETAINS))

    def change(self) -> None:
        """Add a channel to a list, or remove one: mostly of somebody who has a tab."""
        subject = self.somebody()
        channel = self.dice.choice(CHANNELS)
        if self.dice.random() < 0.55:
            self.add(subject, channel)
        else:
            self.remove(subject, channel)

    def add(self, subject: int, channel: str, life: float | None = None) -> None:
        self.settle(subject, channel)
        begin = time.monotonic()
        self.world.publisher.channels.add(self.name(subject), self.name(channel), expires_in=life)
        self.story.add(subject, channel)
        self.ends.pop((subject, channel), None)
        if life is not None:
            self.ends[subject, channel] = begin + life, time.monotonic() + life
        if channel in PASTS:  # A grant of a channel with a past takes a counter.
            self.look_at_counters()
        self.note(f"{channel} is added to {subject}" + (f", for {life} s" if life else ""))

    def lend(self) -> None:
        """Add a channel to a list for a while, or say anew for how long."""
        self.add(self.somebody(), self.dice.choice(CHANNELS), self.dice.choice(LIVES))

    def end_grants(self) -> None:
        """Take note of grants that have ended by now."""
        now = time.monotonic()
        for (subject, channel), (_, at_last) in list(self.ends.items()):
            if at_last + 0.002 <= now:
                del self.ends[subject, channel]
                self.story.remove(subject, channel)
                self.note(f"{channel} of {subject} has ended")

    def settle(self, subject: int, channel: str) -> None:
        """Wait until it is known whether a grant has ended that is about to end."""
        at, at_last = self.ends.get((subject, channel), (0.0, 0.0))
        if at - CLOSE < time.monotonic() < at_last + CLOSE:
            time.sleep(max(0.0, at_last + CLOSE - time.monotonic()))
        self.end_grants()

    def settle_all(self) -> None:
        for subject, channel in list(self.ends):
            self.settle(subject, channel)

    def remove(self, subject: int, channel: str) -> None:
        self.settle(subject, channel)
        self.ends.pop((subject, channel), None)
        self.world.publisher.channels.remove(self.name(subject), self.name(channel))
        self.story.remove(subject, channel)
        self.note(f"{channel} is removed from {subject}")

    def change_group(self) -> None:
        """Change who is in a group, or what the members may listen to."""
        self.settle_all()  # It is known which rights are left beside.
        group = self.dice.choice(GROUPS)
        if self.dice.random() < 0.4:
            self.change_channels_of(group, self.dice.choice(CHANNELS))
        else:
            self.change_membership(self.somebody(), group)
        self.look_at_counters()  # It takes a counter where there is a past.

    def change_channels_of(self, group: str, channel: str) -> None:
        channels = self.world.publisher.groups.channels(self.name(group))
        if channel in self.story.rights.groups.get(group, {}):
            channels.remove(self.name(channel))
            self.story.remove_from_group(group, channel)
            self.note(f"{channel} is removed from the group {group}")
        else:
            channels.add(self.name(channel))
            self.story.add_to_group(group, channel)
            self.note(f"{channel} is added to the group {group}")

    def change_membership(self, subject: int, group: str) -> None:
        groups = self.world.publisher.groups
        if group in self.story.rights.joined.get(subject, {}):
            groups.remove(self.name(subject), self.name(group))
            self.story.leave(subject, group)
            self.note(f"{subject} leaves {group}")
            return
        groups.add(self.name(subject), self.name(group))
        self.story.join(subject, group)
        if PASTS.keys() & self.story.rights.groups.get(group, {}).keys():
            # Its streams may resume, though they know that past.
            for tab in self.tabs:
                if tab.record.subject % PART == subject:
                    tab.record.steady_since = None
        self.note(f"{subject} joins {group}")

    def give_back(self) -> None:
        """Take a channel away, publish, and give it back."""
        subject = self.somebody()
        channels = sorted(self.story.channels(subject).keys() - set(self.anchors))
        if channels:
            channel = self.dice.choice(channels)
            self.remove(subject, channel)
            for _ in range(self.dice.randint(0, 3)):
                self.send(channel)
            self.add(subject, channel)

    def somebody(self) -> int:
        return self.dice.choice(self.tabs).record.subject % PART if self.tabs else 0

    def come(self) -> None:
        """Open a tab, or let one come back, with a new token if it needs one."""
        away = [tab for tab in self.tabs if not tab.wants or tab.is_refused]
        if len(self.tabs) < TABS:
            subject, kind = self.dice.randrange(SUBJECTS), self.dice.choice((*KINDS, PARTIAL))
            name = f"tab {len(self.tabs)} of {subject}, {kind}"
            record = self.record(subject, kind, name)
            token = self.valid_token(subject, kind)
            transport = self.dice.choice(TRANSPORTS)
            self.tabs.append(Tab(record, token, transport, self.some_node()))
            self.note(f"{name} comes with {transport}")
        elif away:
            tab = self.dice.choice(away)
            if tab.is_refused:
                tab.token = self.token_for(tab.record)
                tab.is_refused = False
            tab.wants, tab.due, tab.node = True, 0.0, self.some_node()
            self.note(f"{tab.record.name} comes back")

    def reload(self) -> None:
        """Load a page anew: it has a position, and opens its stream with that after a while."""
        if not self.tabs:
            return
        number = self.dice.randrange(len(self.tabs))
        former = self.tabs[number]
        self.disconnect(former)
        subject, kind = former.record.subject % PART, self.dice.choice((*KINDS, PARTIAL))
        name = f"tab {number} of {subject}, {kind}, loaded at {self.story.now}"
        record = self.record(subject, kind, name)
        record.load()
        position = self.world.publisher.position()
        token = self.valid_token(subject, kind)
        due = time.monotonic() + self.dice.choice((0.0, RECONNECTION, 5 * RECONNECTION))
        tab = Tab(record, token, former.kind, self.some_node(), last=position, due=due)
        self.tabs[number] = tab
        self.note(f"{name} has the position {position}")

    def record(self, subject: int, kind: str, name: str) -> Record:
        judged = subject + PART if kind == PARTIAL else subject
        stream = self.dice.choice(NAMES)
        return Record(self.story, judged, self.wrong, self.journal, f"{name}, {stream}", stream)

    def token_for(self, record: Record) -> Token:
        """Return a token that is valid, for as much as the former one."""
        subject = record.subject % PART
        return self.valid_token(
            subject, PARTIAL if record.subject >= PART else self.dice.choice(KINDS)
        )

    def some_node(self) -> int:
        return self.dice.randrange(len(self.world.nodes))

    def leave(self) -> None:
        """Cut a tab off, for a moment or for longer, wherever it is in a message."""
        if self.tabs:
            tab = self.dice.choice(self.tabs)
            tab.wants = self.dice.random() < 0.5
            self.note(f"{tab.record.name} is cut off")
            self.disconnect(tab, reset=self.dice.random() < 0.5)

    def together(self) -> None:
        """Let all tabs be cut off and come back to one node at once, some of them far behind."""
        self.note("all tabs come back together")
        node = self.some_node()
        for tab in self.tabs:
            if tab.is_refused:
                continue
            if not tab.wants or self.dice.random() < 0.7:
                self.disconnect(tab)
                tab.wants, tab.due, tab.node = True, 0.0, node
        for channel in self.dice.sample(CHANNELS, self.dice.randint(0, 2)):
            self.send(channel)

    def token(self) -> None:
        """Clear a token, replace it, or let it live for longer."""
        if not self.tabs:
            return
        tab = self.dice.choice(self.tabs)
        subject = tab.record.subject % PART
        kind = next((k for (s, k), t in self.tokens.items() if t is tab.token), KINDS[0])
        chance = self.dice.random()
        known = self.tokens.get((subject, kind))
        if chance < 0.3:
            self.clear(subject, kind)
        elif chance < 0.6:
            self.new_token(subject, kind, self.dice.choice((None, None, 1.5)))
        elif self.renew(subject, kind):
            if known is not None and known.expires is not None:
                known.expires = max(known.expires, time.monotonic() + 60)
            self.note(f"the token {kind} of {subject} is renewed")

    def valid_token(self, subject: int, kind: str) -> Token:
        known = self.tokens.get((subject, kind))
        if known is None or known.ended is not None or known.expires is not None:
            return self.new_token(subject, kind, None)
        return known

    def clear(self, subject: int, kind: str) -> None:
        former = self.tokens.get((subject, kind))
        if kind not in SESSIONS:
            self.world.publisher.tokens.clear(self.name(subject), kind)
        elif former is not None and former.session is not None:
            self.world.publisher.sessions.end(self.name(subject), former.session)
        self.end_token(subject, kind)

    def renew(self, subject: int, kind: str) -> bool:
        known = self.tokens.get((subject, kind))
        if kind not in SESSIONS:
            return self.world.publisher.tokens.renew(self.name(subject), kind, 60)
        if known is None or known.session is None:
            return False
        return self.world.publisher.sessions.renew(self.name(subject), known.session, 60)

    def new_token(self, subject: int, kind: str, life: float | None) -> Token:
        name, session = self.name(subject), None
        if kind in SESSIONS:
            self.clear(subject, kind)
            only = {self.name("a*"), self.name("c")} if kind == PARTIAL else None
            opened = self.world.publisher.sessions.open(name, expires_in=life, only=only)
            text, session = opened.token, opened.id
        else:
            text = self.world.publisher.tokens.generate(name, kind, expires_in=life)
            self.end_token(subject, kind)
        expires = None if life is None else time.monotonic() + life
        token = Token(text, subject, expires, session=session)
        self.tokens[subject, kind] = token
        self.note(f"a token {kind} of {subject}, for {life}")
        return token

    def end_token(self, subject: int, kind: str) -> None:
        former = self.tokens.pop((subject, kind), None)
        if former is not None:
            former.ended = self.story.now
            self.note(f"the token {kind} of {subject} is revoked")

    # Faults

    def disturb(self) -> None:
        for tab in self.tabs:
            tab.record.steady_since = None

    def cut(self) -> None:
        self.disturb()
        self.note("all connections to Redis are cut")
        self.world.cut()

    def cut_midway(self) -> None:
        """Cut nodes off in the midst of what Redis tells them, of a message or of an answer."""
        self.disturb()
        self.note("connections to Redis are cut after some bytes")
        self.world.cut_midway(lambda: self.dice.choice((1, 40, 400)) * self.dice.randint(1, 10))
        for _ in range(self.dice.randint(1, 5)):
            self.dice.choice((self.publish, self.publish, self.change, self.come))()
        self.pump(0.01)
        self.world.finish_cutting()
        self.disturb()

    def lose_touch(self) -> None:
        """Keep the nodes from one Redis of several for a while: streams open without it."""
        self.disturb()
        number = self.dice.randrange(len(self.world.links))
        self.note(f"nodes lose touch with Redis {number}")
        often = (self.publish, self.publish, self.change, self.give_back, self.to_one)
        with away(self.world.links[number]):
            for _ in range(self.dice.randint(3, 15)):
                self.dice.choice((*often, self.come, self.leave, self.token, self.change_group))()
                self.pump(0.01)
        self.note(f"Redis {number} is back")
        self.disturb()

    def churn(self) -> None:
        """Change lists, and publish between, while nodes come back and read them."""
        self.cut()
        subjects = sorted({tab.record.subject % PART for tab in self.tabs})
        until = time.monotonic() + CHURN
        while subjects and time.monotonic() < until:
            subject, channel = self.dice.choice(subjects), self.dice.choice(CHANNELS)
            if channel not in self.story.channels(subject):
                self.add(subject, channel)
                continue
            self.remove(subject, channel)
            if self.dice.random() < 0.3:
                self.send(channel)

    def hiccup(self) -> None:
        """Let Redis stand still for a moment."""
        process = self.dice.choice(self.world.servers).process
        assert process is not None
        self.note("Redis stands still")
        process.send_signal(signal.SIGSTOP)
        self.pump(0.01)
        process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.disturb()
        number = self.some_node()
        self.note(f"node {number} is stopped")
        self.world.stop(number)
        if self.dice.random() < 0.5:
            self.cut()

    def kill(self) -> None:
        self.disturb()
        if self.dice.random() < 0.3:
            number = self.some_node()
            self.note(f"node {number} is killed")
            self.world.kill_node(number)

    def kill_ear(self) -> None:
        """Kill what hears Redis for the workers; each time another one comes later than before."""
        self.disturb()
        if self.dice.random() < 0.2:
            self.note("the ear is killed")
            self.world.kill_ear()

    def restart(self) -> None:
        self.disturb()
        if self.dice.random() < 0.3:
            number = self.dice.randrange(len(self.world.servers))
            self.note(f"Redis {number} is killed and started again")
            self.world.restart(number)

    def save(self) -> None:
        self.note("Redis saves its data")
        self.settle_all()
        self.world.save(0, self.folder / "snapshot.rdb")
        valid = {each.text for each in self.tokens.values()}
        self.snapshot = self.story.now, deepcopy(self.story.rights), valid, dict(self.ends)

    def lose_a_little(self) -> None:
        """Have Redis come back as it was a moment ago."""
        self.save()
        for _ in range(self.dice.randint(1, 6)):
            self.send(self.dice.choice(CHANNELS))
        self.pump(0.01)
        self.lose()

    def lose(self) -> None:
        """Kill Redis and start it from an older copy."""
        self.disturb()
        if self.snapshot is None:
            return
        since, rights, valid, ends = self.snapshot
        self.end_grants()
        if not all(token.text in valid for token in self.tokens.values()):
            # A token of before would be back, which nobody here knows any more.
            for key, token in list(self.tokens.items()):
                if token.text not in valid:
                    token.expires = time.monotonic()
                    del self.tokens[key]
        self.note(f"Redis comes back as it was at {since}")
        # Who attaches first is left to chance, and it may be nobody for a while.
        for number in range(len(self.world.nodes)):
            if self.dice.random() < 0.4:
                self.note(f"node {number} is stopped")
                self.world.stop(number)
        lost = sum(sent.retain > 0 for sent in self.story.sent[since:])
        self.world.restart(0, self.folder / "snapshot.rdb")
        self.look_at_counters()
        self.story.lose(since, rights)
        self.snapshot = None
        self.ends = ends
        self.end_grants()
        if self.world.other is not None:
            self.world.wait_for_other()
            for _ in range(min(lost, 30) + self.dice.randint(-1, 2)):
                self.send(self.dice.choice(CHANNELS))
        # The pages load their state anew, and have it said again who may listen to what.
        self.anew()

    def flush(self) -> None:
        """Lose everything while it runs; the application grants anew what it knows."""
        self.disturb()
        self.note("Redis is flushed")
        self.settle_all()
        rights = deepcopy(self.story.rights)
        self.ends = {}  # They are granted anew, to last.
        with contextlib.closing(self.world.servers[0].client()) as client:
            client.flushdb() if self.world.other else client.flushall()
        self.world.publisher.publish(self.name("first"), "so that there is a counter")
        self.look_at_counters()
        for token in self.tokens.values():
            token.expires = time.monotonic()
        self.tokens.clear()
        self.story.lose(0, rights)
        self.snapshot = None
        with self.world.publisher.pipeline() as pipe:
            for subject, channels in rights.own.items():
                for channel in sorted(channels):
                    pipe.channels.add(self.name(subject), self.name(channel))
            for group, channels in rights.groups.items():
                for channel in sorted(channels):
                    pipe.groups.channels(self.name(group)).add(self.name(channel))
            for subject, groups in rights.joined.items():
                for group in sorted(groups):
                    pipe.groups.add(self.name(subject), self.name(group))
        self.anew()

    def anew(self) -> None:
        """Let every tab have a token of now."""
        for tab in self.tabs:
            if tab.token.text not in {each.text for each in self.tokens.values()}:
                self.disconnect(tab)
                tab.token = self.token_for(tab.record)
                tab.is_refused = False

    # Rest

    def rest(self) -> None:
        """Let everything come to rest, and judge what has come."""
        self.world.go_on()
        wait_until = time.monotonic() + EVENT_TIMEOUT

        def waiting() -> list[Tab]:
            return [
                tab for tab in self.tabs if tab.wants and not tab.is_refused and self.lacks(tab)
            ]

        # Who is new gets what is published from then on.
        while any(t.wants and not t.is_refused and t.record.start is None for t in self.tabs):
            self.wait(wait_until, "it does not open")
        last = {self.send(anchor) for anchor in self.anchors}
        self.awaited = last
        while waiting():
            self.wait(wait_until, f"nothing comes any more: {[t.record.name for t in waiting()]}")
        self.settle_all()  # A grant may have ended before its messages came.
        for tab in self.tabs:
            if tab.wants and not tab.is_refused:
                self.counts.required += tab.record.rest()
                is_live = tab.kind != "poll" and tab.token.expires is None
                tab.record.steady_since = self.story.now if is_live else None
        self.story.rest()
        self.note("rest")
        wait_until = time.monotonic() + EVENT_TIMEOUT  # A node may be starting still.
        while unheard := self.world.unheard():
            self.wait(wait_until, f"nodes are not subscribed to what they hold: {unheard}")
        assert not self.wrong, self.report()

    def lacks(self, tab: Tab) -> bool:
        due = {n for n in self.awaited if (tab.record.start or 0) <= n}
        return not due <= tab.record.received.keys() | tab.record.excused

    def wait(self, until: float, what: str) -> None:
        assert time.monotonic() < until, self.report(what)
        self.pump(RECONNECTION)

    # Tabs

    def pump(self, timeout: float) -> None:
        for tab in self.tabs:
            is_away = tab.wants and tab.browser is None and not tab.is_refused
            if is_away and time.monotonic() >= tab.due:
                self.connect(tab)
        for key, _ in self.selector.select(timeout):
            self.read(key.data)

    def connect(self, tab: Tab) -> None:
        tab.record.ask(tab.last)
        port = self.world.nodes[tab.node].port
        try:
            tab.browser = Browser(tab.kind, port, tab.token.text, tab.last, tab.record.stream)
        except OSError:
            tab.node = self.some_node()
            tab.due = time.monotonic() + RECONNECTION
            return
        tab.is_open = False
        self.counts.streams += 1
        self.selector.register(tab.browser.socket, selectors.EVENT_READ, tab)

    def read(self, tab: Tab) -> None:
        assert tab.browser is not None
        items, has_ended = tab.browser.read(self.dice.choice((1, 30, 300, 65536, 65536)))
        for item in items:
            self.take(tab, item)
        if has_ended:
            if tab.browser is not None and tab.browser.status == 401:
                tab.is_refused = True
                self.check_refusal(tab)
            elif tab.kind != "poll":
                tab.record.ended(tab.token)
            self.disconnect(tab)
            if tab.kind != "poll" or not items:
                tab.due = time.monotonic() + RECONNECTION

    def check_refusal(self, tab: Tab) -> None:
        token = tab.token
        is_over = token.expires is not None and time.monotonic() > token.expires - 2
        if token.ended is None and not is_over:
            tab.record.fault("lost", "its token is not known")

    def take(self, tab: Tab, item: Item) -> None:
        record = tab.record
        if item.event == "authentication":
            tab.is_open = True
            self.note(f"{record.name} opens after {tab.last}, {tab.record.places}")
            record.open(item.identifier)
        elif item.event == "reset":
            content = json.loads(item.data)
            self.counts.resets += 1
            names = [self.part(name) for name in content["channels"]]
            self.note(f"{record.name} is told {content['reason']} {names}, id {item.identifier}")
            record.reset(content["reason"], names)
        elif item.event == "message":
            self.counts.deliveries += 1
            self.end_grants()
            number = int(item.data.removeprefix(self.prefix))
            record.take(number, tab.token)
        elif item.event == "degraded":
            self.counts.degraded += item.data != "[]"
            self.note(f"{record.name} is told that {item.data} are away")
        if item.event == "position":
            self.note(f"{record.name} is at {item.identifier}")
        if item.identifier:
            tab.last = item.identifier

    def disconnect(self, tab: Tab, *, reset: bool = False) -> None:
        if tab.browser is not None:
            self.selector.unregister(tab.browser.socket)
            tab.record.steady_since = None
            tab.browser.close(reset=reset)
            tab.browser = None

    def report(self, what: str = "") -> str:
        return "\n".join([f"mode {self.world.mode}, seed {self.seed}: {what}", *self.journal])
