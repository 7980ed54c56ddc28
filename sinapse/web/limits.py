"""How much a request may be, and how many of them a connection may make."""

from dataclasses import dataclass

#: Header fields of a request; browsers send about 20.
MAX_FIELDS = 100

#: Bytes of the name of one.
MAX_NAME = 256

#: Requests of one connection that are handled in a second, and at most at once, if it does not wait
#: for answers; the others have to wait.
REQUESTS_PER_SECOND = 200

#: Frames of one connection, over HTTP/2 or of a WebSocket, that are handled in a second, and at
#: most at once (CVE-2019-9512: PING, -9515: SETTINGS).
FRAMES_PER_SECOND = 1000

#: Digits of a Content-Length: more than any body has, and fewer than ``int`` refuses.
MAX_DIGITS = 18

#: What is said of a request that goes beyond.
REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


@dataclass(frozen=True)
class RequestLimits:
    """What a request may be: seconds until it has arrived whole, and sizes in bytes.

    nginx and Apache take some 8 KiB of URL, nginx and Node.js 32 and 16 KiB of header section. The
    body is a form with a token in it. `idle` is seconds until the next one begins on a connection
    that stays: more than the 60 for which load balancers use it again.
    """

    timeout: float = 10
    idle: float = 75
    url: int = 8 * 1024
    header: int = 16 * 1024
    body: int = 16 * 1024
