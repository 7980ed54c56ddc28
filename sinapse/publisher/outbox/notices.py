"""What PostgreSQL tells a connection that listens: there may be new rows."""

from inspect import signature
from typing import Any


class Notices:
    """Those of a `connection` of psycopg 3.2, readable by ``select`` when one comes."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """Return the number of its socket."""
        return int(self._connection.fileno())

    def taken(self) -> bool:
        """Take those that are there, and return whether there were any.

        Raises what psycopg does if the connection is lost.
        """
        return bool([*self._connection.notifies(timeout=0)])


def of(connection: Any) -> Notices | None:
    """Return the notices of a driver's connection; None if it is of a driver without them."""
    # With psycopg2 it is no function, and before psycopg 3.2 it has no end.
    found = getattr(connection, "notifies", None)
    has_them = callable(found) and "timeout" in signature(found).parameters
    return Notices(connection) if has_them else None
