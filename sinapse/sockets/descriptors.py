"""How many files, and so how many connections, a process may have open: as many as it may ask for.

The soft limit is 1,024 nearly everywhere, for the sake of programs that use select(2); the hard one
is what an administrator has set.
"""

import resource

from twisted.logger import Logger

from sinapse.sockets.bounds import FEW_FILES

#: Descriptors that are no client's: files, listening sockets, connections to Redis, and twice as
#: many while those are made again.
RESERVED = 64

#: Descriptors that are reserved for ``--api``, and as many for ``--admin``: a flood of streams does
#: not stop backends from publishing, nor the other way round.
RESERVED_PER_ENDPOINT = 256

#: Connections that are accepted only to answer that there are too many streams.
REFUSABLE = 256

_log = Logger()


def raise_limit() -> None:
    """Raise the soft limit to the hard limit, and warn if that is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            # Some systems have a lower one that they do not tell.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (
            OSError,
            ValueError,
        ) as error:
            _log.warn(
                "the limit of open files stays {soft}, and is not {hard}: {error}",
                soft=soft,
                hard=hard,
                error=error,
            )
    if (files := open_files()) < FEW_FILES:
        _log.warn(
            "{files} open files are allowed, which is {streams} streams a process: raise the hard"
            " limit (LimitNOFILE= of systemd, ulimit -Hn)",
            files=files,
            streams=streams(),
        )


def open_files() -> int:
    """Return the soft limit: it can be changed at any time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def connections() -> int:
    """Return how many connections of clients there may be."""
    files = open_files()
    return files - min(RESERVED, files // 2) - 2 * aside()


def aside() -> int:
    """Return how many connections there may be to ``--api``, and how many to ``--admin``."""
    return min(RESERVED_PER_ENDPOINT, open_files() // 16)


def streams() -> int:
    """Return how many of them may be streams: there must be a way to refuse one more."""
    capacity = connections()
    return capacity - min(REFUSABLE, capacity // 8)
