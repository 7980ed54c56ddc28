"""Listening: any of Twisted's server endpoints, with errors that say what to do."""

import contextlib
import re
import socket
from pathlib import Path
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Service
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.haproxy import proxyEndpoint

from sinapse.errors import StartError
from sinapse.sockets import certificates
from sinapse.sockets.bounds import BACKLOG
from sinapse.sockets.gate import Gate
from sinapse.sockets.inherited import SharedSocket
from sinapse.sockets.tlstransport import TLSFactory

# The endpoints that take a backlog, and the order of the arguments that are given without a name.
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
}

#: Who may connect to a UNIX socket, by what it is for: whoever connects to a port is believed who a
#: client is, whoever connects to the others can do everything.
MODES = {"port": "660", "admin": "600", "api": "600"}

#: A port, or a host and a port, as other programs want it: 9000, localhost:9000, [::1]:9000.
_PLACE = re.compile(r"(?:(?:\[([\da-fA-F:.]+)\]|(localhost|[\w-]+(?:\.[\w-]+)+)):)?(\d{1,5})")

#: What other programs take for a place, and what is written for it here. That of a host alone
#: is by what it is for.
_MEANT = [
    (re.compile(pattern), written)
    for pattern, written in (
        (r"([\da-fA-F]*(?::[\da-fA-F]*){2,7}):(\d{1,5})", "[{0}]:{1}"),
        (r"(?:\*?:)?(\d{1,5})(?:/tcp)?", "{0}"),
        (r"(\d{1,5})[:,;](\d{1,5})", "{0} {1}"),
        (r"https://[^:/]+(?::(\d{1,5}))?/?", "ssl:{0}:privateKey=FILE:certKey=FILE"),
        (r"http://([^:/]+|\[[^]/]+\])(?::(\d{1,5}))?/?", "{0}:{1}"),
        (r"(?:tcp:|tcp://)([^:=/]+):(\d{1,5})", "{0}:{1}"),
        (r"(?:unix://)?(/.+)", "unix:{0}"),
        (r"([A-Za-z][\w.-]*|\d+(?:\.\d+){3}|\[[\da-fA-F:]+\])", "{0}:{1}"),
    )
]

#: The usual ports, by what they are for.
PORTS = {"port": "9000", "admin": "9001", "api": "9002"}

#: The kind of endpoint that stands before another one: clients come with a PROXY header.
PROXY = "haproxy:"

# An argument of an endpoint's description, and the name and value of one that has a name. A
# backslash quotes what follows it.
_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)")
_NAMED = re.compile(r"((?:\\.|[^=\\])*)=(.*)")
_QUOTED = re.compile(r"\\(.)")


class Listener(Service):
    """Serves `factory` on the endpoint that `description` describes, the value of `option`."""

    _log = Logger()
    _certificates: certificates.Certificates | None = None

    def __init__(
        self,
        description: str,
        factory: IProtocolFactory,
        reactor: Any,
        option: str = "port",
        gate: Gate | None = None,
    ) -> None:
        """Make the endpoint, behind `gate`; raises :class:`~sinapse.errors.StartError`."""
        self._description = description
        self._option = option
        try:
            self._service = self._make(_with_defaults(description, option), factory, reactor)
            if gate is not None:
                self._service.endpoint = gate.watched(
                    self._service.endpoint, is_proxied=description.startswith(PROXY)
                )
        except StartError:
            raise
        except Exception as error:  # noqa: BLE001  # Parsers of endpoints raise anything.
            meant = _meant(description, option)
            if meant is None and str(error).startswith("Unknown endpoint type"):
                port = PORTS[option]
                meant = f"{port}, localhost:{port}, or an endpoint as --help says"
            raise self._error(f"{error}; write {meant}" if meant else error) from None

    def _make(
        self, description: str, factory: IProtocolFactory, reactor: Any
    ) -> StreamServerEndpointService:
        kind, given = _read(description)
        if kind in certificates.KINDS:
            self._certificates = certificates.Certificates(kind, given)
            factory = TLSFactory(self._certificates, factory, reactor)
            prefix = PROXY if description.startswith(PROXY) else ""
            description = prefix + certificates.carrier(kind, given)
        endpoint = self._endpoint(description.removeprefix(PROXY), reactor)
        if description.startswith(PROXY):
            endpoint = proxyEndpoint(endpoint)
        listening = StreamServerEndpointService(endpoint, factory)
        listening._raiseSynchronously = True  # noqa: SLF001  # as Twisted's strports.service() does
        return listening

    def _endpoint(self, description: str, reactor: Any) -> IStreamServerEndpoint:
        """Return what binds."""
        try:
            endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
        except LookupError:
            if description.startswith("systemd:"):
                raise ValueError("systemd has passed no such socket") from None
            raise
        if isinstance(endpoint, AdoptedStreamServerEndpoint):
            return SharedSocket(endpoint.fileno, reactor)
        return endpoint

    def renew_certificates(self) -> None:
        """Read certificates again, for connections to come; if that fails, keep the former."""
        if self._certificates is None:
            return
        try:
            self._certificates.renew()
        except ValueError as error:
            self._log.error("{error}; the former stays in use", error=self._error(error))
        else:
            self._log.info(
                "--{option} {description!r}: certificates read again",
                option=self._option,
                description=self._description,
            )

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind, while the process may still bind to a low port."""
        super().privilegedStartService()
        self._clear_the_way()
        try:
            self._service.privilegedStartService()
        except CannotListenError as error:
            raise self._error(error.socketError) from None
        except (OSError, OverflowError) as error:  # The latter: a port out of range.
            raise self._error(error) from None

    def startService(self) -> None:  # noqa: N802
        """Accept."""
        super().startService()
        self._service.startService()
        self._log.info(
            "--{option} {description!r}: listening",
            option=self._option,
            description=self._description,
        )

    def stopService(self) -> Any:  # noqa: N802
        """Accept no more."""
        super().stopService()
        return self._service.stopService()

    def _clear_the_way(self) -> None:
        if (path := _unix_path(self._description)) is not None:
            self._remove_stale_socket(path)

    def _error(self, error: object) -> StartError:
        if isinstance(error, OSError) and error.strerror:
            error = error.strerror
        return StartError(f"sinapse: --{self._option} {self._description!r}: {error}")

    def _remove_stale_socket(self, path: Path) -> None:
        """Remove a socket on which no process listens, and nothing else."""
        try:
            if not path.is_socket():
                if path.exists():
                    raise self._error("there is a file of that name that is not a socket")
                return
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise self._error(error) from None
        else:
            raise self._error("Address already in use")


def url(description: str) -> str:
    """Return the URL of `description` for a browser on this machine, or itself if it has none."""
    kind, given = _read(_spelled_out(description))
    scheme = {"tcp": "http", "tcp6": "http", "ssl": "https", "tls": "https"}.get(kind)
    if scheme is None or "port" not in given:
        return description
    host = given.get("interface", "")
    if host in ("", "0.0.0.0", "127.0.0.1", "::", "::1"):  # noqa: S104  # It is looked at only.
        host = "localhost"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{given['port']}/"


def _read(description: str) -> tuple[str, dict[str, str]]:
    """Return the kind of an endpoint that takes a backlog, and its arguments by name."""
    kind, *arguments = _ARGUMENT.findall(description)
    if kind == "haproxy" and arguments:  # It stands before another one.
        kind, *arguments = arguments
    given, unnamed = {}, []
    for argument in arguments:
        if named := _NAMED.fullmatch(argument):
            given[named[1]] = named[2]
        else:
            unnamed.append(argument)
    given |= zip(_ARGUMENTS.get(kind, ()), unnamed, strict=False)
    return kind, {name: _QUOTED.sub(r"\1", value) for name, value in given.items()}


def _unix_path(description: str) -> Path | None:
    """Return the path of a UNIX socket."""
    kind, given = _read(description)
    path = given.get("address") if kind == "unix" else None
    return Path(path) if path else None


def _spelled_out(description: str) -> str:
    """Return the endpoint of a port, or of a host and a port; any other as it is."""
    place = _PLACE.fullmatch(description)
    if place is None:
        return description
    ipv6, host, port = place.groups()
    if ipv6:
        return f"tcp6:{port}:interface={ipv6.replace(':', chr(92) + ':')}"
    if host is None:
        return f"tcp:{port}"
    return f"tcp:{port}:interface={'127.0.0.1' if host == 'localhost' else host}"


def _meant(description: str, option: str) -> str | None:
    """Return what to write in place of an address of another style; None if it is none."""
    for pattern, written in _MEANT:
        if found := pattern.fullmatch(description):
            # The one that is missing is the last.
            return written.format(*(each or PORTS[option] for each in (*found.groups(), None)))
    return None


def _with_defaults(description: str, option: str) -> str:
    """Add what an endpoint that takes a backlog was not given; `option` has it as its value."""
    description = _spelled_out(description)
    kind, given = _read(description)
    if kind in _ARGUMENTS and "backlog" not in given:
        description += f":backlog={BACKLOG}"
    if kind == "unix" and "mode" not in given:
        description += f":mode={MODES[option]}"  # Twisted's own is 666.
    if kind == "unix" and "lockfile" not in given:
        # Whether a socket is stale is found out by asking it, not by a file beside it, which a
        # process with the recycled number of a dead one would keep alive.
        description += ":lockfile=0"
    return description
