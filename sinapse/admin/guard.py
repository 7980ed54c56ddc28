"""Who may ask the administration endpoint anything.

There is no password, so foreign web pages in the operator's browser must be kept out. They cannot
read an answer nor ask for a DELETE, unless their host name resolves to this machine (DNS
rebinding). So requests are answered only if they name an address, a name without a dot, which is
one of the local network, or a name of ``--admin-host``.
"""

from collections.abc import Collection
from ipaddress import ip_address

from twisted.internet.address import UNIXAddress
from twisted.web.resource import Resource
from twisted.web.server import Request

from sinapse.admin.status import json_answer
from sinapse.web.answers import Plain

#: What anybody may know: load balancers and schedulers ask it by whatever name they have.
OPEN = b"ready"


class Guard(Plain):
    """Refuses requests to a host name that may be foreign; names in `hosts` are allowed."""

    def __init__(self, guarded: Resource, hosts: Collection[str]) -> None:
        super().__init__()
        self._guarded = guarded
        self._hosts = hosts

    def getChildWithDefault(self, path: bytes, request: Request) -> Resource:  # noqa: N802
        """Return what is asked for, or a refusal."""
        if path == OPEN or self._is_ours(request):
            child: Resource = self._guarded.getChildWithDefault(path, request)
            return child
        return Foreign()

    def _is_ours(self, request: Request) -> bool:
        """Whether a page that asks this is our own, and no page asks it from elsewhere."""
        host = request.getHeader(b"Host") or b""
        origin = request.getHeader(b"Origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            return False
        if isinstance(request.getHost(), UNIXAddress):  # Where no browser gets to.
            return True
        name = request.getRequestHostname().decode("latin-1").lower()
        is_here = "." not in name or name.endswith(".localhost")
        return is_here or name in self._hosts or _is_address(name)


class Foreign(Plain):
    """Anything that is asked by a name that is not ours."""

    isLeaf = True  # noqa: N815

    def render(self, request: Request) -> int:
        """Answer 403, whatever the method."""
        why = "open this by address, by a name without a dot, or by one of --admin-host"
        return json_answer(request, {"error": why}, 403)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
