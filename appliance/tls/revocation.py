"""Revocation lists (RFC 5280): signed by an authority of the clients, complete, and not out of date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from appliance.errors import CertificateRevoked, ConfigurationInvalid, RevocationUnknown

_BEGIN = b"-----BEGIN X509 CRL-----"
_KNOWN = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT})
_SIZE_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """A list, with the name of its authority and the key that signed it."""

    authority: str
    signer: bytes
    serials: frozenset[int]
    last_update: datetime
    next_update: datetime


class _OfIssuer:
    """What all lists of authorities of one name say together.

    A certificate names its authority, not the key: what any list of that name revokes is revoked. Of each key the list
    that was made last says how long that is believed.
    """

    def __init__(self, lists: Sequence[_List]) -> None:
        newest: dict[bytes, _List] = {}
        for one in lists:
            if one.signer not in newest or one.last_update > newest[one.signer].last_update:
                newest[one.signer] = one
        self.authority = lists[0].authority
        self.serials: frozenset[int] = frozenset().union(*(one.serials for one in lists))
        self.next_update = min(one.next_update for one in newest.values())


class RevocationLists:
    """The lists of all authorities of the clients.

    Args:
        lists: by the octets of the authority's name.
        grace: how long after its next update a list is believed still.
    """

    def __init__(self, lists: Mapping[bytes, _OfIssuer], grace: timedelta) -> None:
        self._lists = lists
        self._grace = grace

    @classmethod
    def read(cls, path: Path, authorities: Sequence[x509.Certificate], grace: timedelta) -> Self:
        """Read a file with one list for each authority, PEM.

        Raises:
            ConfigurationInvalid: it is missing or no PEM; a list is not signed by an authority of the clients, is not a
                complete one, or has no next update.
        """
        try:
            if path.stat().st_size > _SIZE_MAX:
                raise ConfigurationInvalid(f"tls: {path}: too large to be revocation lists")
            octets = path.read_bytes()
        except OSError as error:
            raise ConfigurationInvalid(f"tls: {path}: {error.strerror}") from None
        lists: dict[bytes, list[_List]] = {}
        for part in octets.split(_BEGIN)[1:]:
            try:
                found = x509.load_pem_x509_crl(_BEGIN + part)
                lists.setdefault(found.issuer.public_bytes(), []).append(_read(found, authorities, path))
            except ValueError:
                raise ConfigurationInvalid(f"tls: {path}: no revocation list in PEM") from None
        if not lists:
            raise ConfigurationInvalid(f"tls: {path}: no revocation list in PEM")
        for authority in authorities:
            found_of = lists.get(authority.subject.public_bytes(), [])
            if found_of and _key_of(authority) not in {one.signer for one in found_of}:
                raise ConfigurationInvalid(f"tls: {path}: an authority has another key of its name, and no list of it")
        return cls({issuer: _OfIssuer(found) for issuer, found in lists.items()}, grace)

    def require_good(self, issuer: bytes, serial: int, now: datetime) -> None:
        """See that a certificate was not revoked.

        Raises:
            CertificateRevoked: it was.
            RevocationUnknown: there is no list of its authority, or it is out of date.
        """
        found = self._lists.get(issuer)
        if found is None:
            raise RevocationUnknown("there is no revocation list of the authority of this certificate")
        if serial in found.serials:
            raise CertificateRevoked("the authority has revoked this certificate")
        if now > found.next_update + self._grace:
            raise RevocationUnknown("the revocation list of the authority of this certificate is out of date")

    @property
    def next_updates(self) -> dict[str, datetime]:
        """When each list is to be replaced, by the name of the authority; aware."""
        return {found.authority: found.next_update for found in self._lists.values()}


def _key_of(authority: x509.Certificate) -> bytes:
    return authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(found: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate], path: Path) -> _List:
    for authority in authorities:
        public = authority.public_key()
        if authority.subject != found.issuer:
            continue
        if found.is_signature_valid(public):  # type: ignore[arg-type]  # what other keys there are cannot sign
            break
    else:
        raise ConfigurationInvalid(f"tls: {path}: a list is not signed by an authority of tls.client_ca")
    for extension in found.extensions:
        if extension.critical and extension.oid not in _KNOWN:
            raise ConfigurationInvalid(f"tls: {path}: a list is not a complete one ({extension.oid.dotted_string})")
        if isinstance(extension.value, x509.IssuingDistributionPoint) and _is_partial(extension.value):
            raise ConfigurationInvalid(f"tls: {path}: a list is not for all certificates of its authority")
    if found.next_update_utc is None:
        raise ConfigurationInvalid(f"tls: {path}: a list does not say when the next one comes")
    return _List(
        authority=found.issuer.rfc4514_string(),
        signer=_key_of(authority),
        serials=frozenset(entry.serial_number for entry in found),
        last_update=found.last_update_utc,
        next_update=found.next_update_utc,
    )


def _is_partial(point: x509.IssuingDistributionPoint) -> bool:
    return bool(
        point.full_name
        or point.relative_name
        or point.indirect_crl
        or point.only_contains_ca_certs
        or point.only_contains_attribute_certs
        or point.only_some_reasons
    )
