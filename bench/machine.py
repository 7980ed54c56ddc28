"""The machine: its cores, its name, and what a process and its children cost on it."""

import contextlib
import os
import platform
from pathlib import Path
from typing import NamedTuple

#: Seconds of one tick of /proc/PID/stat.
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """Which cores run the server, and which everything else: load, Redis, this program."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """Give the server the first core, and the load the others; with one core all share it."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset([first]), frozenset(others or [first]))


class Cpu(NamedTuple):
    """Seconds of processor time."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.system

    def since(self, before: "Cpu") -> "Cpu":
        """Return what was used since `before`."""
        return Cpu(self.user - before.user, self.system - before.system)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    for each in pids:
        for task in Path(f"/proc/{each}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # A thread that has just ended.
                pids += map(int, (task / "children").read_text().split())
    return pids


def cpu(pid: int) -> Cpu:
    """Return what a process and its descendants have used, those that have ended included."""
    user = system = 0
    for each in family(pid):
        # The name in parentheses may have spaces in it.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return Cpu(user * TICK, system * TICK)


def memory(pid: int) -> int:
    """Return the bytes of memory of a process and its descendants: what is shared in parts."""
    return sum(_pss(each) for each in family(pid))


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    raise LookupError(f"no Pss of process {pid}")


def description() -> str:
    """Return processor, number of cores, memory, kernel and Python in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{model}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
