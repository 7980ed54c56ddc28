"""What this machine allows a daemon that runs here."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.sockets.bounds import BACKLOG, FEW_FILES


def check_machine() -> Iterator[Finding]:
    """Look at the limits of open files and of connections that wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    yield Finding(
        Verdict.DOUBT if most < FEW_FILES else Verdict.FINE,
        "open files here",
        f"{soft} (hard limit {'none' if most == sys.maxsize else most})",
        "A stream needs one: raise it where the daemon runs (LimitNOFILE in systemd, ulimit -Hn)."
        if most < FEW_FILES
        else "",
    )
    somaxconn = Path("/proc/sys/net/core/somaxconn")
    if somaxconn.exists():
        backlog = int(somaxconn.read_text())
        yield Finding(
            Verdict.DOUBT if backlog < BACKLOG else Verdict.FINE,
            "net.core.somaxconn here",
            str(backlog),
            f"Where the daemon runs: sysctl net.core.somaxconn={BACKLOG}, or many who connect at "
            "once wait for a second."
            if backlog < BACKLOG
            else "",
        )
