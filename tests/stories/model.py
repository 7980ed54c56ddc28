"""What was done, in the order of Redis, and what must have come of it at each tab.

One publisher does everything, a step after another, so the number of a message is its place in the
order. What is known of each message: to which channel, and how long it may be retained at least. Of
each subject: which channels it might hear at each place in the order, by its own list or by those
of groups; *the list* is all of these together. That is all that is needed to judge what a tab
received, whenever and wherever its streams were opened:

- *forbidden*: the channel was not on the list when the message was published, and if it has a past,
  was not added after that either; or the token of the
  stream had been revoked, or had expired, before; or it was published before the channel was added
  for the last time, and the stream was opened after that. A removal between two messages of a Redis
  that is taken back before the second one is no break.
  A message for all but the streams of a name is forbidden to these, and they are owed none of it.
- *doubled*, *late*: a tab got it twice, or after a later message of the same Redis. A tab comes
  back with the last event ID that it has.
- *lost*: it was published while the channel was on the list, and it still is, and after the id with
  which the tab opened for the first time, or after its position was taken; all has come to rest,
  and the tab has not got it, nor was told of a reset for it. Or its stream ended with its token,
  was at rest before and undisturbed, and lacks something of before that.
  When the older of two rights ends, nothing of before the younger one is lost: there was no break.
- *past*: of a channel with a past, it lacks one of the last messages from before the channel was
  added, or from before it opened for the first time without a position, if that was later.
- *needless*: a reset for a channel of which no message is missing that could be gone; or another
  one for the same. ``data-lost`` needs a loss of data that the tab was not told of yet.

A message that is not retained is lost only where the stream was at rest before, and has been open
and undisturbed since then. Those that live for a moment, or of which only few are kept, may be gone
when they are read; they need not be.
"""

from __future__ import annotations

import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field

#: How many messages of a small channel are retained.
KEPT = 5

#: How many messages of a channel new streams get.
PASTS = {"a.past": 3, "b.past": 1000}

#: What is added to the number of a subject for those of its streams whose token is for a part of
#: its list: they are judged as those of a subject who has no more than that.
PART = 1000


def is_in_part(channel: str) -> bool:
    """Whether a channel is in the part that such tokens are for."""
    return channel.startswith("a") or channel == "c"


@dataclass
class Sent:
    """A message."""

    number: int
    channel: str
    retain: float
    shard: int
    at: float
    """When its publishing began: monotonic seconds."""
    counter: int = 0
    """That of its id, if it is retained."""
    is_void: bool = False
    """It was lost with the data of Redis."""
    unsure: set[int] = field(default_factory=set)
    """Subjects whose grant ended while it was being published: before it, or after it."""
    but: str | None = None
    """The name of the streams that it is not for."""


@dataclass
class Interval:
    """A time during which a channel is on a list: from one message up to before another.

    Between two messages there may be several changes, which are counted as well.
    """

    begin: int
    added: int
    granted: int
    """When Redis says that it was added: before it began, if data were lost since then."""
    end: int | None = None
    removed: int | None = None

    def has(self, number: int) -> bool:
        """Whether a message was published within it."""
        return self.begin <= number and (self.end is None or number < self.end)

    def is_at(self, change: int) -> bool:
        """Whether the channel was on the list after so many changes."""
        return self.added <= change and (self.removed is None or change < self.removed)


@dataclass
class Rights:
    """Who may listen to what, and the present when that began."""

    own: dict[int, dict[str, int]] = field(default_factory=dict)
    """Channels of subjects."""
    joined: dict[int, dict[str, int]] = field(default_factory=dict)
    """Groups of subjects."""
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    """Channels of groups."""
    since: dict[int, dict[str, int]] = field(default_factory=dict)
    """What subjects may listen to, and since when there was always a right to that."""

    def settle(self, subject: int, now: int) -> None:
        """Take note of what has begun and ended with a change."""
        names = set(self.own.get(subject, {}))
        names.update(*(self.groups.get(group, {}) for group in self.joined.get(subject, {})))
        since = self.since.get(subject, {})
        self.since[subject] = {name: since.get(name, now) for name in names}

    def of(self, subject: int) -> dict[str, int]:
        """Return what a subject may listen to, each since when without a break."""
        found = self.since.get(subject % PART, {})
        if subject < PART:
            return found
        return {channel: at for channel, at in found.items() if is_in_part(channel)}


@dataclass
class Token:
    """A token, as the publisher knows it."""

    text: str
    subject: int
    expires: float | None = None
    """Monotonic seconds, at the latest."""
    ended: int | None = None
    """The number of the next message when it was revoked."""
    session: str | None = None
    """The id of its session, if it is of one."""

    def is_over(self, sent: Sent) -> bool:
        """Whether it had surely ended when a message was published."""
        if self.ended is not None and sent.number >= self.ended:
            return True
        return self.expires is not None and sent.at > self.expires + 0.5


class Story:
    """What was done. The number of the next message is also the present."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.of_channel: dict[str, list[int]] = {}
        self.rights = Rights()
        self._lists: dict[int, dict[str, list[Interval]]] = {}
        #: How many changes of lists there were.
        self.changes = 0
        #: Present at each loss of data, and at the first rest after it.
        self.losses: list[list[int]] = []
        #: By Redis, the counter of its last message, and the numbers of messages by theirs.
        self.counters: dict[int, int] = {}
        self._numbers: dict[int, list[tuple[int, int]]] = {}

    @property
    def now(self) -> int:
        return len(self.sent)

    def publish(
        self, channel: str, retain: float, shard: int, at: float, but: str | None = None
    ) -> Sent:
        message = Sent(self.now, channel, retain, shard, at, but=but)
        if retain:
            self.counters[shard] += 1
            message.counter = self.counters[shard]
            self._numbers.setdefault(shard, []).append((message.counter, message.number))
        self.sent.append(message)
        self.of_channel.setdefault(channel, []).append(message.number)
        return message

    def places(self, identifier: str | None) -> dict[int, int]:
        """Return which messages an id names, by Redis."""
        return {
            shard: self._place(shard, int(part.split("-")[1] if part else 0))
            for shard, part in enumerate((identifier or "").split("."))
        }

    def _place(self, shard: int, counter: int) -> int:
        """Return the last message up to a counter, which a grant may have taken."""
        numbers = self._numbers.get(shard, [])[::-1]
        same = (number for at, number in numbers if at == counter)
        below = (number for at, number in numbers if at < counter)
        return next(same, next(below, -1))

    def add(self, subject: int, channel: str) -> None:
        self.rights.own.setdefault(subject, {}).setdefault(channel, self.now)
        self._apply(subject)

    def remove(self, subject: int, channel: str) -> None:
        self.rights.own.get(subject, {}).pop(channel, None)
        self._apply(subject)

    def join(self, subject: int, group: str) -> None:
        self.rights.joined.setdefault(subject, {}).setdefault(group, self.now)
        self._apply(subject)

    def leave(self, subject: int, group: str) -> None:
        self.rights.joined.get(subject, {}).pop(group, None)
        self._apply(subject)

    def add_to_group(self, group: str, channel: str) -> None:
        self.rights.groups.setdefault(group, {}).setdefault(channel, self.now)
        self._apply(*self.rights.joined)

    def remove_from_group(self, group: str, channel: str) -> None:
        self.rights.groups.get(group, {}).pop(channel, None)
        self._apply(*self.rights.joined)

    def _apply(self, *subjects: int, anew: bool = False) -> None:
        """Let intervals begin and end, as rights say; with `anew` those that differ do so."""
        for subject in () if anew else subjects:
            self.rights.settle(subject, self.now)
        for subject in (each + part for each in subjects for part in (0, PART)):
            wanted, is_there = self.rights.of(subject), self.channels(subject)
            for channel, granted in is_there.items():
                if channel not in wanted or (anew and wanted[channel] != granted):
                    self._remove(subject, channel)
            for channel, granted in wanted.items():
                self._add(subject, channel, granted)

    def _add(self, subject: int, channel: str, granted: int) -> None:
        intervals = self._lists.setdefault(subject, {}).setdefault(channel, [])
        if not intervals or intervals[-1].end is not None:
            self.changes += 1
            intervals.append(Interval(self.now, self.changes, granted))

    def _remove(self, subject: int, channel: str) -> None:
        intervals = self._lists.get(subject, {}).get(channel, [])
        if intervals and intervals[-1].end is None:
            self.changes += 1
            intervals[-1].end, intervals[-1].removed = self.now, self.changes

    def channels(self, subject: int) -> dict[str, int]:
        """Return what a subject may listen to, and when Redis says that it was added."""
        return {
            name: intervals[-1].granted
            for name, intervals in self._lists.get(subject, {}).items()
            if intervals[-1].end is None
        }

    def first_grant(self, subject: int, start: int, end: int) -> int:
        """Return the present of the first grant to a subject from `start` on; `end` if none."""
        channels = self._lists.get(subject, {}).values()
        begins = (interval.begin for intervals in channels for interval in intervals)
        return min((begin for begin in begins if start <= begin < end), default=end)

    def interval(self, subject: int, message: Sent) -> Interval | None:
        """Return the time on the list in which a message was published."""
        for interval in self._lists.get(subject, {}).get(message.channel, []):
            if interval.has(message.number):
                return interval
        return None

    def grants_after(self, subject: int, message: Sent) -> int:
        """Return how often the channel of a message was added after it was published."""
        intervals = self._lists.get(subject, {}).get(message.channel, [])
        return sum(interval.begin > message.number for interval in intervals)

    def was_granted_past(self, subject: int, start: int) -> bool:
        """Whether a subject was granted a channel with a past, from `start` on."""
        lists = self._lists.get(subject, {})
        begins = (each.begin for channel in PASTS for each in lists.get(channel, []))
        return any(begin >= start for begin in begins)

    def granted_at(self, subject: int, channel: str, change: int) -> int | None:
        """Return when a channel was added that was on the list after so many changes."""
        for interval in self._lists.get(subject, {}).get(channel, []):
            if interval.is_at(change):
                return interval.granted
        return None

    def unbroken_at(self, subject: int, message: Sent, change: int) -> int:
        """Return since when the channel of a message was on the list without a message between."""
        intervals = self._lists.get(subject, {}).get(message.channel, [])
        at = next((at for at, each in enumerate(intervals) if each.is_at(change)), None)
        if at is None:
            return 0
        while at and not self._is_break(intervals[at - 1].end or 0, intervals[at].begin, message):
            at -= 1
        return intervals[at].granted

    def _is_break(self, end: int, begin: int, message: Sent) -> bool:
        between = self.sent[end:begin]
        return any(each.retain and each.shard == message.shard for each in between)

    def may_be_gone(self, message: Sent) -> bool:
        if message.is_void or time.monotonic() >= message.at + message.retain - 0.001:
            return True
        if not message.channel.endswith("small"):
            return False
        return self.of_channel[message.channel][-1] >= message.number and (
            sum(number > message.number for number in self.of_channel[message.channel]) >= KEPT
        )

    def lose(self, since: int, rights: Rights) -> None:
        """Take the data of Redis back to what they were at `since`, when `rights` held."""
        for number in range(since, self.now):
            self.sent[number].is_void = True
        self.losses.append([self.now, -1])
        self.rights = deepcopy(rights)
        self._apply(*{subject % PART for subject in self._lists}, anew=True)

    def rest(self) -> None:
        for loss in self.losses:
            if loss[1] < 0:
                loss[1] = self.now


@dataclass
class Record:
    """What a tab has received, and what is wrong with it."""

    story: Story
    subject: int
    wrong: Counter[str]
    report: list[str]
    name: str
    stream: str | None = None
    """What its streams are called."""
    start: int | None = None
    """The present when it was seen to be open for the first time."""
    received: Counter[int] = field(default_factory=Counter)
    excused: set[int] = field(default_factory=set)
    latest: dict[int, int] = field(default_factory=dict)
    """By Redis, the number of the last message."""
    told: list[tuple[str, set[int]]] = field(default_factory=list)
    """Resets since the last rest: of which channel, and what can have been missing."""
    told_losses: int = 0
    was_told_early: bool = False
    """Of the last loss it was told before all nodes knew of it."""
    has_position: bool = False
    """Its page has loaded what was there before it."""
    opened: int = 0
    """The present when its stream was asked for."""
    change: int = 0
    """How many changes of lists there had been then."""
    places: dict[int, int] = field(default_factory=dict)
    """Where it was then, by Redis."""
    covered: dict[str, int] = field(default_factory=dict)
    """By channel, the present when it was told of it last: it has loaded its state anew then."""
    told_now: set[str] = field(default_factory=set)
    """Channels of which it was told since then, and has got nothing."""
    checked: int = 0
    """Up to where nothing is lost."""
    base: dict[int, int] = field(default_factory=dict)
    """By Redis, the message after which it opened for the first time."""
    steady_since: int | None = None
    """The present of the last rest, if its stream was live then and nothing was disturbed since."""

    def fault(self, kind: str, text: str) -> None:
        self.wrong[kind] += 1
        self.report.append(f"{kind}: {self.name}: {text}")

    def is_own(self, sent: Sent) -> bool:
        """Whether a message is not for streams of its name."""
        return sent.but is not None and sent.but == self.stream

    def ask(self, last: str | None) -> None:
        """Begin to open a stream."""
        self.opened, self.change = self.story.now, self.story.changes
        self.places = self.story.places(last)
        self.told_now.clear()
        self.report.append(f"{self.opened}: {self.name} asks, at {self.places}")

    def load(self) -> None:
        """Load the page, with a position of now: its stream owes it what is published since."""
        self.has_position = True
        self.start = self.checked = self.story.now
        self.base = dict.fromkeys(self.story.counters, self.story.now - 1)

    def open(self, identifier: str | None) -> None:
        """Take note that its stream is open; `identifier` is that of the first time."""
        if self.start is None:
            self.start = self.story.now
            self.base = self.story.places(identifier)
            self.checked = min(self.base.values()) + 1

    def take(self, number: int, token: Token) -> None:
        """Judge a message that has come."""
        story, sent = self.story, self.story.sent[number]
        interval = story.interval(self.subject, sent)
        what = f"{number} on {sent.channel}"
        self.report.append(f"{story.now}: {self.name} gets {number}")
        # With each grant the past comes, and to a tab that is new.
        pasts = story.grants_after(self.subject, sent) if sent.channel in PASTS else 0
        is_past = pasts or (sent.channel in PASTS and number <= self.base.get(sent.shard, -1))
        if is_past or self.subject in sent.unsure:
            pass
        elif interval is None:
            self.fault("forbidden", f"{what}: it was not on the list")
        elif number < story.unbroken_at(self.subject, sent, self.change):
            self.fault("forbidden", f"{what}: it was granted later, and then the stream was opened")
        if self.is_own(sent):
            self.fault("forbidden", f"{what}: it is for all but {self.stream}")
        if token.is_over(sent):
            self.fault("forbidden", f"{what}: the token was over")
        if self.received[number] > pasts:
            self.fault("doubled", what)
        elif sent.retain and not is_past:
            if number < self.latest.get(sent.shard, -1):
                self.fault("late", f"{what}, after {self.latest[sent.shard]}")
            self.latest[sent.shard] = number
        self.received[number] += 1

    def _missing(self, channel: str) -> set[int]:
        """Return what may be gone of what was for it, and has not come so far."""
        found = set()
        for number in self.story.of_channel.get(channel, []):
            sent = self.story.sent[number]
            if (
                sent.retain
                and number not in self.received
                and self.story.may_be_gone(sent)
                and number > self.base.get(sent.shard, -1)
                and (self.story.interval(self.subject, sent) or self.subject in sent.unsure)
            ):
                found.add(number)
        return found

    def reset(self, reason: str, channels: list[str]) -> None:
        """Judge a reset that was told."""
        story, present = self.story, self.story.now
        if reason == "data-lost":
            due = [
                loss
                for loss in self.story.losses
                if self.start is None or loss[1] < 0 or self.start <= loss[1]
            ]
            # Until all has come to rest after a loss, another node may find it as well, and tells
            # those again whose ids have shown it to the first one; or when they come back.
            is_open = any(loss[1] < 0 for loss in due)
            is_new, self.told_losses = self.told_losses < len(due), len(due)
            is_due = is_new or is_open or self.was_told_early
            self.was_told_early = is_open
            if not is_due:
                self.fault("needless", f"data-lost, at {present}")
            self.excused |= set(range(present))
            self.latest.clear()
            self.told.clear()
            self.steady_since = None  # Its node was away for that.
            return
        if reason != "not-retained":
            self.fault("needless", f"{reason} {channels}, at {present}")
            return
        for channel in channels:
            missing = self._missing(channel)
            # What was missed before its place, and was not told, is in the midst of this loss.
            ahead = {
                number
                for number in missing
                if number > self.places.get(story.sent[number].shard, -1)
            }
            if not ahead:
                self.fault("needless", f"{reason} {channel}, at {present}: nothing is missing")
            elif (
                ahead <= self.excused
                and channel in self.told_now
                and max(ahead) < max(self.opened, self.checked)
            ):
                self.fault("needless", f"{reason} {channel}, at {present}: told again")
            if not self._is_unheard(channel):
                self.told.append((channel, ahead))
            self.excused |= missing
            self.told_now.add(channel)
            self.covered[channel] = present

    def _is_unheard(self, channel: str) -> bool:
        """Whether nothing of a channel has come since it was added.

        Its node may have subscribed to it in the midst of the messages that are gone, and cannot
        know whether it has heard them all.
        """
        added = self.story.granted_at(self.subject, channel, self.story.changes) or 0
        numbers = self.story.of_channel.get(channel, [])
        return not any(number >= added and number in self.received for number in numbers)

    def _lacks(self, sent: Sent) -> bool:
        """Whether a message that was for it has not come, and nothing was told that covers it.

        Who is told of a channel loads its state anew, and has what had been published by then, be
        it gone then or later.
        """
        if sent.number in self.received or sent.number in self.excused or self.is_own(sent):
            return False
        told = sent.number < self.covered.get(sent.channel, 0)
        return not (told and self.story.may_be_gone(sent))

    def rest(self) -> int:
        """Judge what has not come, now that nothing is under way; returns how many it had to."""
        story, count = self.story, 0
        for channel, missing in self.told:
            if missing and missing <= self.received.keys():
                self.fault("needless", f"not-retained {channel}: all has come: {sorted(missing)}")
        self.told.clear()
        if self.start is None:
            return 0
        for sent in story.sent[self.checked :]:
            interval = story.interval(self.subject, sent)
            if not sent.retain or interval is None or interval.end is not None or sent.is_void:
                continue
            if self.subject in sent.unsure or sent.number < interval.granted:
                continue
            count += 1
            if sent.number <= self.base.get(sent.shard, -1):
                continue
            if self._lacks(sent):
                self.fault("lost", f"{sent.number} on {sent.channel}, retained for {sent.retain}")
        self._rest_of_pasts()
        self.checked = story.now
        return count + self._rest_of_plain(story.now)

    def _rest_of_pasts(self) -> None:
        """Judge what was published before the tab, or the grant, was there."""
        story = self.story
        if story.losses:
            return
        for channel, granted in story.channels(self.subject).items():
            numbers = story.of_channel.get(channel, [])
            if channel not in PASTS or not numbers:
                continue
            place = self.base.get(story.sent[numbers[0]].shard, -1)
            upto = max(granted, 0 if self.has_position else place + 1)
            if self.has_position and granted <= place + 1:
                continue
            kept = [n for n in numbers if n < upto and story.sent[n].retain]
            for number in kept[-PASTS[channel] :]:
                sent = story.sent[number]
                is_due = not self.is_own(sent) and not story.may_be_gone(sent)
                if number not in self.received and is_due:
                    self.fault("past", f"{number} on {channel}, retained for {sent.retain}")

    def _rest_of_plain(self, end: int) -> int:
        """Judge what was not retained, and was for a stream that was live all the time."""
        count = 0
        since = self.steady_since
        if since is not None and self.story.was_granted_past(self.subject, since):
            since = None  # It resumed, so that it got that.
        if since is None:
            return count
        for sent in self.story.sent[since:end]:
            interval = self.story.interval(self.subject, sent)
            if (
                sent.retain
                or interval is None
                or self.is_own(sent)
                or self.subject in sent.unsure
                # A node has to subscribe first to what is added right after the rest.
                or interval.begin >= since
            ):
                continue
            if interval.end is None or interval.end > end:
                count += 1
                if sent.number not in self.received:
                    self.fault("lost", f"{sent.number} on {sent.channel}, not retained")
        return count

    def ended(self, token: Token) -> None:
        """Judge what came before the end of a token, of which the stream has heard."""
        if self.steady_since is None or token.ended is None or len(self.story.counters) > 1:
            return
        last = max(self.received, default=-1)
        if last < self.steady_since:
            return  # It may have got all there was, and still be looking whether there is more.
        # A grant holds the stream until the past of its channel is read; its token may end before.
        upto = self.story.first_grant(self.subject, last + 1, token.ended)
        for sent in self.story.sent[self.checked : upto]:
            interval = self.story.interval(self.subject, sent)
            if interval is None or (interval.end is not None and interval.end < token.ended):
                continue
            if sent.retain and self._lacks(sent):
                self.fault("lost", f"{sent.number} on {sent.channel}, before the token was over")
