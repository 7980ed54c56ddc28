"""``/subjects/<id>`` and ``/channels``: look-ups, and the end of a subject's streams.

Nobody is asked for a password, so it is pages of others that a browser must be kept from. They
cannot read an answer nor ask for a DELETE, unless their host name leads to this machine (DNS
rebinding): so what names people is answered to an address, or to ``localhost``, only.
"""

import re
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.web.server import Request

from sinapse.admin.figures import Content, json_answer
from sinapse.admin.inspection import ORDERS
from sinapse.answers import Plain

#: Channels in an answer, unless it is said how many, and the most.
TOP = 20
MOST = 1000


class Looks(Protocol):
    """What looks at a node: an :class:`~sinapse.admin.inspection.Inspection`, or several."""

    def subject(self, identifier: str) -> Content:
        """Return a subject with its open streams."""

    def end(self, identifier: str) -> Content:
        """End the streams of a subject; returns how many that were."""

    def channels(self, count: int, order: str) -> Content:
        """Return the `count` channels with the most of `order`."""


class Guarded(Plain):
    """Answers nobody who came by a name that may be anybody's."""

    def render(self, request: Request) -> int:
        """Refuse a foreign page; see above."""
        if not _is_ours(request):
            return _refuse(request, 403, "open this by address, or as localhost")
        return super().render(request)


class SubjectResource(Guarded):
    """``/subjects/<id>``."""

    isLeaf = True  # noqa: N815
    methods = (b"GET", b"HEAD", b"DELETE")

    def __init__(self, looks: Looks) -> None:
        super().__init__()
        self._looks = looks

    def answer(self, request: Request) -> int:
        """Answer with the subject, or how many of its streams were ended."""
        # An id may have slashes in it, quoted or not.
        postpath: list[bytes] = request.postpath or []
        identifier = b"/".join(postpath).decode(errors="surrogateescape")
        if request.method == b"DELETE":
            return json_answer(request, self._looks.end(identifier))
        return json_answer(request, self._looks.subject(identifier))


class ChannelsResource(Guarded):
    """``/channels?top=20&by=streams``."""

    def __init__(self, looks: Looks) -> None:
        super().__init__()
        self._looks = looks

    def answer(self, request: Request) -> int:
        """Answer with the channels that have the most."""
        top, order = _argument(request, b"top", str(TOP)), _argument(request, b"by", "streams")
        # Not more digits than are meant: int() refuses thousands of them.
        if not (re.fullmatch("[0-9]{1,4}", top) and 1 <= int(top) <= MOST):
            return _refuse(request, 400, f"top must be from 1 to {MOST}")
        if order not in ORDERS:
            return _refuse(request, 400, f"by must be {' or '.join(ORDERS)}")
        return json_answer(request, self._looks.channels(int(top), order))


def _argument(request: Request, name: bytes, default: str) -> str:
    values: dict[bytes, list[bytes]] = request.args or {}
    return values[name][-1].decode("latin-1") if name in values else default


def _refuse(request: Request, status: int, why: str) -> int:
    content: dict[str, Any] = {"error": why}
    return json_answer(request, content, status)


def _is_ours(request: Request) -> bool:
    """Whether a page that asks this is our own, and no page asks it from elsewhere."""
    host = request.getHeader(b"Host") or b""
    origin = request.getHeader(b"Origin")
    if origin is not None and origin.partition(b"://")[2] != host:
        return False
    if isinstance(request.getHost(), UNIXAddress):  # Where no browser gets to.
        return True
    name = request.getRequestHostname().decode("latin-1").lower()
    return name == "localhost" or name.endswith(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
