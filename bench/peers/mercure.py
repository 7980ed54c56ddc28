"""Mercure: the hub in Caddy, JSON Web Tokens, publishing by HTTP.

Release 1.0 has other tokens, and other names, than those before it; both are understood.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

from load import Publishing, Stream

from peers.jwt import KEY, token
from peers.server import Peer, Running, Workload, free_port, installed, launched

_CONFIGURATION = """\
{{
  admin off
  auto_https off
  persist_config off
  log default {{
    level WARN
  }}
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  {encode}
  mercure {{
    {keys}
    heartbeat {keep_alive:.0f}s
    transport bolt {{
      path {folder}/updates.db
      size 1000
    }}
  }}
}}
"""

#: A stream begins with two bytes: for less than 512 Caddy would decide against it for good.
_ENCODE = "encode {\n gzip\n minimum_length 1\n }"

_ISSUER = "https://localhost"
_AUDIENCE = "https://localhost/.well-known/mercure"

#: How the hub is told what to check tokens with: since 1.0, and before.
_KEYS = f"""\
resource_identifier {_AUDIENCE}
    issuer {_ISSUER} {{{{
      publisher {{{{
        jwt "{KEY}" HS256
      }}}}
      subscriber {{{{
        jwt "{KEY}" HS256
      }}}}
    }}}}""".replace("{{", "{").replace("}}", "}")
_FORMER_KEYS = f"""\
publisher_jwt "{KEY}" HS256
    subscriber_jwt "{KEY}" HS256"""


def _topic(number: int) -> str:
    return f"https://localhost/room/{number}"


def _token(action: str, topics: Sequence[str]) -> str:
    """Return a token that hubs of both kinds accept."""
    detail = {
        "type": "https://mercure.rocks/authorization-detail",
        "actions": [action],
        "topics": [{"match": topic} for topic in topics],
    }
    return token(
        {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "exp": int(time.time()) + 24 * 3600,
            "mercure": {action: list(topics)},
            "authorization_details": [detail],
        },
        "at+jwt",
    )


def _publish(channel: int, authorization: str, data: bytes) -> bytes:
    # Only private updates are for those alone whose token has the topic.
    fields = {"topic": _topic(channel), "private": "on", "data": data}
    body = urlencode(fields).encode()
    return (
        b"POST /.well-known/mercure HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%b"
        % (authorization.encode(), len(body), body)
    )


@contextlib.contextmanager
def _run(workload: Workload, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    program = installed("mercure")
    port = free_port()
    configuration = folder / "Caddyfile"

    def configure(keys: str) -> None:
        configuration.write_text(
            _CONFIGURATION.format(
                port=port,
                keys=keys,
                keep_alive=workload.keep_alive,
                folder=folder,
                encode=_ENCODE if workload.compress else "",
            )
        )

    configure(_KEYS)
    check = [str(program), "validate", "--config", str(configuration)]
    parameter = "match"
    if subprocess.run(check, capture_output=True, check=False).returncode:
        configure(_FORMER_KEYS)
        parameter = "topic"
    streams = []
    for channels in workload.streams:
        topics = [_topic(number) for number in channels]
        query = urlencode([(parameter, topic) for topic in topics])
        header = f"Authorization: Bearer {_token('subscribe', topics)}"
        streams.append(Stream(f"/.well-known/mercure?{query}", channels, header=header))
    authorization = _token("publish", ["*"])
    templates = [
        _publish(number, authorization, workload.data_of(number))
        for number in range(workload.channels)
    ]
    command = [str(program), "run", "--config", str(configuration)]
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with launched(command, folder, cores, port, home) as pid:
        yield Running(pid, port, streams, Publishing(port, templates, "HTTP/1.1 2"))


PEER = Peer("Mercure", "a b c c2 c3 d e f", _run)
