"""Messages that are published once, by the id that their caller has given them.

While a channel moves, one of its two places decides where such a message is published: that where
the channel was. Who publishes there learns it with the message. Who publishes where the channel is
going to be claims the id there first; what is claimed is published in the new place, by whoever
comes first, and there once. So a publisher that is killed in between loses nothing.
"""

from typing import Any

from sinapse.protocol.ids import parse_id
from sinapse.protocol.names import Names
from sinapse.publisher.operations.operation import Operation, Refused, Request
from sinapse.publisher.operations.published import Published

#: What stands in the place of the id of a message that is published in the other place.
CLAIM = "-"


class Claimed(Published):
    """In the place of a result: the message is to be published in the other place."""


class Claim(Operation[Published | None]):
    """Claims a message id for the other place, for `life` milliseconds.

    The result is None if the message is to be published there; else it was published here, and the
    result is that of publishing it again.
    """

    __slots__ = ("life", "message_id")

    def __init__(self, message_id: str, life: int) -> None:
        self.message_id: str = message_id
        self.life: int = life

    def request(self, names: Names) -> Request:
        """Return the command."""
        key = names.sent_key(self.message_id)
        return Request(("SET", key, CLAIM, "NX", "PX", str(self.life)))

    def result(self, answer: Any) -> "Operation[Any] | None":
        """Return None, or what asks why it cannot be claimed."""
        return _Sent(self) if answer is None else None


class _Sent(Operation[Published | None]):
    """What became of a message whose id could not be claimed."""

    __slots__ = ("_claim",)

    def __init__(self, claim: Claim) -> None:
        self._claim = claim

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("GET", names.sent_key(self._claim.message_id)))

    def result(self, answer: bytes | None) -> Any:
        """Return the result of the claim."""
        if answer is None:  # It is forgotten by now.
            return self._claim
        result = heard([-1, answer])
        return None if isinstance(result, Claimed) else result


def heard(answer: Any) -> Published | Refused:
    """Return the meaning of nodes, of nodes and an id, or of the text of an error."""
    if isinstance(answer, bytes):
        return Refused(answer.decode(errors="replace"))
    nodes, identifier = (answer, b"") if isinstance(answer, int) else answer
    if identifier == CLAIM.encode():
        return Claimed(0)
    found = parse_id(identifier)
    return Published(max(0, nodes), None if found is None else str(found))
