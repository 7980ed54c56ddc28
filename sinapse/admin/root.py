"""The URLs of the administration endpoint."""

from twisted.web.resource import Resource

from sinapse.admin.figures import MetricsResource, StatusResource
from sinapse.answers import NotFound, Ready
from sinapse.broker.broker import Broker
from sinapse.counters import Counters
from sinapse.hub import Hub
from sinapse.metrics import Metrics, NodeCollector
from sinapse.streams import Streams


def admin_root(hub: Hub, broker: Broker, streams: Streams, counters: Counters) -> Resource:
    """Return the root of the administration endpoint."""
    collector = NodeCollector(counters, hub, is_ready=lambda: broker.ready, backlog=streams.backlog)
    metrics = Metrics(collector)
    root = NotFound()
    root.putChild(b"metrics", MetricsResource(metrics))
    root.putChild(b"ready", Ready(broker))
    root.putChild(b"status", StatusResource(collector, metrics, lambda: broker.state))
    return root
