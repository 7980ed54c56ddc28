"""What commands share that speak to Redis."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sinapse.child import ChildFailed
from sinapse.errors import BrokerUnavailable, Incomplete, InvalidPrefix, TokenIsHashed
from sinapse.publisher import Publisher

#: The code that sysexits.h has for a service that is not there.
UNAVAILABLE = 69

#: What there is to do where Redis has hashes of tokens only.
HASHED = (
    "tokens are hashed, so the current one cannot be read: "
    "'sinapse token reset' makes another in its place, and --token listens with it"
)

Command = TypeVar("Command", bound=Callable[..., Any])


class Unavailable(click.ClickException):
    """Redis or the daemon is not there."""

    exit_code = UNAVAILABLE


class Refused(click.ClickException):
    """What was asked for cannot be."""


#: What all names in Redis begin with.
prefix_option = click.option(
    "--prefix",
    metavar="TEXT",
    help="What all names in Redis begin with.  [default: SINAPSE_PREFIX]",
)


def publishing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--redis`` and ``--prefix``, and a `publisher` that goes with them."""

    @click.option(
        "--redis",
        metavar="URL",
        help="Where Redis is.  [default: REDIS_URL, or redis://localhost:6379/0]",
    )
    @prefix_option
    @functools.wraps(command)
    def wrapped(redis: str | None, prefix: str | None, **options: Any) -> None:
        with in_one_line(), connected(redis, prefix) as publisher:
            command(publisher=publisher, **options)

    return wrapped


def connected(redis: str | None, prefix: str | None) -> Publisher:
    """Return a publisher for `redis` and `prefix`, or for what the environment says."""
    try:
        return Publisher(redis, prefix=prefix)
    except InvalidPrefix as error:
        raise Refused(str(error)) from None
    except ValueError as error:
        # A URL may have a password in it: it is not quoted.
        source = "REDIS_URL" if redis is None else "--redis"
        raise Refused(f"{source}: {error}") from None


class in_one_line:  # noqa: N801  # Used as a context manager, like those of contextlib.
    """Say in one line what the library raises."""

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Turn an error into one of click's: of several, the first that is the caller's."""
        if isinstance(error, Incomplete):
            error = next((each for each in error.results if isinstance(each, ValueError)), error)
        if isinstance(error, BrokerUnavailable):
            raise Unavailable(_line(error)) from None
        if isinstance(error, TokenIsHashed):
            raise Refused(HASHED) from None
        if isinstance(error, ValueError):
            raise Refused(_line(error)) from None
        if isinstance(error, ChildFailed):  # With lines of its log.
            raise click.ClickException(str(error)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
