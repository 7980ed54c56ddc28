"""Serving TLS: keys and certificates of an endpoint, read again when they were renewed.

``ssl:`` has one certificate, ``tls:`` a folder of them; a client gets the one for the name that it
asks for (SNI, RFC 6066 §3).

TLS 1.2 and newer; with 1.2 only ciphers with forward secrecy and authenticated encryption: the
"intermediate" configuration of Mozilla, without the DHE that no current browser offers.

A client that comes back resumes its session by a ticket (RFC 8446 §2.2, RFC 5077): it is spared the
certificates, and the server a signature. OpenSSL makes the key of the tickets with a context, and
our library has no way to read it or to set it: so each process has keys of its own, and contexts
are made anew before a key is old.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)
from OpenSSL.SSL import Connection, Context, Error
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

#: Cipher suites for TLS 1.2, the preferred first. AES has 128 bits, as Mozilla prefers it, if the
#: client can: SHA-384, which comes with 256, is a fifteenth of a handshake.
CIPHERS = AcceptableCiphers.fromOpenSSLCipherString(
    "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20"
)

#: The same for TLS 1.3.
CIPHERS_1_3 = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

#: Seconds after which a key gives no tickets any more, and takes none. Whoever has it can read what
#: was sent with TLS 1.2 after a resumption; that with 1.3 is safe, as there is an exchange of keys.
TICKET_KEY_AGE = 12 * 60 * 60

#: The kinds of endpoint that speak TLS, and their arguments.
KINDS = {
    "ssl": {"port", "interface", "backlog", "privateKey", "certKey", "extraCertChain", "sslmethod"},
    "tls": {"port", "interface", "backlog", "path"},
}


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """The certificates with which an endpoint can prove its names."""

    def __init__(
        self,
        kind: str,
        given: Mapping[str, str],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files that are `given`; raises ``ValueError`` with the argument and the file."""
        for name in given:
            if name not in KINDS[kind]:
                raise ValueError(f"{name}: there is no such argument")
        self._read = _reader_of_folder(given) if kind == "tls" else _reader_of_one(given)
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Read the files again, for new connections; open ones no longer need a certificate.

        No ticket from before is taken: the client is to see the certificate. Raises ``ValueError``
        with the argument and the file, and then changes nothing.
        """
        self._identities = self._read()
        self._begin()

    def _begin(self) -> None:
        """Begin with a context, and with a key for tickets, for connections to come."""
        self._context = _context(self._identities)
        self._begun = self._seconds()

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: ARG002, N802
        """Return the TLS side of a connection that was accepted."""
        if self._seconds() - self._begun >= TICKET_KEY_AGE:
            self._begin()
        return Connection(self._context)


def carrier(kind: str, given: Mapping[str, str]) -> str:
    """Return the description of the endpoint that a TLS endpoint is upon."""
    arguments = {"port": "443", "interface": "::", **given} if kind == "tls" else given
    if "port" not in arguments:
        raise ValueError("port: is missing")
    described = [
        f"{name}={quoteStringArgument(arguments[name])}"
        for name in ("port", "interface", "backlog")
        if name in arguments
    ]
    return ":".join(["tcp6" if kind == "tls" else "tcp", *described])


class _File(NamedTuple):
    """A file in PEM format, and the argument that names it."""

    path: str
    argument: str

    def error(self, reason: str) -> ValueError:
        return ValueError(f"{self.argument} {self.path}: {reason}")

    def key(self) -> PrivateKeyTypes:
        data = self._data()
        try:
            return load_pem_private_key(data, None)
        except TypeError:
            raise self.error("the private key is encrypted") from None
        except (ValueError, UnsupportedAlgorithm):
            raise self.error("holds no private key in PEM format") from None

    def certificates(self) -> list[Certificate]:
        data = self._data()
        try:
            return load_pem_x509_certificates(data)
        except ValueError:
            raise self.error("holds no certificate in PEM format") from None

    def _data(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise self.error(error.strerror or str(error)) from None


_Lookup = Callable[[bytes | None], Context | None]


class _Identity(NamedTuple):
    """A certificate with its key and the chain to its authority, and the names that it is for."""

    key: PrivateKeyTypes
    certificate: Certificate
    chain: Sequence[Certificate]
    names: frozenset[str]

    def context(self, lookup: _Lookup | None = None) -> Context:
        """Return a new context; `lookup` finds that for a name which a client asks for."""
        # Twisted's hints name classes of pyOpenSSL that are deprecated.
        parts: Any = {
            "privateKey": self.key,
            "certificate": self.certificate,
            "extraCertChain": self.chain,
        }
        context: Context = CertificateOptions(
            **parts,
            raiseMinimumTo=TLSVersion.TLSv1_2,
            acceptableCiphers=CIPHERS,
            enableSessionTickets=True,
            contextForServerName=lookup,
        ).getContext()
        context.set_tls13_ciphersuites(CIPHERS_1_3)
        return context


def _identity(key: _File, certificate: _File, chain: _File | None = None) -> _Identity:
    """Read the files; those of `certificate` begin with that of the key, the others are its chain.

    OpenSSL has to accept them.
    """
    private = key.key()
    own, *others = certificate.certificates()
    if chain is not None:
        others += chain.certificates()
    try:
        if own.public_key() != private.public_key():
            raise key.error(f"is not the key of the first certificate in {certificate.path}")
        identity = _Identity(private, own, others, _names(own))
        identity.context()
    except Error as error:
        reasons = ", ".join(reason for _, _, reason in error.args[0])
        raise certificate.error(reasons) from None
    return identity


def _context(identities: Sequence[_Identity]) -> Context:
    """Return the context of the first; a client gets that for the name which it asks for."""
    if len(identities) == 1:
        return identities[0].context()
    by_name: dict[str, Context] = {}

    def look_up(name: bytes | None) -> Context | None:
        asked = (name or b"").decode("ascii", "replace").lower()
        return by_name.get(asked) or by_name.get(f"*.{asked.partition('.')[2]}")

    contexts = [identity.context(look_up) for identity in identities]
    for identity, context in reversed(list(zip(identities, contexts, strict=True))):
        by_name.update(dict.fromkeys(identity.names, context))
    return contexts[0]


def _names(certificate: Certificate) -> frozenset[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in extension.value.get_values_for_type(DNSName))


def _reader_of_one(given: Mapping[str, str]) -> Callable[[], Sequence[_Identity]]:
    """Return what reads the files of an ``ssl:`` endpoint."""
    if (method := given.get("sslmethod", "TLS_METHOD")) != "TLS_METHOD":
        raise ValueError(f"sslmethod {method}: it is TLS 1.2 and newer that is spoken")
    files = {
        name: _File(given[name], name)
        for name in ("privateKey", "certKey", "extraCertChain")
        if given.get(name)
    }
    key = files.get("privateKey")
    if key is None:
        raise ValueError("privateKey: is missing")
    certificate, chain = files.get("certKey", key), files.get("extraCertChain")
    return lambda: [_identity(key, certificate, chain)]


def _reader_of_folder(given: Mapping[str, str]) -> Callable[[], Sequence[_Identity]]:
    """Return a function that reads the folder of a ``tls:`` endpoint.

    Each file has a key, its certificate and the chain. The first one, by file name, is for clients
    that ask for no name, or for a name without a certificate.
    """
    folder = given.get("path", "")

    def read() -> Sequence[_Identity]:
        try:
            paths = sorted(str(each) for each in Path(folder).iterdir() if each.suffix == ".pem")
        except OSError as error:
            raise ValueError(f"path {folder}: {error.strerror}") from None
        if not paths:
            raise ValueError(f"path {folder}: holds no file whose name ends in .pem")
        files = [_File(path, "path") for path in paths]
        return [_identity(each, each) for each in files]

    return read
