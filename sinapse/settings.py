"""What can be configured: declared once, for the command line, the environment and ``--help``.

The command line wins over the environment. A bad value ends the start with one line that names
the option, or the variable, and the value.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sinapse.environment import is_off, is_on
from sinapse.errors import StartError
from sinapse.listen.forwarded import HEADERS, TrustedProxies
from sinapse.protocol.redisurl import DEFAULT_URL, RedisURL
from sinapse.web.cors import Origins
from sinapse.web.limits import RequestLimits


@dataclass(frozen=True)
class Option:
    """What a setting is called. `read` makes it of all values given, and raises ``ValueError``."""

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


def option(default: str, read: Callable[[Sequence[str]], Any], text: str, **more: Any) -> Any:
    """Declare a setting; what it is called follows from its name, unless `more` says otherwise.

    `text` is its help, and `more` what else an :class:`Option` has.
    """
    declared = {"name": "", "setting": "", "variable": ""} | more
    return field(metadata={"option": Option(default=default, read=read, help=text, **declared)})


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


def _word(*words: str) -> Callable[[Sequence[str]], str]:
    meant = {word.lower(): word for word in words}

    def read(values: Sequence[str]) -> str:
        if values[-1].lower() not in meant:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return meant[values[-1].lower()]

    return read


def _switch(values: Sequence[str]) -> bool:
    return not is_off(values[-1]) and _word("on", "off")(values) == "on"


def _ports(values: Sequence[str]) -> tuple[str, ...]:
    ports = tuple(port for value in values for port in value.split())
    if not ports:
        raise ValueError("names no endpoint")
    return ports


def _proxies(values: Sequence[str]) -> tuple[str, ...]:
    entries = tuple(filter(None, re.split(r"[\s,]+", " ".join(values))))
    if not entries:
        raise ValueError("names no proxy")
    if len(entries) == 1 and is_off(entries[0]):
        return ()
    TrustedProxies(entries)
    return entries


def _hosts(values: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.lower() for value in values for name in value.split())
    if not names:
        raise ValueError("names no host")
    for name in names:
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
            raise ValueError(f"{name!r} is not a host name: write it without scheme and port")
    return names


def _cookie(values: Sequence[str]) -> bytes | None:
    name = values[-1]
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("is not a cookie name (RFC 6265 §4.1.1)")
    return None if is_off(name) else name.encode()


def _workers(values: Sequence[str]) -> int:
    text = values[-1]
    if text.lower() == "auto":
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
    return None if is_off(ports[0]) else ports[0]


def _file(values: Sequence[str]) -> Path | None:
    if not values[-1]:
        raise ValueError("names no file")
    return None if is_off(values[-1]) else Path(values[-1])


@dataclass(frozen=True)
class Settings:
    """All options of the daemon; durations in seconds, sizes in bytes."""

    ports: tuple[str, ...] = option(
        "tcp:9000",
        _ports,
        "Where to listen: 9000, localhost:9000, or a Twisted endpoint description: tcp:9000, "
        "tcp:9000:interface=127.0.0.1, unix:/run/sinapse.sock, "
        "ssl:443:privateKey=...:certKey=...; several, separated by spaces or each with the option.",
        name="port",
        short="p",
        heads="Where to listen, and where Redis is",
    )
    redis: tuple[RedisURL, ...] = option(
        DEFAULT_URL,
        RedisURL.parse_all,
        "Where Redis is: redis://user:password@host:port/db, rediss://..., unix:///path?db=0, "
        "redis+sentinel://host:port,host:port/master-name/db, or embedded:FOLDER for a private "
        "Valkey with its data in that folder. Several, separated by spaces or each with the "
        "option, share the channels; their order matters.",
        variable="REDIS_URL",
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
        _seconds(0.1, 3600),
        "Seconds of silence on a stream after which the daemon sends a comment.",
        short="k",
        heads="Streams",
    )
    retry: float = option(
        "5",
        _seconds(0, 3600),
        "Reconnection time that browsers are told, in seconds.",
        short="r",
    )
    channel_event: bool = option(
        "",
        _flag,
        "Send the name of the channel as event type of messages that have none.",
        is_flag=True,
    )
    retains: bool = option(
        "300",
        lambda values: _seconds(0, 10**9)(values) > 0,
        "Seconds for which publishers retain messages by default; for the daemon, 0 means streams "
        "without ids, which cannot resume.",
        name="retain",
    )
    max_pending: int = option(
        str(4 * 1024 * 1024),
        _bytes(64 * 1024),
        "Bytes that may wait for one slow stream before it is closed.",
        heads="Limits",
    )
    max_pending_total: int = option(
        str(1024 * 1024 * 1024),
        _number(0, unit=" of bytes"),
        "Bytes that may wait for all slow streams together before the slowest are closed; 0 for "
        "no limit.",
    )
    max_streams: int = option(
        "0",
        _number(0),
        "Streams that may be open at once; 0 for as many as the file descriptors allow.",
    )
    max_streams_per_subject: int = option(
        "0",
        _number(0),
        "Streams that a subject may have open at once; 0 for no limit.",
    )
    subject_overflow: str = option(
        "replace",
        _word("replace", "refuse"),
        "What to do with a stream over --max-streams-per-subject: replace, which ends the oldest "
        "stream of the subject, or refuse.",
    )
    max_streams_per_address: int = option(
        "0",
        _number(0),
        "Streams that an address (an IPv6 /64 network counts as one) may have open at once; 0 for "
        "no limit. Behind a proxy, --trusted-proxies must name the proxy.",
    )
    max_channels_per_subject: int = option(
        "0",
        _number(0),
        "Channels that a subject may listen to; a subject with more gets no streams. 0 for no "
        "limit.",
    )
    accept_rate: int = option(
        "0",
        _number(0),
        "Connections that are accepted in a second, the others wait; 0 for no limit.",
    )
    request_timeout: float = option(
        f"{RequestLimits.timeout:g}",
        _seconds(1, 3600),
        "Seconds after the accept in which the TLS handshake and the first request must be "
        "complete; for a later request, seconds after its first byte.",
    )
    idle_timeout: float = option(
        f"{RequestLimits.idle:g}",
        _seconds(1, 3600),
        "Seconds for which a connection is kept after an answer without a new request; must be "
        "longer than a proxy in front keeps it.",
    )
    max_url: int = option(
        str(RequestLimits.url),
        _bytes(1024, 256 * 1024),
        "Largest first line of a request, in bytes.",
    )
    max_header: int = option(
        str(RequestLimits.header),
        _bytes(1024, 256 * 1024),
        "Largest header section of a request with its first line, in bytes.",
    )
    max_body: int = option(
        str(RequestLimits.body),
        _bytes(0, 1024 * 1024),
        "Largest body of a request, which is a form with a token, in bytes.",
    )
    trusted_proxies: tuple[str, ...] = option(
        "none",
        _proxies,
        "Addresses and networks (10.0.0.0/8) of the proxies that may say who a client is; "
        "several, separated by spaces.",
        heads="Connections",
    )
    forwarded_header: str = option(
        HEADERS[0],
        _word(*HEADERS),
        f"Header field in which they say it: {HEADERS[0]} or {HEADERS[1]}. The other field is not "
        "read, because a proxy passes it on as the client sent it.",
    )
    http2: bool = option(
        "on",
        _switch,
        "Speak HTTP/2 over TLS with clients that can, so that all streams of a browser share one "
        "connection: on or off.",
    )
    cookie: bytes | None = option(
        "off",
        _cookie,
        "Name of a cookie to read the token from; --origin must then name the origins of the "
        "pages.",
        heads="Tokens",
    )
    hash_tokens: bool = option(
        "",
        _flag,
        "Redis has only hashes of tokens; publishers must have this variable too.",
        is_flag=True,
    )
    stop_status: int = option(
        "401",
        lambda values: int(_word("401", "204")(values)),
        "Answer to an EventSource whose token is not valid: 401, or 204 for clients that would "
        "come back after a 401.",
    )
    expiry_notice: float = option(
        "60",
        _seconds(0, 86400),
        "Seconds before the end of a token at which its streams are told, so that the page can "
        "get a new one; 0 for never.",
    )
    drain: float = option(
        "20",
        _seconds(0, 3600),
        "Seconds over which the streams are ended evenly after a SIGTERM; 0 for all at once. A "
        "second SIGTERM, or a SIGINT, always ends all at once.",
        heads="Processes",
    )
    max_lifetime: float = option(
        "0",
        _seconds(0, 10**7),
        "Seconds after which a stream is ended, give or take a tenth, so that its client comes "
        "back through the load balancer; 0 for never.",
    )
    workers: int = option(
        "1",
        _workers,
        "Processes that serve streams on the same endpoints; each uses one CPU at most. auto for "
        "one for each CPU.",
    )
    api: str | None = option(
        "off",
        _endpoint,
        "Where to serve the HTTP API for backends, as for --port. Anyone who has a key of "
        "--api-keys can publish to every channel, and make a token for every subject.",
        heads="For backends and operators",
    )
    api_keys: Path | None = option(
        "off",
        _file,
        "File with the keys of the API, one on each line, of 32 characters or more; it is read "
        "again at SIGHUP.",
    )
    admin: str | None = option(
        "off",
        _endpoint,
        "Where to serve /metrics for Prometheus, /status as JSON and /ready, as for --port. It "
        "asks for no password, so use unix:/run/sinapse-admin.sock, or "
        "tcp:9001:interface=127.0.0.1.",
    )
    admin_hosts: tuple[str, ...] = option(
        "localhost",
        _hosts,
        "Host name with dots to which the administration endpoint answers; addresses and names "
        "without dots always work, other names could be those of a foreign web page. Several, "
        "separated by spaces or each with the option.",
        name="admin-host",
    )
    log_format: str = option(
        "text",
        _word("text", "json"),
        "How the log is written: text, or json for one object on each line.",
    )
    log_level: str = option(
        "info",
        _word("debug", "info", "warn", "error", "critical"),
        "Lowest level that is logged: debug (each stream, when it opens and ends), info "
        "(changes), warn, error or critical.",
    )
    presence: bool = option(
        "",
        _flag,
        "Write to Redis which subjects have streams, for Publisher.online() and online_in().",
        is_flag=True,
    )


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
    for option in OPTIONS:
        if option.heads is not None:
            found.append((option.heads, []))
        found[-1][1].append(option)
    return found


def is_link(option: Option, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes has set the variable of `option`, for a Service of our name.

    In every pod of the namespace of a Service ``sinapse``, ``SINAPSE_PORT`` is
    ``tcp://10.0.0.12:9000``, which is no endpoint.
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
