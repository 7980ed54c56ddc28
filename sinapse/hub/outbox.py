"""An outbox: what each stream gets of the messages of one read."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from sinapse.hub.audience import Audience
from sinapse.hub.subscribers import Subscriber

K = TypeVar("K")


class Outbox:
    """Frames for streams in their order, by the descriptors of their sockets as far as possible."""

    def __init__(self) -> None:
        self.direct: dict[int, list[bytes]] = {}
        self.others: dict[Subscriber, list[bytes]] = {}
        #: Each stream of `direct` is in one of these, or in several.
        self.streams: list[Mapping[int, Subscriber]] = []

    def __len__(self) -> int:
        """Return for how many streams there is something."""
        return len(self.direct) + len(self.others)

    def add(self, audience: Audience[Subscriber], frame: bytes) -> None:
        """Put a frame in for an audience."""
        if audience.direct:
            self.streams.append(audience.direct)
            _add(self.direct, audience.direct, frame)
        _add(self.others, audience.others, frame)

    def put(self, subscriber: Subscriber, frame: bytes) -> None:
        """Put a frame in for one stream."""
        if subscriber.descriptor is None:
            _add(self.others, (subscriber,), frame)
        else:
            self.streams.append({subscriber.descriptor: subscriber})
            _add(self.direct, (subscriber.descriptor,), frame)

    def by_stream(self) -> dict[Subscriber, list[bytes]]:
        """Return the frames of all streams."""
        known: dict[int, Subscriber] = {}
        for each in self.streams:
            known.update(each)
        return self.others | {known[place]: frames for place, frames in self.direct.items()}


def _add(outbox: dict[K, list[bytes]], keys: Iterable[K], frame: bytes) -> None:
    for key in keys:
        if (frames := outbox.get(key)) is None:
            outbox[key] = [frame]
        else:
            frames.append(frame)
