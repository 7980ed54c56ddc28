"""``/subjects/<id>`` and ``/channels``: look-ups, and the end of a subject's streams."""

import re
from typing import Any, Protocol

from twisted.web.server import Request

from sinapse.admin.inspection import ORDERS
from sinapse.admin.status import Content, json_answer
from sinapse.web.answers import Plain

#: Channels in an answer by default, and at most.
DEFAULT_TOP = 20
MAX_TOP = 1000


class Inspector(Protocol):
    """What looks at a node: an :class:`~sinapse.admin.inspection.Inspection`, or several."""

    def subject(self, identifier: str) -> Content:
        """Return a subject with its open streams."""

    def end(self, identifier: str) -> Content:
        """End the streams of a subject; returns how many that were."""

    def channels(self, count: int, order: str) -> Content:
        """Return the `count` channels with the most of `order`."""


class SubjectResource(Plain):
    """``/subjects/<id>``."""

    isLeaf = True  # noqa: N815
    methods = (b"GET", b"HEAD", b"DELETE")

    def __init__(self, inspector: Inspector) -> None:
        super().__init__()
        self._inspector = inspector

    def answer(self, request: Request) -> int:
        """Answer with the subject, or how many of its streams were ended."""
        # An id may have slashes in it, quoted or not.
        postpath: list[bytes] = request.postpath or []
        identifier = b"/".join(postpath).decode(errors="surrogateescape")
        if request.method == b"DELETE":
            return json_answer(request, self._inspector.end(identifier))
        return json_answer(request, self._inspector.subject(identifier))


class ChannelsResource(Plain):
    """``/channels?top=20&by=streams``."""

    def __init__(self, inspector: Inspector) -> None:
        super().__init__()
        self._inspector = inspector

    def answer(self, request: Request) -> int:
        """Answer with the channels that have the most."""
        top, order = (
            _argument(request, b"top", str(DEFAULT_TOP)),
            _argument(request, b"by", "streams"),
        )
        # Not more digits than are meant: int() refuses thousands of them.
        if not (re.fullmatch("[0-9]{1,4}", top) and 1 <= int(top) <= MAX_TOP):
            return _refuse(request, 400, f"top must be from 1 to {MAX_TOP}")
        if order not in ORDERS:
            return _refuse(request, 400, f"by must be {' or '.join(ORDERS)}")
        return json_answer(request, self._inspector.channels(int(top), order))


def _argument(request: Request, name: bytes, default: str) -> str:
    values: dict[bytes, list[bytes]] = request.args or {}
    return values[name][-1].decode("latin-1") if name in values else default


def _refuse(request: Request, status: int, why: str) -> int:
    content: dict[str, Any] = {"error": why}
    return json_answer(request, content, status)
