"""A Redis that is looked at: what it is asked, and what it says of itself."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from sinapse.cli.checks.finding import ANSWER_TIMEOUT, text_of
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.connections import Connections
from sinapse.publisher.subscriber import Subscriber

#: A line of what INFO answers.
_FIELD = re.compile(r"^(\w+):(.*?)\r?$", re.MULTILINE)


class Server:
    """The Redis of `url`, which is called `name` in what is found."""

    def __init__(self, url: RedisURL) -> None:
        self.url = url
        self.name = f"Redis {url}"
        self._connections = Connections(
            url, size=1, connect_timeout=ANSWER_TIMEOUT, timeout=ANSWER_TIMEOUT
        )

    def __enter__(self) -> Self:
        """Connect when it is first asked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._connections.close()

    def ask(self, *command: str) -> Any:
        """Return the answer to a command; raises ``BrokerUnavailable``."""
        return self._connections.execute(*command)

    def refusal(self, *command: str) -> str | None:
        """Return why a command is refused, without the address; None if it is not."""
        try:
            self.ask(*command)
        except BrokerUnavailable as error:
            return self.reason(error)
        return None

    def reason(self, error: BrokerUnavailable) -> str:
        """Return the text of an error without the address, which `name` has already."""
        return text_of(error).removeprefix(f"Redis at {self.url}: ")

    def information(self, *section: str) -> Mapping[str, str]:
        """Return what INFO answers; empty if that is nothing of the kind."""
        answer = self.ask("INFO", *section)
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else ""
        return dict(_FIELD.findall(text))

    def setting(self, name: str) -> str | None:
        """Return a setting; None if it is not told, as by services that host Redis."""
        try:
            answer = self.ask("CONFIG", "GET", name)
        except BrokerUnavailable:  # An ACL, or there is no CONFIG.
            return None
        return answer[1].decode() if isinstance(answer, list) and len(answer) > 1 else None

    def subscriber(self) -> Subscriber:
        """Return a connection that can subscribe."""
        return Subscriber(self.url, self._connections)

    @contextmanager
    def database(self, number: int) -> Iterator["Server"]:
        """Yield another database of it."""
        with Server(replace(self.url, db=number)) as other:
            yield other
