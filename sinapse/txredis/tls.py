"""TLS to Redis: the certificate and the host in it are checked, always."""

from pathlib import Path
from typing import Any

import txredisapi
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from OpenSSL.SSL import Error
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.protocol.redisurl import RedisURL

#: Seconds for the handshake.
HANDSHAKE_TIMEOUT = 5


async def connect_securely(
    plain: IStreamClientEndpoint, factory: Factory, url: RedisURL, reactor: Any
) -> Any:
    """Return the protocol that `factory` made, once TLS to `url` stands by way of `plain`.

    Raises ``txredisapi.ConnectionError`` with the reason if it will not.
    """
    trusted = None if url.ca_certs is None else _trusted(url.ca_certs)
    secure = wrapClientTLS(optionsForClientTLS(url.host, trusted), plain)
    connecting: Any = secure.connect(_Securing(factory))
    connection: _Secured = await connecting
    try:
        await connection.secured.addTimeout(HANDSHAKE_TIMEOUT, reactor)
    except DeferredTimeoutError:
        connection.abortConnection()
        raise txredisapi.ConnectionError("TLS: no answer") from None
    except VerificationError:
        raise txredisapi.ConnectionError(f"TLS: the certificate is not for {url.host}") from None
    except Error as error:
        reasons = ", ".join(reason for _, _, reason in error.args[0])
        raise txredisapi.ConnectionError(f"TLS: {reasons}") from None
    except BaseException:
        connection.abortConnection()
        raise
    return connection.wrappedProtocol


def _trusted(file: Path) -> Any:
    try:
        certificates = load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        raise txredisapi.ConnectionError(f"TLS: {file} holds no certificates") from None
    return trustRootFromCertificates(
        [Certificate(X509.from_cryptography(each)) for each in certificates]
    )


@implementer(IHandshakeListener)
class _Secured(ProtocolWrapper):
    """Says when TLS stands, or why it never will."""

    def __init__(self, factory: "_Securing", wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.secured: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:  # noqa: N802
        self.secured.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        if not self.secured.called:
            self.secured.errback(reason)
        super().connectionLost(reason)


class _Securing(WrappingFactory[_Secured]):
    noisy = False
    protocol = _Secured
