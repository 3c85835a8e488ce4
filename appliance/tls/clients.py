"""A client's certificate, looked at at every call: its name, its term, and whether it was revoked.

The handshake has proven it; connections last, so that what has happened since is seen here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from appliance.errors import CertificateRevoked, ClientUnnamed
from appliance.tls.revocation import RevocationLists

_PEM = "x509_pem_cert"
_CERTIFICATES_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is asked of a certificate at every call."""

    issuer: bytes
    serial: int
    not_after: datetime
    name: str


@functools.lru_cache(maxsize=_CERTIFICATES_MAX)
def _facts(pem: bytes) -> _Facts:
    certificate = x509.load_pem_x509_certificate(pem)
    return _Facts(
        issuer=certificate.issuer.public_bytes(),
        serial=certificate.serial_number,
        not_after=certificate.not_valid_after_utc,
        name=_first_name(certificate),
    )


def _first_name(certificate: x509.Certificate) -> str:
    """Return the first subject alternative name if it is a URI or DNS name; else nothing."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ""
    first = next(iter(names), None)
    return str(first.value) if isinstance(first, x509.UniformResourceIdentifier | x509.DNSName) else ""


def _now() -> datetime:
    return datetime.now(UTC)


class ClientCertificates:
    """Judges certificates of clients.

    Args:
        now: the clock, aware.
    """

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self._now = now
        self._authorities: tuple[x509.Certificate, ...] = ()
        self._believed: dict[bytes, bool] = {}
        self._lists: RevocationLists | None = None

    def put(self, authorities: Sequence[x509.Certificate], lists: RevocationLists | None) -> None:
        """Put authorities and their revocation lists in force, from the next call on; None for no lists."""
        self._authorities = tuple(authorities)
        self._believed = {}
        self._lists = lists

    def require_good(self, peer: Mapping[str, Sequence[bytes]], name: str) -> None:
        """See that a client may be talked to at all.

        Args:
            peer: what the library knows of it, as ``context.auth_context()`` gives it.
            name: what the client is called here, as the library reads it from the certificate.

        Raises:
            ClientUnnamed: its certificate does not begin its alternative names with a URI or DNS name, or with another
                one than it is called by: readers differ about names that hold a NUL, for one.
            CertificateRevoked: it was revoked, has run out since the connection was made, or is not of an authority
                that is believed now.
            RevocationUnknown: nobody can say whether it was revoked.
        """
        pem = peer.get(_PEM)
        if not pem:
            raise ClientUnnamed("the client has no certificate")
        try:
            facts = _facts(pem[0])
        except ValueError:
            raise ClientUnnamed("the client's certificate cannot be read") from None
        now = self._now()
        if now > facts.not_after:
            raise CertificateRevoked("the client's certificate has run out")
        if not self._believes(pem[0]):
            raise CertificateRevoked("the authority of the client's certificate is not believed any more")
        if self._lists is not None:
            self._lists.require_good(facts.issuer, facts.serial, now)
        if not facts.name or facts.name != name:
            raise ClientUnnamed("the first subject alternative name of the client's certificate is no URI or DNS name")

    def _believes(self, pem: bytes) -> bool:
        """Tell whether an authority that is believed now has signed a certificate; by its key, not by its name."""
        believed = self._believed
        found = believed.get(pem)
        if found is None:
            if len(believed) >= _CERTIFICATES_MAX:
                believed.clear()
            certificate = x509.load_pem_x509_certificate(pem)
            found = believed[pem] = any(_has_signed(authority, certificate) for authority in self._authorities)
        return found


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
