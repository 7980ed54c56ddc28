"""The URLs of the administration endpoint."""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from twisted.web.resource import Resource

from sinapse.admin.guard import Guard
from sinapse.admin.inspection import Inspection
from sinapse.admin.lookups import ChannelsResource, Inspector, SubjectResource
from sinapse.admin.metrics import Node
from sinapse.admin.page import Page
from sinapse.admin.status import Content, MetricsResource, NodeFigures, StatusResource, Text
from sinapse.broker.interface import Broker
from sinapse.counters import Counters
from sinapse.streams.stream import Stream
from sinapse.streams.streams import Streams


def admin_root(
    broker: Broker[Stream],
    streams: Streams,
    counters: Counters,
    *,
    ready: Resource,
    seconds: Callable[[], float],
    hosts: Collection[str],
    prefix: str,
) -> Resource:
    """Return the root of the administration endpoint, see :func:`tree`.

    `seconds` is the clock of the streams, `prefix` what names in Redis begin with.
    """
    figures = NodeFigures(Node(counters, broker, streams.backlog), broker, prefix)
    inspection = Inspection(broker, streams, seconds)
    return tree(figures, inspection, ready, hosts)


class Figures(Protocol):
    """A source of figures: :class:`~sinapse.admin.status.NodeFigures`, or the sum of several."""

    def exposition(self, accept: str) -> Text | Awaitable[Text]:
        """Return what ``/metrics`` answers."""

    def status(self) -> Content:
        """Return what ``/status`` answers."""


def tree(
    figures: Figures, inspector: Inspector, ready: Resource, hosts: Collection[str]
) -> Resource:
    """Return the URLs, of what answers them; `hosts` are names by which we are asked."""
    root = Page()
    root.putChild(b"channels", ChannelsResource(inspector))
    root.putChild(b"metrics", MetricsResource(figures.exposition))
    root.putChild(b"ready", ready)
    root.putChild(b"status", StatusResource(figures.status))
    root.putChild(b"subjects", SubjectResource(inspector))
    return Guard(root, hosts)
