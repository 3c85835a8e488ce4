"""Mutual TLS is the only way in; health, reflection and the operators' errors."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from keywatt.approval.v1 import approval_pb2
from keywatt.audit.v1 import audit_pb2
from keywatt.certification.v1 import certification_pb2
from keywatt.keys.v1 import keys_pb2, keys_pb2_grpc
from keywatt.mandate.v1 import mandate_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from tests.support.system import System, load_script

certificates = load_script("demo/certificates.py")


def secure_channel(system: System) -> grpc.Channel:
    profile = system.profile
    credentials = grpc.ssl_channel_credentials(
        profile.server_ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )
    return grpc.secure_channel(profile.address, credentials)


def status(channel: grpc.Channel) -> keys_pb2.GetModuleStatusResponse:
    return keys_pb2_grpc.KeysServiceStub(channel).GetModuleStatus(keys_pb2.GetModuleStatusRequest(), timeout=5)


def test_without_tls_nothing_is_served(online_system: System) -> None:
    with grpc.insecure_channel(online_system.profile.address) as channel, pytest.raises(grpc.RpcError) as refusal:
        status(channel)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


CALLS = [
    (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
    for file in (vending_pb2, keys_pb2, audit_pb2, approval_pb2, mandate_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("path", "asks_many", "answers_many"), CALLS)
def test_octets_that_are_no_message_are_refused_by_name(
    online_system: System, path: str, asks_many: bool, answers_many: bool
) -> None:
    kind = f"{'stream' if asks_many else 'unary'}_{'stream' if answers_many else 'unary'}"
    with secure_channel(online_system) as channel:
        call = getattr(channel, kind)(path)
        for octets in (b"\xff", b"\x0a\x7f", b"\x0b" * 50):
            with pytest.raises(grpc.RpcError) as refusal:
                answer = call(iter([octets]) if asks_many else octets, timeout=5)
                list(answer if answers_many else [])
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a message of this call" in str(refusal.value.details())


def test_without_client_certificate_nothing_is_served(online_system: System) -> None:
    credentials = grpc.ssl_channel_credentials(online_system.profile.server_ca.read_bytes())
    with (
        grpc.secure_channel(online_system.profile.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        status(channel)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_a_foreign_certificate_nothing_is_served(online_system: System, tmp_path: object) -> None:
    from pathlib import Path

    from cryptography import x509

    folder = Path(str(tmp_path))
    certificates.Authority().issue(folder, "foreign", [x509.DNSName("client")], server=False)
    credentials = grpc.ssl_channel_credentials(
        online_system.profile.server_ca.read_bytes(),
        (folder / "foreign.key").read_bytes(),
        (folder / "foreign.pem").read_bytes(),
    )
    with (
        grpc.secure_channel(online_system.profile.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        status(channel)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_health(online_system: System) -> None:
    with secure_channel(online_system) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "keywatt.vending.v1.VendingService", "keywatt.keys.v1.KeysService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_in_the_development_profile(online_system: System) -> None:
    with secure_channel(online_system) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    names = {service.name for service in answer.list_services_response.service}
    assert {"keywatt.vending.v1.VendingService", "keywatt.keys.v1.KeysService"} <= names
    assert "keywatt.certification.v1.CertificationService" not in names


def test_certification_service_is_not_served_online(client: KeywattClient) -> None:
    with pytest.raises(ClientError) as refusal:
        client.call(client.certification.ResetTokenIdentifiers, certification_pb2.ResetTokenIdentifiersRequest())
    assert refusal.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_status_names_what_an_auditor_asks_for(client: KeywattClient) -> None:
    import hashlib
    import os
    import subprocess

    from tests.support.system import ROOT

    shown = client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
    digest = subprocess.run(
        ["make", "-s", "--no-print-directory", "-C", str(ROOT / "hsm" / "module"), "digest"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.build_digest == digest.stdout.strip()
    assert len(bytes.fromhex(shown.tables_digest)) == hashlib.sha256().digest_size
    assert (shown.mode, shown.profile, shown.tables_name) == ("online", "development", "sample")
    assert shown.single_user == (os.geteuid() != 0)
    assert shown.configuration_root_owned == (os.geteuid() == 0)
    assert shown.self_test_passed
    assert shown.protection_level == keys_pb2.PROTECTION_LEVEL_SOFTWARE


def test_a_certificate_that_names_nobody_is_nobody() -> None:
    from appliance.errors import ClientUnnamed
    from appliance.interceptors.peer import peer_name

    class Context:
        def __init__(self, *names: bytes) -> None:
            self._names = names

        def peer_identities(self) -> tuple[bytes, ...] | None:
            return self._names or None

    assert peer_name(Context(b"", b"spiffe://a", b"b")) == "spiffe://a"
    for nobody in (Context(), Context(b"")):
        with pytest.raises(ClientUnnamed):
            peer_name(nobody)
