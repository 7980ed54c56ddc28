"""A PostgreSQL of a test's own: Debian's, which refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import eventually, free_port
from tests.support.browser import program

#: Who it runs as, if we are root.
USER = "postgres"


def server_program(name: str) -> str:
    """Return where a program of PostgreSQL is; without one, the test ends here.

    Debian keeps them apart, by their versions.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return program(name, *map(str, reversed(versions)))


class Postgres:
    """A server with its data in a folder, which is gone when it ends."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self._options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        options = ("-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C")
        subprocess.run(
            [server_program("initdb"), *options, "-D", str(self._data)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **self._identity,
        )
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # What a killed process has written is in the memory of the machine.
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "fsync=off")
        options = [part for each in settings for part in ("-c", each)] + [*self._options]
        command = [server_program("postgres"), "-D", str(self._data), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._identity,
            )
        ask = [server_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        eventually(lambda: subprocess.run(ask, check=False).returncode == 0)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once, with its children."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """Kill it and all of its processes, as the kernel does without memory."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def make(self, name: str) -> dict[str, Any]:
        """Make a database, and return Django's settings for it."""
        command = [server_program("createdb"), "-h", "127.0.0.1", "-p", str(self.port)]
        subprocess.run([*command, "-U", USER, name], check=True)
        return self.settings(name)

    def settings(self, name: str = "postgres") -> dict[str, Any]:
        """Return Django's settings for a database."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": USER,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }


@contextlib.contextmanager
def running_postgres(*options: str) -> Iterator[Postgres]:
    """Run one; its folder is where its user may go, which cannot enter those of pytest."""
    with tempfile.TemporaryDirectory(prefix="sinapse-pg-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder), options)
        try:
            yield server
        finally:
            server.stop()
