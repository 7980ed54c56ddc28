"""What every publisher has in common, however it speaks to Redis."""

import os
from collections.abc import Sequence

from sinapse.environment import is_on
from sinapse.errors import InvalidPrefix
from sinapse.protocol.names import checked_prefix
from sinapse.protocol.redislist import all_under, parse_all, shards_of
from sinapse.protocol.redisurl import RedisURL, from_environment
from sinapse.protocol.sharding import Shards
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.sessions import max_sessions as max_sessions_of

#: Connections, as Ruby's Sinapse has it. A command takes well under a millisecond of one.
POOL_SIZE = 5

#: Seconds for an address of Redis to accept, and for an answer to begin.
CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0


class BasePublisher:
    """Where its Redis is, and what its settings are."""

    urls: tuple[RedisURL, ...]

    def __init__(
        self,
        url: str | RedisURL | Sequence[str | RedisURL] | None,
        max_message: int | None,
        retain: float | None,
        retain_messages: int | None,
        hash_tokens: bool | None,
        *,
        max_sessions: int | None,
        prefix: str | None,
    ) -> None:
        if url is None:
            url = from_environment(os.environ)
        #: Where the API is that stands in the place of Redis, if one does.
        self.api: APIURL | None = APIURL.parse(url) if isinstance(url, str) else None
        if self.api is not None:
            self._check_api()
            if prefix is not None and checked_prefix(prefix):
                raise InvalidPrefix("the API takes no prefix: the daemon that serves it has one")
            self.urls = ()
        elif isinstance(url, RedisURL):
            self.urls = (url,)
        elif isinstance(url, str):
            self.urls = parse_all([url])
        else:
            self.urls = tuple(
                part
                for each in url
                for part in ((each,) if isinstance(each, RedisURL) else parse_all([each]))
            )
        if prefix is None:
            prefix = checked_prefix(os.environ.get("SINAPSE_PREFIX", ""), "SINAPSE_PREFIX")
        self.urls = all_under(checked_prefix(prefix), self.urls)
        #: Which of them has what; none where the API is in their place.
        self.shards: Shards = shards_of(self.urls)
        if hash_tokens is None:
            hash_tokens = is_on(os.environ.get("SINAPSE_HASH_TOKENS", ""))
        #: Whether Redis has hashes of tokens only.
        self.hash_tokens = hash_tokens
        #: How many sessions a subject may have.
        self.max_sessions: int = max_sessions_of(os.environ, max_sessions)
        # Makes the operations that publish, for integrations too.
        self.messages: Messages = Messages(os.environ, max_message, retain, retain_messages)

    @property
    def url(self) -> RedisURL | APIURL:
        """Where its Redis is, of several the first one; or the API in the place of it."""
        return self.urls[0] if self.api is None else self.api

    def _check_api(self) -> None:
        """Raise ``ValueError`` if the API cannot be used."""
        raise ValueError("the API is for sinapse.publisher.Publisher; here, Redis is needed")

    @property
    def max_message(self) -> int:
        """Bytes of data that a message may have."""
        return self.messages.max_message

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(map(str, self.urls or [self.api]))}>"
