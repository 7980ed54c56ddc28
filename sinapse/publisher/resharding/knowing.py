"""Whether all nodes act by what a Redis says: each says so by what it is subscribed to.

So it is known without a question, it needs no room in Redis, and it ends with the connection.
"""

import re

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.connections import Connections

#: What a node is subscribed to, after the name that all are subscribed to: a name of its own, and
#: that with what it knows, or with the state that its list has. An epoch looks as its name does.
_NODE = re.compile(rb"([0-9a-f]{16})(?::([0-9]+|joining|left))?")


class Nodes:
    """The nodes that hear the Redis at `url` when this is made; each worker is one.

    Whoever comes later has read what was said before. Every method raises
    :class:`~sinapse.errors.BrokerUnavailable`.
    """

    def __init__(self, url: RedisURL, part: Connections) -> None:
        self._part = part
        before = url.names.nodes.encode() + b":"
        epoch = part.execute("HGET", url.names.retention, "epoch")
        names = set()
        telling: set[bytes] = set()
        moving: set[bytes] = set()
        for channel in part.execute("PUBSUB", "CHANNELS", before + b"*"):
            found = _NODE.fullmatch(channel, len(before))
            if found is not None and found[1] != epoch:
                names.add(before + found[1])
                if found[2] is not None:
                    (telling if found[2].isdigit() else moving).add(before + found[1])
        self._telling = sorted(telling)
        self.count: int = len(names)
        #: How many are of an earlier version, and cannot say what they know.
        self.mute: int = len(names - telling)
        #: How many have a list in which nobody's home is here yet, or any more.
        self.moving: int = len(moving)

    def behind(self, since: str) -> int:
        """Return how many are still there, could say that they act by `since`, and have not."""
        if not self._telling:
            return 0
        asked = [
            channel
            for node in self._telling
            for channel in (node, b"%b:%b" % (node, since.encode()))
        ]
        counts = self._part.execute("PUBSUB", "NUMSUB", *asked)[1::2]
        return sum(
            bool(is_there and not knows)
            for is_there, knows in zip(counts[::2], counts[1::2], strict=True)
        )
