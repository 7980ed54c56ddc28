"""The URLs of the administration endpoint."""

from collections.abc import Callable

from twisted.web.resource import Resource

from sinapse.admin.figures import MetricsResource, StatusResource
from sinapse.admin.inspection import Inspection
from sinapse.admin.looks import ChannelsResource, SubjectResource
from sinapse.admin.page import Page
from sinapse.admission import Authority, Table
from sinapse.counters import Counters
from sinapse.metrics import Metrics, NodeCollector
from sinapse.streams import Streams


def admin_root(
    hub: Table,
    broker: Authority,
    streams: Streams,
    counters: Counters,
    *,
    ready: Resource,
    seconds: Callable[[], float],
) -> Resource:
    """Return the root of the administration endpoint; `seconds` is the clock of the streams."""
    collector = NodeCollector(counters, hub, is_ready=lambda: broker.ready, backlog=streams.backlog)
    metrics = Metrics(collector)
    inspection = Inspection(hub, streams, seconds)
    root = Page()
    root.putChild(b"channels", ChannelsResource(inspection))
    root.putChild(b"metrics", MetricsResource(metrics))
    root.putChild(b"ready", ready)
    root.putChild(b"status", StatusResource(collector, metrics, lambda: broker.state))
    root.putChild(b"subjects", SubjectResource(inspection))
    return root
