"""Reconnections: whatever changes unheard, a stream gets what it may, or is told what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, TypeAlias

from sinapse.counters import Counters
from sinapse.errors import CloseReason
from sinapse.hub.catchup import Dispatched
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Membership
from sinapse.hub.subscribers import Framing, Subject
from sinapse.protocol.keys import (
    ADD,
    GRANT,
    GROUP_GRANT,
    GROUP_WITHDRAW,
    JOIN,
    LEAVE,
    REMOVE,
    WITHDRAW,
)
from sinapse.protocol.message import Message
from tests.support.hubs import Keeper, a_descriptor, kept

CHANNELS = [b"a", b"b", b"c"]
#: One that stays on the list.
ANCHOR = b"anchor"
GROUPS = [b"g", b"h"]

#: How many are lived: of some hundred, one meets what is rare.
LIVES = 2000


class Numbers:
    """A framing in which a frame is the numbers of its messages, or names of channels."""

    @property
    def plain(self) -> Numbers:
        return self

    def frame(self, body: bytes) -> bytes:
        return body

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        return b"".join(b"%s " % message.data.encode() for message in messages)

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        return b"".join(b"%s " % channel for channel in channels)

    def position(self, identifier: str) -> bytes:
        return b""


class Stream:
    """A stream that takes the numbers that it gets."""

    token: bytes = b"token"
    name: str | None = None

    def __init__(self) -> None:
        self.framing: Framing = Numbers()
        self.subject: Subject | None = None
        self.got: list[int] = []
        #: Channels of which something is gone: all that was published by then is known.
        self.told: dict[bytes, int] = {}
        self.now: Callable[[], int] = lambda: 0
        self.descriptor = a_descriptor()

    def send(self, frame: bytes) -> None:
        for word in frame.split():
            if word.isdigit():
                self.got.append(int(word))
            else:
                self.told[word] = self.now()

    def close(self, reason: CloseReason) -> None:
        raise AssertionError(reason)


Ended: TypeAlias = dict[bytes, list[tuple[int, int]]]


class Done(NamedTuple):
    """What Redis did: it published a message, or a control message."""

    action: str
    """Empty for a message."""
    name: bytes
    number: int
    payload: bytes = b""


@dataclass
class Rights:
    """What the subject may listen to, and since when: by itself, and by groups."""

    own: dict[bytes, int] = field(default_factory=lambda: {ANCHOR: 0})
    groups: dict[bytes, dict[bytes, int]] = field(
        default_factory=lambda: {name: {} for name in GROUPS}
    )
    joined: dict[bytes, int] = field(default_factory=dict)
    former: Ended = field(default_factory=dict)
    """What Redis remembers of rights that have ended: of the subject, then of each group."""
    former_of: dict[bytes, Ended] = field(default_factory=lambda: {name: {} for name in GROUPS})
    since: dict[bytes, int] = field(default_factory=lambda: {ANCHOR: 0})
    """Since when there was always a right to what it may listen to."""

    def all(self) -> dict[bytes, int]:
        """Return what it may listen to, and since when by the earliest of its rights."""
        found = dict(self.own)
        for group, joined in self.joined.items():
            for channel, added in self.groups[group].items():
                at = max(joined, added)
                found[channel] = min(at, found.get(channel, at))
        return found

    def memberships(self, kept: Iterable[bytes] = ()) -> dict[bytes, Membership]:
        """Return the groups; the lists of those that are `kept` are left out."""
        return {
            group: Membership(at, None, None) if group in kept else self.membership(group, at)
            for group, at in self.joined.items()
        }

    def membership(self, group: bytes, at: int) -> Membership:
        return Membership(at, dict(self.groups[group]), deepcopy(self.former_of[group]))

    def ended(self) -> Ended:
        """Return the rights that have ended, as a look-up has them."""
        return deepcopy(self.former)

    def note(self, channel: bytes, start: int, end: int) -> None:
        """Note that a right has ended, if there is another one."""
        if channel in self.all() and start <= end:
            self.former.setdefault(channel, []).append((start, end))

    def leave(self, group: bytes, joined: int, counter: int) -> None:
        """Note what the group had given until it was left."""
        for channel, times in self.former_of[group].items():
            for start, end in times:
                self.note(channel, max(joined, start), end)
        for channel, start in self.groups[group].items():
            self.note(channel, max(joined, start), counter)

    def settle(self, counter: int) -> None:
        """Take note of what begins and ends with a change."""
        self.since = {name: self.since.get(name, counter) for name in self.all()}


class Life:
    """Lists that change, messages, and a node that hears of them, or is cut off."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        #: What Redis does: messages by number, and control messages; retained messages all.
        self.log: list[Done] = []
        self.rights = Rights()
        self.counter = 0
        #: What the stream may get, and what is not retained.
        self.due: set[int] = set()
        self.brief: set[int] = set()
        #: What its subject was told.
        self.known: dict[tuple[bytes, bytes], int] = {}
        self.behind: list[Subject] = []
        self.keeper = Keeper(catch_up_needed=self.behind.append)
        self.hub = kept(self.keeper, Counters(), Hub)
        self.happen(10)
        self.hub.epoch, self.hub.position = "1", self.counter
        self.hub.connected()
        self.has_other = dice.random() < 0.5
        if self.has_other:  # Somebody in all groups, so that the node keeps these.
            joining = self.hub.join()
            self.hub.expect(joining, b"2", b"other", {ANCHOR: 0}, memberships=self.of_other())
            self.hub.open(joining, Stream)
        joining = self.hub.join()
        memberships = self.rights.memberships()
        self.hub.expect(joining, b"1", b"token", dict(self.rights.own), memberships=memberships)
        self.stream = self.hub.open(joining, Stream)
        self.stream.now = lambda: self.counter
        self.subscribe()
        self.heard = len(self.log)
        self.start = self.counter
        self.save()

    def of_other(self) -> dict[bytes, Membership]:
        return {group: self.rights.membership(group, 0) for group in GROUPS}

    def save(self) -> None:
        """Have Redis save its data."""
        self.saved = len(self.log), deepcopy(self.rights), self.counter
        self.left = self.hub.position

    def go_back(self) -> None:
        """Have Redis lose what it did since, if the node has not heard of it.

        Not while something is read for the stream, or once some was: the list that is lost may have
        said that it is not for it.
        """
        length, rights, counter = self.saved
        is_reading = self.hub.subjects[b"1"].catch_up is not None
        if self.hub.position == self.left and not is_reading:
            del self.log[length:]
            self.rights, self.counter = deepcopy(rights), counter
            self.due = {number for number in self.due if number <= counter}

    def required(self) -> set[int]:
        """Return what the stream has to have: what was published since its channel was granted."""
        since = self.rights.since
        return {
            number
            for action, channel, number, _ in self.log
            if not action
            and number > max(self.start, since.get(channel, self.counter))
            and not (number in self.brief and number <= self.stream.told.get(channel, 0))
        }

    def gone(self, channel: bytes, after: int, last: int) -> int:
        """Return the last number of a channel, in a range, that is not retained; 0 if none."""
        numbers = [n for action, name, n, _ in self.log if not action and name == channel]
        return max((n for n in numbers if after < n <= last and n in self.brief), default=0)

    def happen(self, most: int) -> None:
        """Publish, and change lists, some times."""
        for _ in range(self.dice.randint(0, most)):
            channel = self.dice.choice([*CHANNELS, ANCHOR])
            if channel == ANCHOR or self.dice.random() < 0.4:
                self.counter += 1
                self.log.append(Done("", channel, self.counter))
                if channel in self.rights.all():
                    self.due.add(self.counter)
                if self.dice.random() < 0.2:
                    self.brief.add(self.counter)
            else:
                change = self.dice.choice([self.change_own, self.change_group, self.change_member])
                change(channel)

    def change_own(self, channel: bytes) -> None:
        start = self.rights.own.get(channel, 0)
        is_gone = self.turn(self.rights.own, channel)
        if is_gone:
            self.rights.note(channel, start, self.counter)
        self.rights.settle(self.counter)
        exact, plain = (WITHDRAW, REMOVE) if is_gone else (GRANT, ADD)
        self.tell(exact, b"%d %b" % (self.counter, channel))
        self.tell(plain, channel)

    def change_group(self, channel: bytes) -> None:
        group = self.dice.choice(GROUPS)
        start = self.rights.groups[group].get(channel, 0)
        is_gone = self.turn(self.rights.groups[group], channel)
        if is_gone:
            times = self.rights.former_of[group].setdefault(channel, [])
            times.append((start, self.counter))
        self.rights.settle(self.counter)
        if is_gone:
            self.tell(GROUP_WITHDRAW, b"%d %b %b" % (self.counter, group, channel))
        else:
            self.tell(GROUP_GRANT, b"%d 0 %b %b" % (self.counter, group, channel))

    def change_member(self, _channel: bytes) -> None:
        group = self.dice.choice(GROUPS)
        joined = self.rights.joined.get(group, 0)
        is_gone = self.turn(self.rights.joined, group)
        if is_gone:
            self.rights.leave(group, joined, self.counter)
        self.rights.settle(self.counter)
        if is_gone:
            self.tell(LEAVE, b"%d %b" % (self.counter, group))
        else:
            listed = self.rights.groups[group].items()
            lines = b"".join(b"\n%d %b" % (at, channel) for channel, at in listed)
            self.tell(JOIN, b"%d 0 %b%b" % (self.counter, group, lines))

    def turn(self, rights: dict[bytes, int], name: bytes) -> bool:
        """Take a right away, or give it; returns whether it is gone."""
        is_gone = rights.pop(name, None) is not None
        if not is_gone:
            rights[name] = self.counter
        return is_gone

    def tell(self, action: str, payload: bytes) -> None:
        self.log.append(Done(action, b"", 0, payload))

    def hear(self, start: int, *, live: bool) -> int:
        """Tell the node of all since `start`, of messages only while it is `live`."""
        for action, channel, number, payload in self.log[start:]:
            if action:
                self.hub.control(b"1", action, payload)
            elif live and (found := self.hub.channels.get(channel)) and found.is_subscribed:
                self.hub.dispatch(channel, Message(str(number)), number)
        self.hub.flush()
        return len(self.log)

    def subscribe(self) -> None:
        for channel in self.hub.channels.values():
            channel.is_subscribed = True

    def reconnect(self) -> bool:
        """Come back as a session does; returns whether that has come to its end."""
        self.happen(6)
        start = len(self.log)
        self.happen(4)
        start = self.hear(start, live=False)
        self.happen(3)
        found, memberships = dict(self.rights.own), self.rights.memberships()
        former, of_other = self.rights.ended(), self.of_other()
        self.happen(5)
        self.hub.reconcile(b"1", found, memberships, former=former)
        if self.has_other:
            self.hub.reconcile(b"2", {ANCHOR: 0}, of_other)
        if self.dice.random() < 0.2:
            return False
        self.hear(start, live=False)
        if self.dice.random() < 0.2:
            return False
        mark, last = len(self.log), self.counter
        self.happen(6)
        missed = [
            (channel, number)
            for action, channel, number, _ in self.log[:mark]
            if not action and number > self.hub.position and channel in self.hub.channels
        ]
        position = self.hub.position
        gone = {
            channel: number
            for channel in self.hub.channels
            if (number := self.gone(channel, position, last))
        }
        told = self.hub.tell_gone(gone, self.known, last)
        for channel, number in missed:
            if number in self.brief:
                continue
            self.hub.granted(number)
            self.hub.dispatch(channel, Message(str(number)), number)
            if self.dice.random() < 0.3:
                self.hub.flush()
                self.hub.reached(number)
                if self.dice.random() < 0.3:
                    return False
        self.hub.flush()
        self.hub.reached(last)
        self.hub.tell_position(told)
        self.hub.connected()
        self.heard = mark
        return True

    def live(self) -> None:
        """Hear what happens, come back, and read what was missed."""
        self.happen(6)
        self.heard = self.hear(self.heard, live=True)
        self.resume()
        if self.hub.is_live(self.stream) and self.dice.random() < 0.3:
            self.come_back()
        self.read()

    def resume(self) -> None:
        """Read what suspended streams have missed, or leave it for later."""
        resumed, self.keeper.resumed[:] = self.keeper.resumed[:], []
        for subscriber, place in resumed:
            if subscriber is not self.stream:
                self.hub.go_live(subscriber)
            elif self.dice.random() < 0.4:
                self.keeper.resumed.append((subscriber, place))
            else:
                self.replay(place.counter)

    def read(self) -> None:
        """Read what is missed of channels that are new here, or a part of it."""
        waiting, self.behind[:] = self.behind[:], []
        for subject in waiting:
            if self.dice.random() < 0.4:
                self.behind.append(subject)  # It is still being read when the node is cut off.
            elif (catch_up := subject.catch_up) is not None:
                self.heard = self.hear(self.heard, live=True)
                for gap in catch_up.unread():
                    if self.dice.random() < 0.4:
                        self.behind.append(subject)
                        break
                    entries = [
                        Dispatched(number, channel, Message(str(number)))
                        for action, channel, number, _ in self.log
                        if not action and channel == gap.channel and number > gap.after
                        if number not in self.brief
                    ]
                    gone = self.gone(gap.channel, gap.after, self.counter)
                    gap.take(entries, self.counter, more=False, gone=gone)
                self.subscribe()
                self.hub.reached(self.counter)
                if not catch_up.unread():
                    self.hub.caught_up(subject)

    def replay(self, after: int) -> None:
        """Read for the stream what it has missed after a counter, and let it be live."""
        self.subscribe()
        self.heard = self.hear(self.heard, live=True)
        self.hub.reached(self.counter)
        subject = self.stream.subject
        assert subject is not None
        for action, channel, number, _ in self.log:
            entry = Dispatched(number, channel, Message(str(number)))
            if action or number <= after or not subject.may_have(entry, {}):
                continue
            if number in self.brief:
                self.stream.told[channel] = self.counter
            else:
                self.stream.got.append(number)
        self.hub.go_live(self.stream)

    def come_back(self) -> None:
        """Break the stream, and let it come back with the id that it has."""
        after = self.counter
        self.hub.reached(after)
        self.hub.leave(self.stream)
        self.happen(6)
        self.heard = self.hear(self.heard, live=True)
        joining = self.hub.join()
        self.happen(3)
        own, former = dict(self.rights.own), self.rights.ended()
        memberships = self.rights.memberships(list(self.hub.whole_groups))
        self.happen(4)
        self.hub.expect(joining, b"1", b"token", own, memberships=memberships, former=former)
        self.happen(3)
        self.heard = self.hear(self.heard, live=True)
        self.hub.open(joining, lambda: self.stream, live=False)
        self.subscribe()
        for _ in range(self.dice.randint(0, 2)):
            self.happen(4)
            self.heard = self.hear(self.heard, live=True)
        self.replay(after)


def test_nothing_of_between_a_removal_and_a_grant_comes_whatever_was_not_heard() -> None:
    for seed in range(LIVES):
        dice = Random(seed)
        life = Life(dice)
        for _ in range(dice.randint(1, 3)):
            life.live()
            life.hub.disconnected()
            life.happen(3)
            life.save()
            while not life.reconnect():
                if dice.random() < 0.3:
                    life.go_back()
            life.live()
        while life.behind or life.keeper.resumed:
            life.live()
        got = life.stream.got
        assert len(got) == len(set(got)), seed
        assert set(got) <= life.due, seed
        assert set(got) >= life.required(), seed


def test_a_channel_whose_removal_was_not_heard_brings_nothing_of_after_that() -> None:
    """It was being read when the node was cut off, and is given back and removed again since."""
    life = Life(Random(1))
    hub, stream = life.hub, life.stream
    hub.control(b"1", GRANT, b"%d new" % life.counter)
    [subject] = life.behind
    first = life.counter
    hub.disconnected()
    # Removed; then two messages; then given back, and removed again, which is heard.
    hub.control(b"1", GRANT, b"%d new" % (first + 2))
    hub.control(b"1", WITHDRAW, b"%d new" % (first + 2))
    hub.reconcile(b"1", {ANCHOR: 0}, {})
    hub.connected()
    assert subject.catch_up is not None
    before = list(stream.got)
    for gap in subject.catch_up.gaps:
        entries = [Dispatched(first + 1, b"new", Message("1")), Dispatched(first + 2, b"new", None)]
        gap.take(entries, first + 2, more=False)
    hub.caught_up(subject)
    assert stream.got == before
