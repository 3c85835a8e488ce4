"""TLS 1.3 unless told otherwise; certificates and revocation lists that change while calls go on."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from keywatt.keys.v1 import keys_pb2
from keywatt.mandate.v1 import mandate_pb2
from keywatt.vending.v1 import vending_pb2
from structlog.testing import capture_logs

from appliance.client.client import ClientError, ClientProfile, KeywattClient
from appliance.config import TlsSettings
from appliance.errors import CertificateRevoked, ClientUnnamed, ConfigurationInvalid, RevocationUnknown
from appliance.tls.clients import ClientCertificates
from appliance.tls.files import TlsFiles
from appliance.tls.keeper import TlsKeeper
from appliance.tls.revocation import RevocationLists
from tests.faults.test_policy import request
from tests.support.authority import HOUR, Authority, Clients, Issued, now, replace
from tests.support.ceremonial import restart
from tests.support.system import System, running

LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as found:
        found.stop()
        found.clients = Clients(found)  # type: ignore[attr-defined]  # for these tests
        lists = found.state / "appliance" / "crl.pem"
        lists.write_bytes(found.clients.authority.revoke())  # type: ignore[attr-defined]
        path = found.state / "appliance" / "appliance.toml"
        path.write_text(path.read_text().replace("[tls]\n", f'[tls]\nrevocation_lists = "{lists}"\n'))
        # The client of the set-up is of another authority, which has no list.
        found.good = found.clients.add("good.example")  # type: ignore[attr-defined]
        restart(found)
        yield found


def clients_of(system: System) -> Clients:
    found: Clients = system.clients  # type: ignore[attr-defined]
    return found


def good(system: System) -> ClientProfile:
    found: ClientProfile = system.good  # type: ignore[attr-defined]
    return found


def status(profile: ClientProfile) -> Any:
    with KeywattClient(profile) as asked:
        return asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())


def refusal(profile: ClientProfile) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ClientError) as error:
        status(profile)
    return error.value.code, error.value.reason


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def handshake(system: System, version: ssl.TLSVersion, profile: ClientProfile) -> tuple[str | None, int]:
    """Return the version agreed on, and the serial number of the server's certificate."""
    context = ssl.create_default_context(cafile=str(profile.server_ca))
    context.load_cert_chain(str(profile.certificate), str(profile.private_key))
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", system.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        octets = secure.getpeercert(binary_form=True)
        assert octets is not None
        return secure.version(), x509.load_der_x509_certificate(octets).serial_number


def test_nothing_below_1_3(system: System) -> None:
    assert handshake(system, ssl.TLSVersion.TLSv1_3, good(system))[0] == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(system, ssl.TLSVersion.TLSv1_2, good(system))


def test_1_2_where_the_settings_say_so() -> None:
    with running(edits=[("appliance/appliance.toml", "[tls]\n", '[tls]\nminimum_version = "1.2"\n')]) as found:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert handshake(found, version, found.profile)[0] == version.name.replace("_", ".")
        with warnings.catch_warnings(), pytest.raises((ssl.SSLError, ConnectionError)):
            warnings.simplefilter("ignore", DeprecationWarning)
            handshake(found, ssl.TLSVersion.TLSv1_1, found.profile)


class Caller:
    """Calls without a pause, on one connection, until it is told to end."""

    def __init__(self, profile: ClientProfile) -> None:
        self.errors: list[ClientError] = []
        self.answered = 0
        self._profile = profile
        self._ends = threading.Event()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        with KeywattClient(self._profile) as asked:
            while not self._ends.is_set():
                try:
                    asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
                    self.answered += 1
                except ClientError as error:
                    self.errors.append(error)

    def end(self) -> None:
        self._ends.set()
        self.thread.join(20)


def test_a_certificate_is_replaced_while_calls_go_on(system: System) -> None:
    folder = system.state / "appliance"
    before = handshake(system, ssl.TLSVersion.TLSv1_3, good(system))[1]
    server = Authority("Another server authority")
    made = server.issue(*LOCAL, server=True)
    trusted = good(system).server_ca
    both = good(system).model_copy(update={"server_ca": system.state / "client" / "both.pem"})
    both.server_ca.write_bytes(trusted.read_bytes() + server.pem)
    caller = Caller(good(system))
    try:
        until(lambda: caller.answered > 10)
        # One after the other, as tools do: half of it is refused and changes nothing.
        replace(folder / "server.pem", made.pem)
        until(lambda: "is not the key of" in system.log("appliance"))
        assert handshake(system, ssl.TLSVersion.TLSv1_3, both)[1] == before
        replace(folder / "server.key", made.key_pem)
        until(lambda: handshake(system, ssl.TLSVersion.TLSv1_3, both)[1] == made.certificate.serial_number)
        answered = caller.answered
        until(lambda: caller.answered > answered + 50)
        replace(folder / "server.pem", b"rubbish")
        until(lambda: "no certificate in PEM" in system.log("appliance"))
        assert handshake(system, ssl.TLSVersion.TLSv1_3, both)[1] == made.certificate.serial_number
        replace(folder / "server.pem", made.pem)
    finally:
        caller.end()
    assert caller.errors == []
    assert f"{made.certificate.serial_number:x}" in system.log("appliance")
    system.good = both  # type: ignore[attr-defined]  # for the tests that follow


def test_a_client_is_revoked_by_its_authority_while_it_is_connected(system: System) -> None:
    clients, lists = clients_of(system), system.state / "appliance" / "crl.pem"
    made = clients.authority.issue(x509.DNSName("bad.example"))
    profile = clients.add("bad.example", made).model_copy(update={"server_ca": good(system).server_ca})
    with KeywattClient(profile) as asked:
        wanted = keys_pb2.GetModuleStatusRequest()
        assert asked.call(asked.keys.GetModuleStatus, wanted).module_id
        replace(lists, clients.authority.revoke(made))
        end = time.monotonic() + 20
        found: ClientError | None = None
        while found is None:
            assert time.monotonic() < end
            try:
                asked.call(asked.keys.GetModuleStatus, wanted)
            except ClientError as error:
                found = error
        assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
        # Whatever it asks, stored answers too; a new connection is no way round.
        for method, message in (
            (asked.vending.IssueCreditToken, request(1)),
            (asked.vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=request(1).request_id)),
            (asked.mandate.GetMandate, mandate_pb2.GetMandateRequest()),
        ):
            with pytest.raises(ClientError) as error:
                asked.call(method, message)
            assert error.value.reason == "CERTIFICATE_REVOKED"
    assert refusal(profile)[1] == "CERTIFICATE_REVOKED"
    assert status(good(system)).module_id


def test_a_stream_ends_when_its_client_is_revoked(system: System) -> None:
    clients, lists = clients_of(system), system.state / "appliance" / "crl.pem"
    made = clients.authority.issue(x509.DNSName("stream.example"))
    profile = clients.add("stream.example", made).model_copy(update={"server_ca": good(system).server_ca})
    go_on = threading.Event()

    def messages() -> Iterator[vending_pb2.StreamIssueTokensRequest]:
        yield vending_pb2.StreamIssueTokensRequest(requests=[vending_pb2.TokenRequest(credit=request(501))])
        go_on.wait(30)
        yield vending_pb2.StreamIssueTokensRequest(requests=[vending_pb2.TokenRequest(credit=request(502))])

    with KeywattClient(profile) as asked:
        answers = asked.vending.StreamIssueTokens(messages(), timeout=60)
        assert next(answers).results[0].credit.token.digits
        before = system.log("appliance").count("certificates-in-force")
        replace(lists, clients.authority.revoke(made))
        until(lambda: system.log("appliance").count("certificates-in-force") > before)
        go_on.set()
        with pytest.raises(grpc.RpcError) as error:
            next(answers)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_authority_without_a_list_and_a_list_out_of_date(system: System) -> None:
    own = system.profile.model_copy(update={"server_ca": good(system).server_ca})
    assert refusal(own) == (grpc.StatusCode.UNAVAILABLE, "REVOCATION_UNKNOWN")
    lists = system.state / "appliance" / "crl.pem"
    authority = clients_of(system).authority
    # Believed for a day beyond its next update, unless told otherwise.
    replace(lists, authority.revoke(until=now() - HOUR))
    until(lambda: "revocation-list" in str(mandate(good(system))))
    assert status(good(system)).module_id
    replace(lists, authority.revoke(until=now() - dt.timedelta(hours=25)))
    until(lambda: _reason(good(system)) == "REVOCATION_UNKNOWN")
    # A list of somebody else, a partial one, and none at all change nothing.
    count = system.log("appliance").count("certificates-refused")
    for octets in (Authority().revoke(), authority.revoke(delta=True), b"rubbish"):
        replace(lists, octets)
        count += 1
        until(lambda count=count: system.log("appliance").count("certificates-refused") >= count)  # type: ignore[misc]
    replace(lists, authority.revoke())
    until(lambda: _reason(good(system)) == "")


def mandate(profile: ClientProfile) -> mandate_pb2.GetMandateResponse:
    with KeywattClient(profile) as asked:
        return asked.call(asked.mandate.GetMandate, mandate_pb2.GetMandateRequest())


def _reason(profile: ClientProfile) -> str:
    try:
        status(profile)
    except ClientError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.RFC822Name("client@example.org"),),
        (x509.IPAddress(ipaddress.ip_address("10.0.0.1")), x509.DNSName("a")),
    ],
    ids=["none", "mail", "address first"],
)
def test_a_client_is_named_by_a_uri_or_dns_name(system: System, names: tuple[x509.GeneralName, ...]) -> None:
    clients = clients_of(system)
    issued = clients.authority.issue(*names, common="good.example")
    profile = clients.add("unnamed", issued).model_copy(update={"server_ca": good(system).server_ca})
    assert refusal(profile) == (grpc.StatusCode.UNAUTHENTICATED, "CLIENT_UNNAMED")


def test_an_expired_client_gets_no_connection(system: System) -> None:
    clients = clients_of(system)
    for since, until_ in ((now() - 2 * HOUR, now() - HOUR), (now() + HOUR, now() + 2 * HOUR)):
        issued = clients.authority.issue(x509.DNSName("expired.example"), since=since, until=until_)
        profile = clients.add("expired.example", issued).model_copy(update={"server_ca": good(system).server_ca})
        assert refusal(profile) == (grpc.StatusCode.UNAVAILABLE, "")


def test_an_authority_that_is_taken_out_while_its_client_is_connected(system: System) -> None:
    clients = clients_of(system)
    other = Authority("Short-lived")
    path, lists = system.state / "appliance" / "client-ca.pem", system.state / "appliance" / "crl.pem"
    before = path.read_bytes()
    count = system.log("appliance").count("certificates-in-force")
    replace(lists, clients.authority.revoke() + other.revoke())
    replace(path, before + other.pem)
    until(lambda: system.log("appliance").count("certificates-in-force") > count)
    issued = other.issue(x509.DNSName("short.example"))
    profile = clients.add("short.example", issued).model_copy(update={"server_ca": good(system).server_ca})
    until(lambda: _reason(profile) == "")
    with KeywattClient(profile) as asked:
        wanted = keys_pb2.GetModuleStatusRequest()
        assert asked.call(asked.keys.GetModuleStatus, wanted).module_id
        replace(lists, clients.authority.revoke())
        replace(path, before)
        end = time.monotonic() + 20
        while (found := _outcome(asked)) == "":
            assert time.monotonic() < end
        assert found == "CERTIFICATE_REVOKED"
    assert refusal(profile) == (grpc.StatusCode.UNAVAILABLE, "")
    assert status(good(system)).module_id


def _outcome(asked: KeywattClient) -> str:
    try:
        asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
    except ClientError as error:
        return error.reason
    return ""


def test_what_ends_is_told(system: System) -> None:
    found = {(one.kind, one.urgency) for one in mandate(good(system)).horizons}
    # The tests' certificates live for hours, their list for less.
    assert ("server-certificate", mandate_pb2.URGENCY_NOW) in found
    assert ("client-ca", mandate_pb2.URGENCY_NOW) in found
    assert ("revocation-list", mandate_pb2.URGENCY_NOW) in found
    assert ("base-date", mandate_pb2.URGENCY_NONE) in found
    assert '"event": "horizon"' in system.log("appliance")


# --- the parts by themselves ------------------------------------------------------------------------------------


def look(judge: ClientCertificates, issued: Issued, name: str = "a") -> None:
    judge.require_good({"x509_pem_cert": [issued.pem]}, name)


def test_a_certificate_that_runs_out_while_connected_is_refused() -> None:
    authority, clock = Authority(), [now()]
    issued = authority.issue(x509.DNSName("a"), until=now() + HOUR)
    judge = ClientCertificates(lambda: clock[0])
    judge.put((authority.certificate,), None)
    look(judge, issued)
    clock[0] += 2 * HOUR
    with pytest.raises(CertificateRevoked, match="run out"):
        look(judge, issued)
    for nobody in ({}, {"x509_pem_cert": [b"rubbish"]}):
        with pytest.raises(ClientUnnamed):
            judge.require_good(nobody, "a")


def test_an_authority_that_is_no_longer_believed() -> None:
    one, other = Authority("One"), Authority("Other")
    judge, client = ClientCertificates(), one.issue(x509.DNSName("a"))
    judge.put((one.certificate, other.certificate), None)
    look(judge, client)
    judge.put((other.certificate,), None)
    with pytest.raises(CertificateRevoked, match="not believed"):
        look(judge, client)


def test_revocation_is_by_issuer_and_serial(tmp_path: Path) -> None:
    one, other, third = Authority("One"), Authority("Other"), Authority("Third")
    bad, fine = one.issue(x509.DNSName("bad")), one.issue(x509.DNSName("fine"))
    path = tmp_path / "crl.pem"
    path.write_bytes(one.revoke(bad) + other.revoke())
    authorities = (one.certificate, other.certificate)
    lists = RevocationLists.read(path, authorities, HOUR)
    assert set(lists.next_updates) == {"CN=One", "CN=Other"}
    judge = ClientCertificates()
    judge.put((*authorities, third.certificate), lists)
    look(judge, fine, "fine")
    look(judge, other.issue(x509.DNSName("a")))
    with pytest.raises(CertificateRevoked):
        look(judge, bad, "bad")
    with pytest.raises(RevocationUnknown):
        look(judge, third.issue(x509.DNSName("a")))
    # What any list of an authority revokes is revoked, wherever it stands and however long it is believed.
    early, late = now() + HOUR / 2, now() + 3 * HOUR
    for octets in (
        one.revoke(until=late) + one.revoke(bad, until=early),
        one.revoke(bad, until=early) + one.revoke(until=late),
        one.revoke(bad, until=late) + one.revoke(until=early),
    ):
        path.write_bytes(octets)
        judge.put(authorities, RevocationLists.read(path, authorities, HOUR))
        with pytest.raises(CertificateRevoked):
            look(judge, bad, "bad")


def test_an_authority_with_a_new_key_and_the_old_name(tmp_path: Path) -> None:
    old, new = Authority("One"), Authority("One")
    bad = old.issue(x509.DNSName("bad"))
    path = tmp_path / "crl.pem"
    path.write_bytes(old.revoke(bad, until=now() + HOUR / 2) + new.revoke(until=now() + 3 * HOUR))
    judge = ClientCertificates()
    authorities = (old.certificate, new.certificate)
    judge.put(authorities, RevocationLists.read(path, authorities, HOUR))
    with pytest.raises(CertificateRevoked):
        look(judge, bad, "bad")
    look(judge, new.issue(x509.DNSName("a")))


def test_every_key_of_a_listed_name_has_a_list(tmp_path: Path) -> None:
    old, new, other = Authority("One"), Authority("One"), Authority("Other")
    path = tmp_path / "crl.pem"
    path.write_bytes(new.revoke())
    with pytest.raises(ConfigurationInvalid, match="another key"):
        RevocationLists.read(path, (old.certificate, new.certificate), HOUR)
    # An authority without any list is known by its name: its clients are not believed.
    judge, authorities = ClientCertificates(), (new.certificate, other.certificate)
    judge.put(authorities, RevocationLists.read(path, authorities, HOUR))
    with pytest.raises(RevocationUnknown):
        look(judge, other.issue(x509.DNSName("a")))


def test_an_authority_is_its_key_not_its_name() -> None:
    old, new = Authority("One"), Authority("One")
    judge, issued = ClientCertificates(), old.issue(x509.DNSName("a"))
    judge.put((old.certificate,), None)
    for _ in range(2):
        look(judge, issued)
    judge.put((new.certificate,), None)
    with pytest.raises(CertificateRevoked, match="not believed"):
        look(judge, issued)
    look(judge, new.issue(x509.DNSName("a")))


def test_a_part_of_a_list_is_none(tmp_path: Path) -> None:
    one = Authority("One")
    path = tmp_path / "crl.pem"
    for fields in (
        {"full_name": [x509.UniformResourceIdentifier("http://one.example/shard-1.crl")]},
        {"only_contains_ca_certs": True},
        {"only_some_reasons": frozenset([x509.ReasonFlags.key_compromise])},
        {"indirect_crl": True},
    ):
        path.write_bytes(one.revoke(part=fields))
        with pytest.raises(ConfigurationInvalid, match="not for all"):
            RevocationLists.read(path, (one.certificate,), HOUR)
    path.write_bytes(one.revoke(part={"only_contains_user_certs": True}))
    RevocationLists.read(path, (one.certificate,), HOUR)


@pytest.mark.parametrize("name", ["vendor\0.evil.example", "vendor", "Vendor.example", ""])
def test_a_name_that_readers_read_otherwise_is_none(name: str) -> None:
    authority = Authority()
    judge = ClientCertificates()
    judge.put((authority.certificate,), None)
    with pytest.raises(ClientUnnamed):
        look(judge, authority.issue(x509.DNSName("vendor.example")), name)


def test_a_disk_that_fails_once_does_not_hide_a_revocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    server, bad = authority.issue(*LOCAL, server=True), authority.issue(x509.DNSName("a"))
    for name, octets in (("c", server.pem), ("k", server.key_pem), ("ca", authority.pem), ("crl", authority.revoke())):
        (tmp_path / name).write_bytes(octets)
    paths = [tmp_path / name for name in ("c", "k", "ca", "crl")]
    settings = TlsSettings(certificate=paths[0], private_key=paths[1], client_ca=paths[2], revocation_lists=paths[3])
    judge = ClientCertificates()
    keeper = TlsKeeper(settings, judge)
    look(judge, bad)
    (tmp_path / "crl").write_bytes(authority.revoke(bad))
    with monkeypatch.context() as patch, capture_logs() as lines:

        def fail(self: Path) -> bytes:
            raise OSError(24, "Too many open files", str(self))

        patch.setattr(Path, "read_bytes", fail)
        assert [keeper.look() for _ in range(3)] == [False] * 3
    assert [line["event"] for line in lines] == ["certificates-refused"]
    assert keeper.look()
    with pytest.raises(CertificateRevoked):
        look(judge, bad)


def test_lists_that_are_none(tmp_path: Path) -> None:
    one = Authority("One")
    # Of the same name, but another key.
    forged = Authority("One").revoke()
    path = tmp_path / "crl.pem"
    for octets in (b"", b"rubbish", one.pem, forged, one.revoke(delta=True), one.revoke()[:-40] + b"\n"):
        path.write_bytes(octets)
        with pytest.raises(ConfigurationInvalid):
            RevocationLists.read(path, (one.certificate,), HOUR)
    with pytest.raises(ConfigurationInvalid):
        RevocationLists.read(tmp_path / "none", (one.certificate,), HOUR)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    authority = Authority()
    server, other = authority.issue(*LOCAL, server=True), authority.issue(*LOCAL, server=True)
    names = {"certificate": server.pem, "private_key": server.key_pem, "client_ca": authority.pem}
    paths = {name: tmp_path / name for name in names}
    settings = TlsSettings(**paths)  # type: ignore[arg-type]  # paths only

    def write(**changes: bytes) -> None:
        for name, octets in (names | changes).items():
            paths[name].write_bytes(octets)

    write()
    assert TlsFiles.read(settings).server == server.certificate
    for changes in (
        {"private_key": other.key_pem},
        {"private_key": b"rubbish"},
        {"certificate": b"rubbish"},
        {"client_ca": b""},
        {"certificate": server.key_pem},
    ):
        write(**changes)
        with pytest.raises(ConfigurationInvalid) as refused:
            TlsFiles.read(settings)
        assert "PRIVATE" not in str(refused.value)
    write()
    keeper = TlsKeeper(settings, ClientCertificates())
    assert not keeper.look()
    write(certificate=other.pem, private_key=other.key_pem)
    assert keeper.look()
    assert keeper._take() is not None
    assert keeper._take() is None
    (tmp_path / "certificate").unlink()
    assert not keeper.look()
    with pytest.raises(ConfigurationInvalid):
        TlsFiles.read(settings)
