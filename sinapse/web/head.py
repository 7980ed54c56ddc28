"""The head of a request that came whole, read at once; twisted.web reads it line by line.

A request line and some fields in one piece is what nearly every client begins with. What has a
body, or is unusual in any way, is left to twisted.web, which refuses what is wrong; what is read
here it would read in the same way.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from sinapse.web.limits import MAX_FIELDS, MAX_NAME, RequestLimits

#: RFC 9112 §3 and §5, without what it calls obsolete. No part of it can match in two ways, so that
#: it takes no longer for hostile data.
_HEAD = re.compile(
    rb"[A-Z]{1,16} [!-~]+ HTTP/1\.[01]\r\n"
    rb"(?:[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}:[^\0\r\n]*\r\n){0,%d}\r\n" % (MAX_NAME, MAX_FIELDS)
)

#: Fields of which more is to be understood than what they say.
_NOT_HERE = frozenset((b"content-length", b"transfer-encoding", b"expect"))


class Head(NamedTuple):
    """The parts of it, as they were sent."""

    method: bytes
    target: bytes
    version: bytes
    fields: Sequence[tuple[bytes, bytes]]


def read(data: bytes, limits: RequestLimits) -> Head | None:
    """Return what `data` is if it is one whole request, small and without a body; or None."""
    if len(data) > limits.header or not data.endswith(b"\r\n\r\n") or not _HEAD.fullmatch(data):
        return None
    line, *lines = data[:-4].split(b"\r\n")
    if len(line) > limits.url:
        return None
    fields = []
    for each in lines:
        name, _, value = each.partition(b":")
        if name.lower() in _NOT_HERE:
            return None
        fields.append((name, value.strip(b" \t")))
    method, target, version = line.split(b" ")
    return Head(method, target, version, fields)
