"""A request as the resources get it, over HTTP/1 or HTTP/2: twisted.web's, read with more care."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.server import Request as TwistedRequest

from sinapse.web.answers import SERVER, date

#: A host and perhaps a port (RFC 3986 §3.2), or nothing.
HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)

#: A request target that names the server too (RFC 9112 §3.2.2): its host, and the rest.
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)


class Request(TwistedRequest):
    """A request whose ``repr`` has no query string, since tokens are there."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method!r} {self.path!r}>"

    channel: Any  # An `HTTP1Channel`, or an exchange over HTTP/2.

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002, N802
        """Keep the body in memory: it is small, with or without an announced length."""
        super().gotLength(0)

    def parseCookies(self) -> None:  # noqa: N802
        """Do nothing: few callers need a cookie, and thousands fit into one field."""

    def getCookie(self, key: bytes) -> bytes | None:  # noqa: N802
        """Return the value of the last cookie of that name, if there is one (RFC 6265 §5.4)."""
        found = None
        for field in self.requestHeaders.getRawHeaders(b"Cookie", []):
            for pair in field.split(b";"):
                name, equals, value = pair.lstrip().partition(b"=")
                if equals and name == key:
                    found = value
        return found

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Handle the request: its target may name a server, or begin with too many slashes."""
        if (absolute := _ABSOLUTE.fullmatch(path)) is not None:
            host, path = absolute.groups()
            if not HOST.fullmatch(host):
                self.channel.refuse(400)
                return
            self.requestHeaders.setRawHeaders(b"Host", [host])
        if path != b"*":
            path = b"/" + path.lstrip(b"/")
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Find the resource of the path, and have it answer.

        The base class makes two fields of the answer first: a stream writes its own head.
        """
        self.site = self.channel.site
        self.prepath = []
        self.postpath = list(map(unquote_to_bytes, self.path[1:].split(b"/")))
        if self.path == b"*":
            self.setHeader(b"Server", SERVER)
            self.setHeader(b"Date", date())
            self._handleStar()
            return
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:  # noqa: BLE001  # The client gets an answer, the log the rest.
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> None:  # noqa: N802
        """Answer 500 after an error of ours, if nothing was written yet."""
        self.channel.site.faults("a request could not be answered", reason)
        if self.startedWriting:
            self.channel.abortConnection()
        else:
            self.channel.refuse(500)
            self.connectionLost(reason)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Take a part of the body; in chunks, it comes without its length."""
        if self.content is None:
            return
        if self.content.tell() + len(data) > self.channel.limits.body:
            self.channel.refuse(413)
        else:
            super().handleContentChunk(data)
