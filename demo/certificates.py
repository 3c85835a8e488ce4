"""Certificates for development: a CA, a server for localhost, a client. Idempotent; keys never leave their folders."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 90


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key, readable for its owner only."""
    octets = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(octets)


class Authority:
    """A certificate authority that lives in memory and signs what the set-up needs."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (
            self._builder("Keywatt development CA", self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("Keywatt development CA"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=_DAYS))
        )

    def issue(self, folder: Path, name: str, alternatives: list[x509.GeneralName], *, server: bool) -> None:
        """Write NAME.key and NAME.pem into a folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = (
            self._builder(name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(folder / f"{name}.key", key)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def write_certificate(self, path: Path) -> None:
        """Write the CA's certificate."""
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))


def make(appliance: Path, client: Path, address: str) -> bool:
    """Make everything anew unless it all stands and is good for a week; return whether anything was made."""
    wanted = [appliance / n for n in ("server.key", "server.pem", "client-ca.pem")]
    wanted += [client / n for n in ("client.key", "client.pem", "server-ca.pem")]
    if all(path.exists() for path in wanted):
        certificate = x509.load_pem_x509_certificate((appliance / "server.pem").read_bytes())
        week = dt.datetime.now(dt.UTC) + dt.timedelta(days=7)
        if certificate.not_valid_after_utc > week:
            return False
    authority = Authority()
    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    authority.issue(appliance, "server", local, server=True)
    authority.issue(
        client, "client", [x509.UniformResourceIdentifier("spiffe://keywatt.dev/development")], server=False
    )
    authority.write_certificate(appliance / "client-ca.pem")
    authority.write_certificate(client / "server-ca.pem")
    return True
