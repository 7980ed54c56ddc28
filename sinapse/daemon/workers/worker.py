"""A worker, as it sees itself: a daemon on what its parent gave it."""

import os
from dataclasses import replace
from functools import partial
from shutil import rmtree

from twisted.internet.endpoints import quoteStringArgument

from sinapse.child import end_with
from sinapse.daemon.daemon import Daemon
from sinapse.daemon.workers.inheritance import Inheritance
from sinapse.daemon.workers.ports import InheritedPorts
from sinapse.protocol.redisurl import RedisURL
from sinapse.settings import Settings


def make_worker(settings: Settings, inheritance: Inheritance) -> Daemon:
    """Return the daemon of a worker; the process is one from here on."""
    become_one(inheritance)
    own = replace(
        settings,
        redis=own_redis(settings),
        # The parent serves the API, which has no streams.
        api=None,
        admin=inheritance.admin and f"unix:{quoteStringArgument(inheritance.admin)}:mode=600",
    )
    return Daemon(own, InheritedPorts(inheritance.descriptors), inheritance.ear)


def become_one(inheritance: Inheritance) -> None:
    """Make this process one that ends with its parent."""
    # What is typed at the terminal of the parent is for the parent, which tells us.
    os.setsid()
    end_with(0, partial(rmtree, inheritance.folder, ignore_errors=True))


def own_redis(settings: Settings) -> tuple[RedisURL, ...]:
    """Return the Redis: the parent runs an embedded server, whose socket is known."""
    return tuple(replace(url, embedded=None) for url in settings.redis)
