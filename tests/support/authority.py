"""A certificate authority of the tests' own: clients of any name and term, and lists of what it has revoked."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.client.client import ClientProfile
from tests.support.system import System

HOUR = dt.timedelta(hours=1)
PEM = serialization.Encoding.PEM


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """Signs whatever a test wants."""

    def __init__(self, name: str = "Tests") -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (
            self._builder(self.name, self.key.public_key(), now() - HOUR, now() + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, since: dt.datetime, until: dt.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )

    def issue(
        self,
        *names: x509.GeneralName,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        common: str = "somebody",
        server: bool = False,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key.public_key(), since or now() - HOUR, until or now() + 12 * HOUR)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def revoke(
        self,
        *revoked: Issued,
        until: dt.datetime | None = None,
        delta: bool = False,
        part: dict[str, Any] | None = None,
    ) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update((until or now()) - 2 * HOUR)
            .next_update(until or now() + HOUR)
        )
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now() - HOUR)
                .build()
            )
        if part is not None:
            fields: dict[str, Any] = {
                "full_name": None,
                "relative_name": None,
                "only_contains_user_certs": False,
                "only_contains_ca_certs": False,
                "only_some_reasons": None,
                "indirect_crl": False,
                "only_contains_attribute_certs": False,
            }
            builder = builder.add_extension(x509.IssuingDistributionPoint(**(fields | part)), critical=True)
        if delta:
            builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


class Clients:
    """Clients of a running system, beside the one that it has.

    Args:
        system: gets this authority beside its own, before its start or while it runs.
    """

    def __init__(self, system: System) -> None:
        self.authority = Authority()
        self._system = system
        self._folder = system.state / "client"
        path = system.state / "appliance" / "client-ca.pem"
        path.write_bytes(path.read_bytes() + self.authority.pem)

    def add(self, name: str, issued: Issued | None = None) -> ClientProfile:
        """Return the profile of a client of this DNS name."""
        made = issued or self.authority.issue(x509.DNSName(name))
        profile = self._system.profile
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(made.pem)
        key.write_bytes(made.key_pem)
        return profile.model_copy(update={"certificate": certificate, "private_key": key})


def replace(path: Path, octets: bytes) -> None:
    """Put a file in place of another in one step, with its owner and mode."""
    status = path.stat()
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(octets)
    os.chown(draft, status.st_uid, status.st_gid)
    draft.chmod(status.st_mode & 0o777)
    draft.rename(path)
