"""A real Redis Sentinel."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import redis

from tests.support import free_port, redis_binary

#: What Sentinels call the master.
MASTER = "main"

SETTINGS = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {master} {quorum}
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 3000
"""


class Sentinel:
    """A real Sentinel on a free port."""

    def __init__(self, folder: Path, master: int, quorum: int, settings: str = "") -> None:
        self.port = free_port()
        file = folder / f"sentinel-{self.port}.conf"
        values = {"folder": folder, "name": MASTER, "master": master, "quorum": quorum}
        file.write_text(SETTINGS.format(port=self.port, **values) + settings)
        self.process = subprocess.Popen(
            [redis_binary(), str(file), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False

    def ask(self, *command: str, password: str | None = None) -> object:
        with contextlib.closing(redis.Redis(port=self.port, password=password)) as client:
            return client.execute_command(*command)
