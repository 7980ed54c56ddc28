"""A MariaDB of a test's own: Debian's, without any of its settings."""

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

import pymysql

from tests.support import eventually, free_port
from tests.support.browser import program

#: Who it runs as, if we are root.
USER = "mysql"

#: It starts quickly, and takes little. What a killed process has written is in the memory of the
#: machine.
SETTINGS = (
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--performance-schema=OFF",
    "--skip-name-resolve",
)


class MariaDB:
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
        # Its root needs no password.
        options = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self._run("mariadb-install-db", *options).wait()
        self.start()

    def _run(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        command = [program(name, f"/usr/sbin/{name}"), "--no-defaults", *SETTINGS]
        command.append(f"--datadir={self.folder / 'data'}")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._identity,
            )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = self._run(
            "mariadbd",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            *self._options,
        )
        eventually(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.Error):
            self.ask("SELECT 1")
            return True
        return False

    def ask(self, query: str, name: str | None = None) -> Any:
        """Return the first value of the answer, if it has any."""
        address = {"host": "127.0.0.1", "port": self.port, "user": "root", "database": name}
        with (
            contextlib.closing(pymysql.connect(**address, autocommit=True)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            row = cursor.fetchone()
            return row and row[0]

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """Kill it, as the kernel does without memory."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def make(self, name: str) -> dict[str, Any]:
        """Make a database, and return Django's settings for it."""
        self.ask(f"CREATE DATABASE {name}")
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            "USER": "root",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }


@contextlib.contextmanager
def running_mariadb(*options: str) -> Iterator[MariaDB]:
    """Run one; its folder is where its user may go, which cannot enter those of pytest."""
    with tempfile.TemporaryDirectory(prefix="sinapse-my-") as folder:
        Path(folder).chmod(0o755)
        server = MariaDB(Path(folder), options)
        try:
            yield server
        finally:
            server.stop()
