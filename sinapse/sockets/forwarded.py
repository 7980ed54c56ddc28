"""The address of a client behind proxies: only trusted proxies are believed.

A proxy appends the address of its client to a header field: ``X-Forwarded-For``, or ``Forwarded``
(RFC 7239). Addresses further left may be forged, so the list is read from the right, up to the
first address that is not of a trusted proxy.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

#: The header fields, of which one is read: a proxy sets one, and passes the other on as it comes.
HEADERS = ("X-Forwarded-For", "Forwarded")

#: What a client is called that a trusted proxy gives no address for.
UNKNOWN = "unknown"

#: The address of whoever comes by a UNIX socket.
UNIX = "unix"

#: Bits of an IPv6 address that tell one customer from another (RFC 6177).
PREFIX_LENGTH = 64

# One parameter of an element of Forwarded, and what separates it from the next.
_PARAMETER = re.compile(rb'\s*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*([,;]|\Z)')

# An address, with a port or without.
_NODE = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9a-fA-F:.]+)")


class TrustedProxies:
    """The proxies that are believed: networks and addresses, and every client of a UNIX socket.

    The permissions of its file decide who may connect to a UNIX socket.
    """

    def __init__(self, entries: Iterable[str] = (), header: str = HEADERS[0]) -> None:
        """Read `entries`; raises ``ValueError`` for an invalid one. `header` is what is read."""
        self._networks: list[IPv4Network | IPv6Network] = [*map(_network, entries)]
        self.header = header.encode()

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether `address` is that of a trusted proxy."""
        if address == UNIX or not self._networks:
            return address == UNIX
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, fields: Sequence[bytes]) -> str:
        """Return the address of the client behind `peer`, by what `header` says in its `fields`."""
        if not self.trusts(peer):
            return peer
        address = peer
        read = _forwarded if self.header == b"Forwarded" else _forwarded_for
        for node in reversed([node for field in fields for node in read(field)]):
            address = _address(node)
            if not self.trusts(address):
                break
        return address

    def counted(self, address: str) -> str | None:
        """Return the key by which streams of `address` are counted; None if they are not counted.

        Trusted proxies stand for many clients. An IPv6 address counts as its /64 network, because a
        client has the whole network.
        """
        if self.trusts(address):
            return None
        parsed = _parse(address)
        if isinstance(parsed, IPv6Address):
            return str(ip_network((parsed, PREFIX_LENGTH), strict=False))
        return address


def _network(entry: str) -> IPv4Network | IPv6Network:
    network = ip_network(entry)
    mapped = network.network_address
    if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped and network.prefixlen >= 96:
        return ip_network(f"{mapped.ipv4_mapped}/{network.prefixlen - 96}")
    return network


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _address(node: str) -> str:
    matched = _NODE.fullmatch(node)
    parsed = _parse(next(filter(None, matched.groups()))) if matched is not None else None
    return UNKNOWN if parsed is None else str(parsed)


def _forwarded_for(field: bytes) -> Iterator[str]:
    for node in field.decode("latin-1").split(","):
        yield node.strip()


def _forwarded(field: bytes) -> Iterator[str]:
    """Yield the address of each hop; nothing that could be believed if the field is no list."""
    node, position = UNKNOWN, 0
    while position < len(field):
        parameter = _PARAMETER.match(field, position)
        if parameter is None:
            node = UNKNOWN
            break
        name, value, separator = parameter.groups()
        if name.lower() == b"for":
            node = re.sub(rb"\\(.)", rb"\1", value.strip(b'"')).decode("latin-1")
        position = parameter.end()
        if separator == b",":
            yield node
            node = UNKNOWN
    yield node
