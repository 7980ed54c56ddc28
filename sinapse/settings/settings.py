"""The options of the daemon, in their order: what each is called, means and is by default."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sinapse.protocol.message import MAX_RETAIN
from sinapse.protocol.redislist import parse_all
from sinapse.protocol.redisurl import DEFAULT_URL, RedisURL
from sinapse.settings import values
from sinapse.settings.option import Option, option
from sinapse.sockets.forwarded import HEADERS
from sinapse.web.cors import Origins
from sinapse.web.limits import RequestLimits


@dataclass(frozen=True)
class Settings:
    """All options of the daemon; durations in seconds, sizes in bytes."""

    ports: tuple[str, ...] = option(
        "tcp:9000",
        values.endpoints,
        "Where to listen: 9000, localhost:9000, or a Twisted endpoint description: tcp:9000, "
        "tcp:9000:interface=127.0.0.1, unix:/run/sinapse.sock, "
        "ssl:443:privateKey=...:certKey=...; several, separated by spaces or each with the option.",
        name="port",
        short="p",
        heads="Where to listen, and where Redis is",
    )
    redis: tuple[RedisURL, ...] = option(
        DEFAULT_URL,
        parse_all,
        "Where Redis is: redis://user:password@host:port/db, rediss://..., unix:///path?db=0, "
        "redis+sentinel://host:port,host:port/master-name/db, or embedded:FOLDER for a private "
        "Valkey with its data in that folder. Several, separated by spaces or each with the "
        "option, share the channels; with a name before each, a=redis://host b=redis://host, their "
        "order does not matter.",
        variable="REDIS_URL",
    )
    min_redis: float = option(
        "50%",
        values.share,
        "Share of several Redis that must be there for /ready to answer 200. Streams open in any "
        "case if the Redis is there that has their token.",
    )
    prefix: str = option(
        "none",
        values.prefix,
        "What all names in Redis begin with, so that several applications can share one, as with "
        "staging: for one of them; publishers must have this variable too. A URL of Redis can have "
        "its own: redis://host:port/db?prefix=staging:.",
    )
    origins: Origins = option(
        "*",
        Origins,
        "Origins whose pages may connect: *, a host name, a full origin, or a regular expression; "
        "several, separated by spaces or each with the option.",
        name="origin",
        variable="SINAPSE_CORS_ORIGIN",
        short="o",
    )
    keep_alive: float = option(
        "15",
        values.seconds(0.1, 3600),
        "Seconds of silence on a stream after which the daemon sends a comment.",
        short="k",
        heads="Streams",
    )
    retry: float = option(
        "5",
        values.seconds(0, 3600),
        "Reconnection time that browsers are told, in seconds.",
        short="r",
    )
    channel_event: bool = option(
        "",
        values.flag,
        "Send the name of the channel as event type of messages that have none.",
        is_flag=True,
    )
    compress: int | None = option(
        "512",
        values.size_or_off(0),
        "Bytes from which a message is compressed, once for all clients that take gzip, or "
        "permessage-deflate over a WebSocket; off for never.",
    )
    retains: bool = option(
        "300",
        lambda texts: values.seconds(0, MAX_RETAIN)(texts) > 0,
        "Seconds for which publishers retain messages by default; for the daemon, 0 means streams "
        "without ids, which cannot resume.",
        name="retain",
    )
    max_pending: int = option(
        str(4 * 1024 * 1024),
        values.size(64 * 1024),
        "Bytes that may wait for one slow stream before it is closed.",
        heads="Limits",
    )
    max_pending_total: int = option(
        str(1024 * 1024 * 1024),
        values.size(0),
        "Bytes that may wait for all slow streams together before the slowest are closed; 0 for "
        "no limit.",
    )
    max_streams: int = option(
        "0",
        values.number(0),
        "Streams that may be open at once; 0 for as many as the file descriptors allow.",
    )
    max_streams_per_subject: int = option(
        "0",
        values.number(0),
        "Streams that a subject may have open at once; 0 for no limit.",
    )
    subject_overflow: str = option(
        "replace",
        values.word("replace", "refuse"),
        "What to do with a stream over --max-streams-per-subject: replace, which ends the oldest "
        "stream of the subject, or refuse.",
    )
    max_streams_per_address: int = option(
        "0",
        values.number(0),
        "Streams that an address (an IPv6 /64 network counts as one) may have open at once; 0 for "
        "no limit. Behind a proxy, --trusted-proxies must name the proxy.",
    )
    max_channels_per_subject: int = option(
        "0",
        values.number(0),
        "Channels that a subject may listen to; a subject with more gets no streams. Its inbox "
        "does not count. 0 for no limit.",
    )
    admit_empty: bool = option(
        "",
        values.flag,
        "Let subjects connect that may listen to nothing yet; they are refused otherwise, and "
        "their streams end with their last channel.",
        is_flag=True,
    )
    accept_rate: int = option(
        "0",
        values.number(0),
        "Connections that are accepted in a second, the others wait; 0 for no limit.",
    )
    request_timeout: float = option(
        f"{RequestLimits.timeout:g}",
        values.seconds(1, 3600),
        "Seconds after the accept in which the TLS handshake and the first request must be "
        "complete; for a later request, seconds after its first byte.",
    )
    idle_timeout: float = option(
        f"{RequestLimits.idle:g}",
        values.seconds(1, 3600),
        "Seconds for which a connection is kept after an answer without a new request; must be "
        "longer than a proxy in front keeps it.",
    )
    max_url: int = option(
        str(RequestLimits.url),
        values.size(1024, 256 * 1024),
        "Largest first line of a request, in bytes.",
    )
    max_header: int = option(
        str(RequestLimits.header),
        values.size(1024, 256 * 1024),
        "Largest header section of a request with its first line, in bytes.",
    )
    max_body: int = option(
        str(RequestLimits.body),
        values.size(0, 1024 * 1024),
        "Largest body of a request, which is a form with a token, in bytes.",
    )
    trusted_proxies: tuple[str, ...] = option(
        "none",
        values.proxies,
        "Addresses and networks (10.0.0.0/8) of the proxies that may say who a client is; "
        "several, separated by spaces.",
        heads="Connections",
    )
    forwarded_header: str = option(
        HEADERS[0],
        values.word(*HEADERS),
        f"Header field in which they say it: {HEADERS[0]} or {HEADERS[1]}. The other field is not "
        "read, because a proxy passes it on as the client sent it.",
    )
    http2: bool = option(
        "on",
        values.switch,
        "Speak HTTP/2 over TLS with clients that can, so that all streams of a browser share one "
        "connection: on or off.",
    )
    cookie: bytes | None = option(
        "off",
        values.cookie,
        "Name of a cookie to read the token from; --origin must then name the origins of the "
        "pages.",
        heads="Tokens",
    )
    hash_tokens: bool = option(
        "",
        values.flag,
        "Redis has only hashes of tokens; publishers must have this variable too.",
        is_flag=True,
    )
    stop_status: int = option(
        "401",
        lambda texts: int(values.word("401", "204")(texts)),
        "Answer to an EventSource whose token is not valid: 401, or 204 for clients that would "
        "come back after a 401.",
    )
    expiry_notice: float = option(
        "60",
        values.seconds(0, 86400),
        "Seconds before the end of a token at which its streams are told, so that the page can "
        "get a new one; 0 for never.",
    )
    drain: float = option(
        "20",
        values.seconds(0, 3600),
        "Seconds over which the streams are ended evenly after a SIGTERM; 0 for all at once. A "
        "second SIGTERM, or a SIGINT, always ends all at once.",
        heads="Processes",
    )
    max_lifetime: float = option(
        "0",
        values.seconds(0, 10**7),
        "Seconds after which a stream is ended, give or take a tenth, so that its client comes "
        "back through the load balancer; 0 for never.",
    )
    workers: int = option(
        "1",
        values.processes,
        "Processes that serve streams on the same endpoints; each uses one CPU at most. auto for "
        "one for each CPU.",
    )
    api: str | None = option(
        "off",
        values.endpoint,
        "Where to serve the HTTP API for backends, as for --port. Anyone who has a key of "
        "--api-keys can publish to every channel, and make a token for every subject.",
        heads="For backends and operators",
    )
    api_keys: Path | None = option(
        "off",
        values.file,
        "File with the keys of the API, one on each line, of 32 characters or more; it is read "
        "again at SIGHUP.",
    )
    admin: str | None = option(
        "off",
        values.endpoint,
        "Where to serve /metrics for Prometheus, /status as JSON and /ready, as for --port. It "
        "asks for no password, so use unix:/run/sinapse-admin.sock, or "
        "tcp:9001:interface=127.0.0.1.",
    )
    admin_hosts: tuple[str, ...] = option(
        "localhost",
        values.hosts,
        "Host name with dots to which the administration endpoint answers; addresses and names "
        "without dots always work, other names could be those of a foreign web page. Several, "
        "separated by spaces or each with the option.",
        name="admin-host",
    )
    log_format: str = option(
        "text",
        values.word("text", "json"),
        "How the log is written: text, or json for one object on each line.",
    )
    log_level: str = option(
        "info",
        values.word("debug", "info", "warn", "error", "critical"),
        "Lowest level that is logged: debug (each stream, when it opens and ends), info "
        "(changes), warn, error or critical.",
    )
    presence: bool = option(
        "",
        values.flag,
        "Write to Redis which subjects have streams, for Publisher.online() and online_in(), and "
        "which channels have listeners.",
        is_flag=True,
    )

    @property
    def prefixes(self) -> str:
        """What all names in Redis begin with; several if they differ, with spaces between."""
        return " ".join(dict.fromkeys(url.prefix for url in self.redis if url.prefix))


def _options() -> Iterator[Option]:
    for each in fields(Settings):
        declared: Option = each.metadata["option"]
        words = declared.name or each.name.replace("_", "-")
        variable = declared.variable or f"SINAPSE_{words.upper().replace('-', '_')}"
        yield replace(declared, name=words, setting=each.name, variable=variable)


#: All of them, in their order.
OPTIONS = tuple(_options())


def groups() -> list[tuple[str, list[Option]]]:
    """Return the titles of groups, each with its options, all in the order of the table."""
    found: list[tuple[str, list[Option]]] = []
    for each in OPTIONS:
        if each.heads is not None:
            found.append((each.heads, []))
        found[-1][1].append(each)
    return found
