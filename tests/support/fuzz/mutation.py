"""Seeds for each target, and changes to them that keep some of their sense."""

from __future__ import annotations

import random
from pathlib import Path

from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sinapse.protocol.message import Message, pack, pack_retained

CORPUS = Path(__file__).parent / "corpus"

_WHOLE = b"\0"  # The first byte of what goes over a connection: sent in one piece.


def _request(method: bytes, target: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: a", *fields, b"", body])


_UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _masked(opcode: int, text: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(text), 0, 0, 0, 0]) + text


def _over_http2() -> list[bytes]:
    # GET / with :path in full: /?access_token=t (RFC 7541, appendix A and B are not needed).
    head = b"\x82\x87\x41\x01a\x04\x10/?access_token=t"
    headers = HeadersFrame(1, head, flags=["END_HEADERS", "END_STREAM"]).serialize()
    window = WindowUpdateFrame(0, window_increment=1000).serialize()
    settings = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}).serialize()
    reset = RstStreamFrame(1, 8).serialize()
    # A field that is named as no field may be (RFC 9110 §5.1), in full.
    names = [
        HeadersFrame(
            1, head + b"\0%c%b\x01x" % (len(name), name), flags=["END_HEADERS"]
        ).serialize()
        for name in (b"a(b", b"a,b", b'"', b"x/y")
    ]
    return [
        *(_WHOLE + SettingsFrame(0).serialize() + each for each in names),
        _WHOLE + headers + GoAwayFrame(0).serialize() + window,
        _WHOLE + SettingsFrame(0).serialize() + headers,
        _WHOLE + settings + headers + window + reset,
        b"\x03" + settings + headers + headers + window,
    ]


_FORM = b"Content-Type: application/x-www-form-urlencoded"
_ONE = b"Content-Length: 1"
_JSON = b"Accept: application/json"
_EVENTS = b"Accept: text/event-stream"

SEEDS: dict[str, list[bytes]] = {
    "http": [
        _WHOLE + _request(b"GET", b"/?access_token=t", _EVENTS, b"Origin: http://a"),
        _WHOLE + _request(b"GET", b"/?access_token=t&lastEventId=1-1&padding=true", _EVENTS),
        _WHOLE + _request(b"GET", b"/", b"Authorization: Bearer t", b"Last-Event-ID: 1-1"),
        _WHOLE + _request(b"GET", b"/?access_token=a", _EVENTS),
        _WHOLE + _request(b"GET", b"/?access_token=t", _JSON) * 2,
        _WHOLE + _request(b"GET", b"/?access_token=t&last_event_id=1-1", _JSON),
        _WHOLE + _request(b"OPTIONS", b"/", b"Origin: x", b"Access-Control-Request-Method: GET"),
        _WHOLE + _request(b"POST", b"/", _FORM, b"Content-Length: 14", body=b"access_token=t"),
        _WHOLE
        + _request(
            *(b"POST", b"/", _FORM, b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
            body=b"e\r\naccess_token=t\r\n0\r\n\r\n",
        ),
        _WHOLE
        + _request(
            *(b"POST", b"/", b"Content-Type: multipart/form-data; boundary=x"),
            b"Content-Length: 76",
            body=b'--x\r\nContent-Disposition: form-data; name="access_token"\r\n\r\nt\r\n'
            b"--x--\r\n",
        ),
        _WHOLE + _request(b"GET", b"/?access_token=t", *_UPGRADE) + _masked(1, b"hello"),
        _WHOLE + _request(b"GET", b"/", *_UPGRADE, b"Sec-WebSocket-Protocol: sinapse.token.t"),
        b"\x01" + _request(b"HEAD", b"/status") + _request(b"GET", b"/ready"),
        _WHOLE + _request(b"POST", b"/", b"Content-Type: a/b;n*0*", _ONE, body=b"x"),
        _WHOLE + _request(b"POST", b"/", b"Content-Type: text/plain; name*", _ONE, body=b"x"),
        _WHOLE + _request(b"POST", b"/", b"Content-Type: " + b"(" * 1000, _ONE, body=b"x"),
        _WHOLE + _request(b"POST", b"/", b"Content-Type: " + b";" * 9000, _ONE, body=b"x"),
        _WHOLE + _request(b"GET", b"/", b"Content-Length: " + b"9" * 5000),
        _WHOLE + _request(b"GET", b"http://a/?access_token=t", _EVENTS) + _request(b"GET", b"//"),
        _WHOLE + _request(b"GET", b"/status", b"Host: b"),
        _WHOLE + b"GET / HTTP/1.0\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    ],
    "http2": _over_http2(),
    "websocket": [
        _WHOLE + _masked(1, b"hello") + _masked(9, b"ping") + _masked(10, b""),
        _WHOLE + _masked(8, b"\x03\xe8bye"),
        b"\x01" + b"\x01\x85\0\0\0\0hello" + _masked(0, "é".encode()),
        _WHOLE + b"\x82\xfe\x04\x00\0\0\0\0" + b"x" * 1024,
    ],
    "payload": [
        pack(Message("hello")),
        pack(Message("a\r\nb\nc\rd", "event")),
        pack_retained(Message("x" * 40, "e\ns")) + b"\xa31-1",
        b"\x93\xc0\xc4\x05hello\xa31-1",
        b"\x81\xa1a\xa1b",
    ],
    "forwarded": [
        b"192.0.2.1, 10.0.0.2",
        b"[2001:db8::1]:80, unknown, 10.0.0.3:1",
        b'for="[2001:db8::1]:4711";by=10.0.0.1;proto=https, for=192.0.2.1',
    ],
}


def seeds(target: str) -> list[bytes]:
    """Return the seeds of a target, and what was kept of former runs."""
    kept = [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]
    return SEEDS[target] + kept


def mutated(data: bytes, others: list[bytes], source: random.Random) -> bytes:
    """Return `data` changed in one place or some."""
    changed = bytearray(data)
    for _ in range(source.choice([1, 1, 2, 4, 8])):
        at = source.randrange(len(changed) + 1)
        match source.randrange(7):
            case 0:
                changed[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                changed[at:at] = source.randbytes(source.choice([1, 2, 4, 16]))
            case 2:
                del changed[at : at + source.choice([1, 2, 4, 32])]
            case 3:
                end = at + source.randrange(64)
                changed[at:at] = changed[at:end] * source.choice([1, 2, 64])
            case 4:
                other = source.choice(others)
                begin = source.randrange(len(other) + 1)
                changed[at:at] = other[begin : begin + source.randrange(200)]
            case 5:
                if at < len(changed):
                    changed[at] ^= 1 << source.randrange(8)
            case _:
                word = (b"\r\n", b"\0", b"\xff", b"-1", b"0", b"9" * 20, b":", b";", b",", b"%00")
                changed[at:at] = source.choice(word)
    return bytes(changed[: 64 * 1024])
