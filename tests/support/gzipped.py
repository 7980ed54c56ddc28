"""A client of event streams that takes gzip, and reads what it gets as soon as it can."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Callable
from functools import cached_property

from tests.support.daemon import Daemon, Stream

#: What a client says that takes it.
GZIP = {"Accept-Encoding": "gzip"}


class GzippedStream(Stream):
    """An event stream whose body is gzip, if the server wants that."""

    #: Bytes of the body, as it came.
    size = 0

    _text = b""

    @cached_property
    def response(self) -> http.client.HTTPResponse:
        response = self.connection.getresponse()
        self._read1 = response.read1
        self._inflate: Callable[[bytes], bytes] = bytes
        if response.headers["Content-Encoding"] == "gzip":
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
        response.readline = self._readline  # type: ignore[method-assign, assignment]
        return response

    def _readline(self) -> bytes:
        """Return a line; it waits for nothing that is behind."""
        while b"\n" not in self._text:
            data = self._read1(65536)
            if not data:
                return b""
            self.size += len(data)
            self._text += self._inflate(data)
        line, self._text = self._text.split(b"\n", 1)
        return line + b"\n"


def gzipped(daemon: Daemon, token: str, after: str | None = None) -> GzippedStream:
    """Open an event stream, or resume one."""
    resume = {} if after is None else {"Last-Event-ID": after}
    return GzippedStream(daemon.address, f"/?access_token={token}", {**GZIP, **resume})
