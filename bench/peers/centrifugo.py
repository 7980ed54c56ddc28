"""Centrifugo: unidirectional event streams and WebSockets, JSON Web Tokens, publishing by HTTP."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from load import DATA, Publishing, Stream

from peers.jwt import KEY, token
from peers.server import Peer, Running, Workload, free_port, installed, launched


def _channel(number: int) -> str:
    return f"room{number}"


def _configuration(workload: Workload, port: int, publishing_port: int) -> dict[str, Any]:
    return {
        "http_server": {
            "address": "127.0.0.1",
            "port": port,
            "internal_port": str(publishing_port),
            "tls_external": True,
            "tls": {
                "enabled": workload.certificate is not None,
                "cert_pem": str(workload.certificate or ""),
                "key_pem": str(workload.certificate or ""),
            },
        },
        "log": {"level": "warn"},
        "client": {
            "token": {"hmac_secret_key": KEY},
            "allowed_origins": ["*"],
            "ping_interval": f"{workload.keep_alive:.0f}s",
            "pong_timeout": "1s",
        },
        # As Sinapse's: the last 1,000 messages of five minutes, and places to go on from.
        "channel": {
            "without_namespace": {
                "history_size": 1000,
                "history_ttl": "300s",
                "force_recovery": True,
            }
        },
        "http_api": {"key": KEY},
        "uni_sse": {"enabled": True},
        "uni_websocket": {"enabled": True},
        "usage_stats": {"disabled": True},
    }


def _stream(workload: Workload, user: int) -> Stream:
    """Return a stream whose token has the list of its channels in it."""
    channels = workload.streams[user]
    claims = {"sub": str(user), "channels": [_channel(number) for number in channels]}
    transport = "uni_websocket" if workload.websocket else "uni_sse"
    connect = quote(json.dumps({"token": token(claims)}, separators=(",", ":")))
    return Stream(f"/connection/{transport}?cf_connect={connect}", channels)


def _publish(channel: int) -> bytes:
    body = json.dumps({"channel": _channel(channel), "data": DATA.decode()}).encode()
    return (
        b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %b\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (KEY.encode(), len(body), body)
    )


@contextlib.contextmanager
def _run(workload: Workload, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    program = installed("centrifugo")
    port, publishing_port = free_port(), free_port()
    configuration = folder / "centrifugo.json"
    configuration.write_text(json.dumps(_configuration(workload, port, publishing_port)))
    streams = [_stream(workload, user) for user in range(len(workload.streams))]
    templates = [_publish(number) for number in range(workload.channels)]
    command = [str(program), "--config", str(configuration)]
    with launched(command, folder, cores, port) as pid:
        yield Running(pid, port, streams, Publishing(publishing_port, templates, "HTTP/1.1 2"))


PEER = Peer("Centrifugo", "a b c c2 c3 d e f ha hb hc i ie", _run)
