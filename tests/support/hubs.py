"""Hubs as tests keep them: without a broker, and with small stand-ins for framings and streams."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from sinapse.counters import Counters
from sinapse.errors import CloseReason
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Joining, Membership
from sinapse.hub.subscribers import Subject, Subscriber
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message

Kept = TypeVar("Kept", bound=Hub)


_numbers = count()


def a_descriptor(number: int | None = None) -> int | None:
    """Return that of the stream with a number, of a new one by default; every third has none.

    What happens in one example must not depend on what was in others.
    """
    if number is None:
        number = next(_numbers)
    return number if number % 3 else None


class Keeper:
    """Ends the streams of who may listen to nothing, and passes on what a test wants to know."""

    hub: Hub

    def __init__(
        self,
        interest_changed: Callable[[bytes], None] = lambda _channel: None,
        catch_up_needed: Callable[[Subject], None] = lambda _subject: None,
        turn_needed: Callable[[], None] = lambda: None,
    ) -> None:
        self.interest_changed = interest_changed
        self.catch_up_needed = catch_up_needed
        self.turn_needed = turn_needed
        self.exceeded: list[tuple[bytes, int]] = []
        self.resumed: list[tuple[Subscriber, EventID]] = []

    @staticmethod
    def write_all(frame: bytes, streams: Mapping[int, Stream]) -> None:
        for each in streams.values():
            each.send(frame)

    @staticmethod
    def write_each(
        frames: Mapping[int, Sequence[bytes]], streams: Sequence[Mapping[int, Stream]]
    ) -> None:
        known = ChainMap(*map(dict, streams))
        for descriptor, parts in frames.items():
            known[descriptor].send(b"".join(parts))

    def past_needed(self, subscriber: Subscriber, place: EventID) -> None:
        self.resumed.append((subscriber, place))

    def emptied(self, subject: Subject) -> None:
        self.hub.end_all(subject, CloseReason.NO_CHANNELS)

    def too_many_channels(self, subject: bytes, count: int) -> None:
        self.exceeded.append((subject, count))


def kept(keeper: Keeper, counters: Counters, kind: type[Kept]) -> Kept:
    """Return a hub that belongs to `keeper`."""
    hub = kind(counters, keeper)
    keeper.hub = hub
    return hub


class Lines:
    """A framing whose frames say what is in them, and that remembers what it encoded."""

    def __init__(self, name: str = "lines") -> None:
        self.name = name
        self.encoded: list[tuple[bytes, list[str]]] = []

    @property
    def plain(self) -> Lines:
        return self

    def frame(self, body: bytes) -> bytes:
        return body

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        data = [message.data for message in messages]
        self.encoded.append((channel, data))
        return "".join(f"{self.name} {channel.decode()} {each}\n" for each in data).encode()

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        names = b",".join(sorted(channels)).decode()
        return f"{self.name} reset:{reason}:{position} {names}\n".encode()

    def position(self, identifier: str) -> bytes:
        return f"{self.name} position {identifier}\n".encode()


class Stream:
    """A subscriber that keeps what it is sent."""

    def __init__(self, framing: Lines, token: bytes = b"token", number: int | None = None) -> None:
        self.framing = framing
        self.token = token
        self.name: str | None = None
        self.number = number
        self.subject: Subject | None = None
        self.descriptor = a_descriptor(number)
        self.sent: list[bytes] = []
        self.closed: CloseReason | None = None

    def __hash__(self) -> int:
        # So that sets of streams have the same order in every run of one example.
        return self.number or 0

    def send(self, frame: bytes) -> None:
        assert self.closed is None
        self.sent.append(frame)

    def close(self, reason: CloseReason) -> None:
        assert self.closed is None
        assert self.subject is None, "closed before it was forgotten"
        self.closed = reason

    @property
    def received(self) -> list[tuple[bytes, str]]:
        """Channels and data of all messages, in order."""
        rows = [line.split(" ") for frame in self.sent for line in frame.decode().splitlines()]
        assert all(name == self.framing.name for name, _, _ in rows)
        return [(channel.encode(), data) for _, channel, data in rows]

    @property
    def data(self) -> list[str]:
        return [data for _, data in self.received]


def remains(part: object) -> list[object]:
    """Return what the collections of a hub and of its parts hold: nothing, when all have gone."""
    found: list[object] = []
    for each in vars(part).values():
        if isinstance(each, Collection):
            found += each
        elif type(each).__module__.startswith("sinapse.") and hasattr(each, "__dict__"):
            found += remains(each)
    return found


@dataclass
class Table:
    """A hub, and short ways to do things with it."""

    counters: Counters = field(default_factory=Counters)
    framing: Lines = field(default_factory=Lines)
    interest: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = kept(Keeper(self.interest.append), self.counters, Hub)
        self.hub.connected()

    def open(
        self,
        *channels: bytes,
        subject: bytes = b"1",
        token: bytes = b"token",
        framing: Lines | None = None,
        name: str | None = None,
        groups: Mapping[bytes, Membership] | None = None,
    ) -> Stream:
        def make() -> Stream:
            stream = Stream(framing or self.framing, token)
            stream.name = name
            return stream

        joining = self.admit(*channels, subject=subject, token=token, groups=groups)
        return self.hub.open(joining, make)

    def admit(
        self,
        *channels: bytes,
        subject: bytes = b"1",
        token: bytes = b"token",
        groups: Mapping[bytes, Membership] | None = None,
    ) -> Joining:
        joining = self.hub.join()
        answer = dict.fromkeys(channels, 0)
        self.hub.expect(joining, subject, token, answer, memberships=groups)
        return joining

    def publish(self, channel: bytes, *data: str) -> None:
        for each in data:
            self.hub.dispatch(channel, Message(each))
        self.hub.flush()
