"""What can be configured: one table, for the command line, the environment and ``--help``.

The command line wins over the environment. A bad value ends the start with one line that names
the option, or the variable, and the value.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinapse.environment import is_on
from sinapse.errors import StartError
from sinapse.listen.forwarded import HEADERS, TrustedProxies
from sinapse.protocol.redisurl import DEFAULT_URL, RedisURL
from sinapse.web.cors import Origins
from sinapse.web.limits import RequestLimits


@dataclass(frozen=True)
class Settings:
    """All that the daemon is told; durations in seconds, sizes in bytes."""

    ports: tuple[str, ...]
    redis: tuple[RedisURL, ...]
    origins: Origins
    keep_alive: float
    retry: float
    channel_event: bool
    max_pending: int
    max_pending_total: int
    max_streams: int
    max_streams_per_subject: int
    subject_overflow: str
    max_streams_per_address: int
    max_channels_per_subject: int
    accept_rate: int
    request_timeout: float
    idle_timeout: float
    max_url: int
    max_header: int
    max_body: int
    trusted_proxies: tuple[str, ...]
    forwarded_header: str
    retains: bool
    admin: str | None
    admin_hosts: tuple[str, ...]
    http2: bool
    cookie: bytes | None
    hash_tokens: bool
    api: str | None
    api_keys: Path | None
    stop_status: int
    expiry_notice: float
    drain: float
    max_lifetime: float
    log_format: str
    log_level: str
    presence: bool
    workers: int


@dataclass(frozen=True)
class Option:
    """One row of the table. `read` makes the setting of all values given, and raises ValueError."""

    name: str
    setting: str
    variable: str
    default: str
    read: Callable[[Sequence[str]], Any]
    help: str
    short: str | None = None
    is_flag: bool = False
    heads: str | None = None
    """Title of the group of options that begins with this one."""


def _seconds(least: float, most: float) -> Callable[[Sequence[str]], float]:
    def read(values: Sequence[str]) -> float:
        try:
            seconds = float(values[-1])
        except ValueError:
            seconds = math.nan
        if not least <= seconds <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return seconds

    return read


def _number(least: int, most: int | None = None, unit: str = "") -> Callable[[Sequence[str]], int]:
    upto = "" if most is None else f" to {most}"

    def read(values: Sequence[str]) -> int:
        text = values[-1]
        # Not more digits than any number has that is meant: int() refuses thousands of them.
        number = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if not least <= number or (most is not None and number > most):
            raise ValueError(f"must be a number{unit} from {least}{upto}")
        return number

    return read


def _bytes(least: int, most: int | None = None) -> Callable[[Sequence[str]], int]:
    return _number(least, most, " of bytes")


def _flag(values: Sequence[str]) -> bool:
    return is_on(values[-1])


def _ports(values: Sequence[str]) -> tuple[str, ...]:
    ports = tuple(port for value in values for port in value.split())
    if not ports:
        raise ValueError("names no endpoint")
    return ports


def _choice(*choices: str) -> Callable[[Sequence[str]], str]:
    def read(values: Sequence[str]) -> str:
        for choice in choices:
            if choice.lower() == values[-1].lower():
                return choice
        raise ValueError(f"must be {' or '.join(choices)}")

    return read


def _proxies(values: Sequence[str]) -> tuple[str, ...]:
    entries = tuple(filter(None, re.split(r"[\s,]+", " ".join(values))))
    if not entries:
        raise ValueError("names no proxy")
    if entries == ("none",):
        return ()
    TrustedProxies(entries)
    return entries


def _hosts(values: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.lower() for value in values for name in value.split())
    if not names:
        raise ValueError("names no host")
    for name in names:
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
            raise ValueError(f"{name!r} is no name of a host: that has no scheme, and no port")
    return names


def _cookie(values: Sequence[str]) -> bytes | None:
    name = values[-1]
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("is no name of a cookie (RFC 6265 §4.1.1)")
    return None if name == "off" else name.encode()


def _word(*words: str) -> Callable[[Sequence[str]], str]:
    def read(values: Sequence[str]) -> str:
        if values[-1] not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return values[-1]

    return read


def _workers(values: Sequence[str]) -> int:
    text = values[-1]
    if text == "auto":
        # Those that this process may run on, where the system tells.
        own = getattr(os, "sched_getaffinity", None)
        return len(own(0)) if own is not None else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise ValueError("must be a number of processes from 1 to 1024, or auto")
    return int(text)


def _endpoint(values: Sequence[str]) -> str | None:
    ports = _ports(values[-1:])
    if len(ports) > 1:
        raise ValueError("names more than one endpoint")
    return None if ports == ("off",) else ports[0]


def _file(values: Sequence[str]) -> Path | None:
    if not values[-1]:
        raise ValueError("names no file")
    return None if values[-1] == "off" else Path(values[-1])


OPTIONS = (
    Option(
        "port",
        "ports",
        "SINAPSE_PORT",
        "tcp:9000",
        _ports,
        "Where to listen: 9000, localhost:9000, or a Twisted endpoint description: tcp:9000, "
        "tcp:9000:interface=127.0.0.1, unix:/run/sinapse.sock, ssl:443:privateKey=...:certKey=...; "
        "may be given several times.",
        short="p",
        heads="Where it is, and where Redis is",
    ),
    Option(
        "redis",
        "redis",
        "REDIS_URL",
        DEFAULT_URL,
        RedisURL.parse_all,
        "Where Redis is: redis://user:password@host:port/db, rediss://..., unix:///path?db=0, "
        "redis+sentinel://host:port,host:port/master-name/db, or "
        "embedded:FOLDER for a private Valkey with its data in that folder. Several, with spaces "
        "between or given several times, share the channels; their order matters.",
    ),
    Option(
        "origin",
        "origins",
        "SINAPSE_CORS_ORIGIN",
        "*",
        Origins,
        "Pages of which origin may connect: *, a host name, a full origin, or a regular "
        "expression; several with spaces between, or given several times.",
        short="o",
    ),
    Option(
        "keep-alive",
        "keep_alive",
        "SINAPSE_KEEP_ALIVE",
        "15",
        _seconds(0.1, 3600),
        "Send a comment to streams that were quiet for this long, in seconds.",
        short="k",
        heads="Streams",
    ),
    Option(
        "retry",
        "retry",
        "SINAPSE_RETRY",
        "5",
        _seconds(0, 3600),
        "Reconnection time that browsers are told, in seconds.",
        short="r",
    ),
    Option(
        "channel-event",
        "channel_event",
        "SINAPSE_CHANNEL_EVENT",
        "",
        _flag,
        "Give messages that have no event type the name of their channel as one.",
        is_flag=True,
    ),
    Option(
        "retain",
        "retains",
        "SINAPSE_RETAIN",
        "300",
        lambda values: _seconds(0, 10**9)(values) > 0,
        "Seconds that publishers retain messages, unless they say otherwise; here, 0 means that "
        "streams carry no ids and nobody resumes.",
    ),
    Option(
        "max-pending",
        "max_pending",
        "SINAPSE_MAX_PENDING",
        str(4 * 1024 * 1024),
        _bytes(64 * 1024),
        "Bytes that may wait for one slow stream before it is closed.",
        heads="Limits",
    ),
    Option(
        "max-pending-total",
        "max_pending_total",
        "SINAPSE_MAX_PENDING_TOTAL",
        str(1024 * 1024 * 1024),
        _number(0, unit=" of bytes"),
        "Bytes that may wait for all slow streams together, before the slowest are closed; 0 for "
        "any number.",
    ),
    Option(
        "max-streams",
        "max_streams",
        "SINAPSE_MAX_STREAMS",
        "0",
        _number(0),
        "Streams that may be open at once; 0 for as many as there are file descriptors for.",
    ),
    Option(
        "max-streams-per-subject",
        "max_streams_per_subject",
        "SINAPSE_MAX_STREAMS_PER_SUBJECT",
        "0",
        _number(0),
        "Streams that a subject may have open at once; 0 for any number.",
    ),
    Option(
        "subject-overflow",
        "subject_overflow",
        "SINAPSE_SUBJECT_OVERFLOW",
        "replace",
        _choice("replace", "refuse"),
        "What happens to one stream more than a subject may have: replace, which ends its oldest "
        "one, or refuse.",
    ),
    Option(
        "max-streams-per-address",
        "max_streams_per_address",
        "SINAPSE_MAX_STREAMS_PER_ADDRESS",
        "0",
        _number(0),
        "Streams that an address (of IPv6, a /64 network) may have open at once; 0 for any number. "
        "Behind a proxy, --trusted-proxies must name it.",
    ),
    Option(
        "max-channels-per-subject",
        "max_channels_per_subject",
        "SINAPSE_MAX_CHANNELS_PER_SUBJECT",
        "0",
        _number(0),
        "Channels that a subject may listen to; one with more of them has no streams. 0 for any "
        "number.",
    ),
    Option(
        "accept-rate",
        "accept_rate",
        "SINAPSE_ACCEPT_RATE",
        "0",
        _number(0),
        "Connections that are accepted in a second, others wait; 0 for as many as come.",
    ),
    Option(
        "request-timeout",
        "request_timeout",
        "SINAPSE_REQUEST_TIMEOUT",
        f"{RequestLimits.timeout:g}",
        _seconds(1, 3600),
        "Seconds in which a request must have arrived whole, and TLS been agreed on, after a "
        "connection was accepted; a later request on it, after its first byte.",
    ),
    Option(
        "idle-timeout",
        "idle_timeout",
        "SINAPSE_IDLE_TIMEOUT",
        f"{RequestLimits.idle:g}",
        _seconds(1, 3600),
        "Seconds for which a connection is kept after an answer, if nothing more is asked; longer "
        "than a proxy in front keeps it.",
    ),
    Option(
        "max-url",
        "max_url",
        "SINAPSE_MAX_URL",
        str(RequestLimits.url),
        _bytes(1024, 256 * 1024),
        "Bytes of a request's first line.",
    ),
    Option(
        "max-header",
        "max_header",
        "SINAPSE_MAX_HEADER",
        str(RequestLimits.header),
        _bytes(1024, 256 * 1024),
        "Bytes of a request's header section, the first line included.",
    ),
    Option(
        "max-body",
        "max_body",
        "SINAPSE_MAX_BODY",
        str(RequestLimits.body),
        _bytes(0, 1024 * 1024),
        "Bytes of a request's body: a form with a token in it.",
    ),
    Option(
        "trusted-proxies",
        "trusted_proxies",
        "SINAPSE_TRUSTED_PROXIES",
        "none",
        _proxies,
        "Addresses and networks (10.0.0.0/8) of proxies that are believed when they say who a "
        "client is; several with spaces between.",
        heads="Connections",
    ),
    Option(
        "forwarded-header",
        "forwarded_header",
        "SINAPSE_FORWARDED_HEADER",
        HEADERS[0],
        _choice(*HEADERS),
        f"Where they say it: {HEADERS[0]} or {HEADERS[1]}. The other one is not read, since a "
        "proxy passes it on as it comes.",
    ),
    Option(
        "http2",
        "http2",
        "SINAPSE_HTTP2",
        "on",
        lambda values: _choice("on", "off")(values) == "on",
        "Speak HTTP/2 over TLS with clients that can, so that all streams of a browser share one "
        "connection: on or off.",
    ),
    Option(
        "cookie",
        "cookie",
        "SINAPSE_COOKIE",
        "off",
        _cookie,
        "Name of a cookie to read the token from; pages of other hosts must then be named by "
        "--origin.",
        heads="Tokens",
    ),
    Option(
        "hash-tokens",
        "hash_tokens",
        "SINAPSE_HASH_TOKENS",
        "",
        _flag,
        "Redis has hashes of tokens only, as publishers write them that have this variable.",
        is_flag=True,
    ),
    Option(
        "stop-status",
        "stop_status",
        "SINAPSE_STOP_STATUS",
        "401",
        lambda values: int(_word("401", "204")(values)),
        "Answer to an EventSource whose token is not valid: 401, or 204, at which clients stop "
        "that come back after a 401.",
    ),
    Option(
        "expiry-notice",
        "expiry_notice",
        "SINAPSE_EXPIRY_NOTICE",
        "60",
        _seconds(0, 86400),
        "Seconds before the end of a token that its streams are told, so that the page can get "
        "another one; 0 for not at all.",
    ),
    Option(
        "drain",
        "drain",
        "SINAPSE_DRAIN",
        "20",
        _seconds(0, 3600),
        "Seconds over which the streams are ended, evenly, after a SIGTERM; 0 for all at once, "
        "which is also what a second SIGTERM and SIGINT do.",
        heads="Processes",
    ),
    Option(
        "max-lifetime",
        "max_lifetime",
        "SINAPSE_MAX_LIFETIME",
        "0",
        _seconds(0, 10**7),
        "Seconds after which a stream is ended, give or take a tenth, so that its client comes "
        "back by way of the load balancer; 0 for never.",
    ),
    Option(
        "workers",
        "workers",
        "SINAPSE_WORKERS",
        "1",
        _workers,
        "Processes that serve streams, all on the same endpoints: each uses one CPU at most; auto "
        "for as many as there are CPUs.",
    ),
    Option(
        "api",
        "api",
        "SINAPSE_API",
        "off",
        _endpoint,
        "Where to serve the HTTP API for backends, as for --port; whoever has a key of --api-keys "
        "may publish everything there, and make tokens for everybody.",
        heads="For backends and operators",
    ),
    Option(
        "api-keys",
        "api_keys",
        "SINAPSE_API_KEYS",
        "off",
        _file,
        "File with the keys of the API, of 32 characters or more, one a line; read again at "
        "SIGHUP.",
    ),
    Option(
        "admin",
        "admin",
        "SINAPSE_ADMIN",
        "off",
        _endpoint,
        "Where to serve /metrics for Prometheus, /status as JSON and /ready, as for --port; nobody "
        "is asked for a password there, so unix:/run/sinapse-admin.sock, or "
        "tcp:9001:interface=127.0.0.1.",
    ),
    Option(
        "admin-host",
        "admin_hosts",
        "SINAPSE_ADMIN_HOST",
        "localhost",
        _hosts,
        "Name under which the administration endpoint is asked, besides addresses and names "
        "without a dot: of any other, a page of its owner could be what asks; several with spaces "
        "between, or given several times.",
    ),
    Option(
        "log-format",
        "log_format",
        "SINAPSE_LOG_FORMAT",
        "text",
        _word("text", "json"),
        "How the log is written: text, or json for an object a line.",
    ),
    Option(
        "log-level",
        "log_level",
        "SINAPSE_LOG_LEVEL",
        "info",
        _word("debug", "info", "warn", "error", "critical"),
        "The least that is worth a line: debug (each stream, when it opens and ends), info (what "
        "changes), warn, error or critical.",
    ),
    Option(
        "presence",
        "presence",
        "SINAPSE_PRESENCE",
        "",
        _flag,
        "Tell Redis which subjects have streams, for Publisher.online() and online_in().",
        is_flag=True,
    ),
)


def groups() -> list[tuple[str, list[Option]]]:
    """Return the titles of groups, each with its options, all in the order of the table."""
    found: list[tuple[str, list[Option]]] = []
    for option in OPTIONS:
        if option.heads is not None:
            found.append((option.heads, []))
        found[-1][1].append(option)
    return found


def is_link(option: Option, environment: Mapping[str, str]) -> bool:
    """Whether the variable of `option` is one of Kubernetes' for a Service of our name.

    Every pod of the namespace is told where the Service ``sinapse`` is: ``SINAPSE_PORT`` is
    ``tcp://10.0.0.12:9000`` then, which is no endpoint.
    """
    return option.setting == "ports" and environment.get(option.variable, "").startswith("tcp://")


def resolve(given: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> Settings:
    """Make the settings of what the command line gave, by option name, and the environment.

    Raises :class:`~sinapse.errors.StartError`.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name in given:
            source, texts = f"--{option.name}", list(given[option.name])
        else:
            # An empty variable is one that somebody meant to unset.
            text = None if is_link(option, environment) else environment.get(option.variable)
            source, texts = option.variable, [text or option.default]
        try:
            values[option.setting] = option.read(texts)
        except ValueError as error:
            # A Redis URL may have a password in it.
            shown = "" if option.name == "redis" else f" {' '.join(texts)!r}"
            raise StartError(f"sinapse: {source}{shown}: {error}") from None
    settings = Settings(**values)
    if settings.cookie is not None and settings.origins.any:
        raise StartError(
            "sinapse: --cookie: any page could open streams in the name of its visitors;"
            " name the pages that may with --origin"
        )
    if settings.api is not None and settings.api_keys is None:
        raise StartError("sinapse: --api: name the file with its keys with --api-keys")
    for port in settings.ports:
        is_proxied = port.startswith("haproxy:") and not port.startswith("haproxy:unix:")
        if is_proxied and not settings.trusted_proxies:
            raise StartError(f"sinapse: --port {port!r}: name the proxies with --trusted-proxies")
    return settings
