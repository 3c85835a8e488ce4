"""Certificates of the server and authorities of its clients, as they lie on the disk: read whole, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from appliance.config import TlsSettings
from appliance.errors import ConfigurationInvalid


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TlsFiles:
    """What a server shows, and whom it believes.

    Args:
        private_key, certificate: PEM, the certificate with those between it and its root.
        client_ca: PEM of the authorities that clients' certificates are from.
        server: the certificate itself.
        authorities: those of ``client_ca``.
    """

    private_key: bytes
    certificate: bytes
    client_ca: bytes
    server: x509.Certificate
    authorities: tuple[x509.Certificate, ...]

    @classmethod
    def read(cls, settings: TlsSettings) -> Self:
        """Read the files.

        Raises:
            ConfigurationInvalid: one is missing or no PEM, or the key is of another certificate.
        """
        private_key = _octets(settings.private_key)
        certificate, client_ca = _octets(settings.certificate), _octets(settings.client_ca)
        try:
            key = serialization.load_pem_private_key(private_key, None)
        except (ValueError, TypeError):
            # What the library says could quote the file.
            raise ConfigurationInvalid(
                f"tls: {settings.private_key}: no private key in PEM, without a password"
            ) from None
        server = _certificates(settings.certificate, certificate)[0]
        if key.public_key() != server.public_key():
            raise ConfigurationInvalid(f"tls: {settings.private_key} is not the key of {settings.certificate}")
        return cls(
            private_key=private_key,
            certificate=certificate,
            client_ca=client_ca,
            server=server,
            authorities=_certificates(settings.client_ca, client_ca),
        )


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"tls: {path}: {error.strerror}") from None


def _certificates(path: Path, octets: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(octets))
    except ValueError:
        raise ConfigurationInvalid(f"tls: {path}: no certificate in PEM") from None


def state_of(paths: list[Path]) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when one of these files does."""
    found = []
    for path in paths:
        try:
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
