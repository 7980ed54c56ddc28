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
    """Seconds of processor time; `total` is exact, its parts are in ticks."""

    user: float
    system: float
    total: float

    def since(self, before: "Cpu") -> "Cpu":
        """Return what was used since `before`."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    for each in pids:
        with contextlib.suppress(FileNotFoundError):  # A thread or a process that has just ended.
            for task in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def cpu(pid: int) -> Cpu:
    """Return what a process and its descendants have used, those that have ended included."""
    user = system = total = 0.0
    for each in family(pid):
        # The name in parentheses may have spaces in it.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        used = [int(field) * TICK for field in fields[11:15]]
        user += used[0] + used[2]
        system += used[1] + used[3]
        # Ticks are too coarse for a burst that takes ten of them. What the scheduler has counted,
        # in nanoseconds, is without threads and children that have ended.
        total += max(_running(each), used[0] + used[1] - TICK) + used[2] + used[3]
    return Cpu(user, system, total)


def _running(pid: int) -> float:
    seconds = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
    return seconds


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
