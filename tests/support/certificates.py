"""Certificates for the tests: authorities, and what they sign."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from functools import cache
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Issued(NamedTuple):
    """A key and its certificate, both in PEM format."""

    key: bytes
    certificate: bytes


class Authority:
    """Signs certificates; is signed by `issuer`, or else by itself."""

    def __init__(self, name: str = "root", issuer: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = issuer or self
        basics = x509.BasicConstraints(ca=True, path_length=None)
        #: In PEM format, for those who are to trust it, or to hand it on as a part of a chain.
        self.certificate = issuer._sign(self._name, self._key, basics, critical=True)

    def issue(self, *names: str) -> Issued:
        """Issue a certificate for DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        alternatives = x509.SubjectAlternativeName(map(_general, names))
        certificate = self._sign(name, key, alternatives, critical=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Issued(pem, certificate)

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        *,
        critical: bool,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, *protocols: str) -> ssl.SSLContext:
        """Return what a client needs who trusts this authority alone, and offers `protocols`."""
        context = ssl.create_default_context(cadata=self.certificate.decode())
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def client_of_threads(self) -> ssl.SSLContext:
        """Return the same for a client that reads in a thread of its own.

        Before Python 3.13.5 it is not safe to write while another thread reads. With TLS 1.3 the
        tickets of a session come when a client writes its first request, which may be lost then.
        """
        context = self.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context


@cache
def root() -> Authority:
    """Return the authority of this run, for those who need no other."""
    return Authority()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
