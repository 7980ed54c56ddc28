"""Look at every command that a Redis carries out, those of scripts too."""

from __future__ import annotations

import ast
import re
import socket
from typing import Self

import redis

from tests.support import EVENT_TIMEOUT, RedisServer

#: Ends what is looked at: it is no command of anybody else.
END = "monitoring:end"

_ARGUMENT = re.compile(rb'"(?:[^"\\]|\\.)*"')

#: Commands with the names of PUB/SUB channels: where these begin.
CHANNELS = {"publish": 1, "subscribe": 1, "unsubscribe": 1, "psubscribe": 1, "punsubscribe": 1}

#: Of PUBLISH, one argument is a channel.
ONE = {"publish"}

#: Commands without a name.
NAMELESS = {"info", "ping", "time", "hello", "client", "auth", "select", "script", "quit", "config"}


class Monitor:
    """Collects the commands of a with block: see :attr:`commands`."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        #: Each as a list of its arguments, its name in lower case.
        self.commands: list[list[str]] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(("127.0.0.1", self._server.port), EVENT_TIMEOUT)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(b"MONITOR\r\n")
        assert self._file.readline() == b"+OK\r\n"
        return self

    def __exit__(self, *_: object) -> None:
        with self._server.client() as client:
            client.echo(END)
        while True:
            # Python reads what C escapes, but for the quotes of bytes.
            words = [
                ast.literal_eval(f"b{each.decode()}").decode(errors="replace")
                for each in _ARGUMENT.findall(self._file.readline())
            ]
            if words[1:] == [END]:
                break
            self.commands.append([words[0].lower(), *words[1:]])
        self._file.close()
        self._socket.close()

    def names(self, client: redis.Redis) -> set[str]:
        """Return the keys and the PUB/SUB channels of all commands."""
        found: set[str] = set()
        for command in self.commands:
            name, *rest = command
            if name in CHANNELS:
                found.update(rest[:1] if name in ONE else rest)
            elif name == "pubsub":
                found.update(rest[1:])
            elif name in ("eval", "evalsha"):
                found.update(rest[2 : 2 + int(rest[1])])
            elif name not in NAMELESS:
                keys = client.execute_command("COMMAND GETKEYS", *command)
                found.update(keys)
        return found
