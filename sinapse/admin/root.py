"""The URLs of the administration endpoint."""

from twisted.web.resource import Resource

from sinapse.admin.figures import MetricsResource, StatusResource
from sinapse.admission import Authority, Table
from sinapse.answers import NotFound
from sinapse.counters import Counters
from sinapse.metrics import Metrics, NodeCollector
from sinapse.streams import Streams


def admin_root(
    hub: Table, broker: Authority, streams: Streams, counters: Counters, ready: Resource
) -> Resource:
    """Return the root of the administration endpoint."""
    collector = NodeCollector(counters, hub, is_ready=lambda: broker.ready, backlog=streams.backlog)
    metrics = Metrics(collector)
    root = NotFound()
    root.putChild(b"metrics", MetricsResource(metrics))
    root.putChild(b"ready", ready)
    root.putChild(b"status", StatusResource(collector, metrics, lambda: broker.state))
    return root
