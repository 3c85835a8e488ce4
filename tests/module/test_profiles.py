"""What the module is as a whole: profiles that do not mix, a limit on guessing, requests judged on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.reasons import Reason
from hsm.requests import Mark, Operation, VerifyItem, pack_request
from hsm.session import ModuleSession
from tests.module.test_rules import GOOD, now
from tests.support.lab import DEVELOPMENT_160, PAN, PUBLIC_160, Lab, credit, issue, key_item, refused, verify


def test_an_environment_variable_does_not_choose_production(lab: Lab) -> None:
    from hsm.errors import ModuleUnavailable

    lab.configure("online", "production")
    with pytest.raises(ModuleUnavailable), lab.session():
        pass


@pytest.mark.root
def test_production_profile_refuses_test_keys(lab: Lab, production_library: Path) -> None:
    lab.configure("online", "production")
    with lab.session(library=production_library) as session:
        assert session.keys == []
        assert session.status().keys_refused == 15


@pytest.mark.root
def test_production_ceremony_and_sample_tables(lab: Lab, production_library: Path) -> None:
    import shutil
    from dataclasses import replace

    from hsm.ceremony import Ceremony
    from hsm.ceremony_requests import KeySource
    from hsm.errors import ModuleRefusal
    from hsm.officers import CeremonyKind, action_digest
    from tests.module.test_lease import lease, present, signed
    from tests.module.test_officers import Table, enrol, enter, xor
    from tests.support.officers import ALICE, BOB, officers

    shutil.rmtree(lab.folder)
    lab = Lab.create(lab.folder, [])
    lab.configure("ceremony", "production")
    with lab.session(library=production_library) as session:
        ceremony = Ceremony(session)
        with pytest.raises(ModuleRefusal) as refusal:
            ceremony.load_key(key_item("600001", key=DEVELOPMENT_160))
        assert refusal.value.code is Reason.CLEAR_KEY_REFUSED
        assert ceremony.make_audit_key()[0] == bytes(32)
        enrol(ceremony, officers(), ALICE, BOB)
        wanted = replace(key_item("600001"), key=b"", source=KeySource.COMPONENTS, components=2)
        for key in (PUBLIC_160, DEVELOPMENT_160):
            table = Table(ceremony, CeremonyKind.LOAD_KEY, action_digest(Operation.LOAD_KEY, wanted.pack()))
            table.approve(ALICE, BOB)
            enter(ceremony, ALICE, 1, bytes(range(20)))
            enter(ceremony, BOB, 2, xor(bytes(range(20)), key))
            if key == PUBLIC_160:
                with pytest.raises(ModuleRefusal) as refusal:
                    ceremony.load_key(wanted)
                assert refusal.value.code is Reason.TEST_KEY_REFUSED
            else:
                assert ceremony.load_key(wanted)[1]
    lab.configure("online", "production")
    with lab.session(library=production_library) as session:
        (key,) = session.keys
        assert not key.is_test_key
        assert refused(session, key.reference, credit(now(session))) is Reason.LEASE_MISSING
        assert present(session, signed(lease(), ALICE, BOB)) is Reason.OK
        assert refused(session, key.reference, credit(now(session), ea=7)) is Reason.SAMPLE_TABLES_REFUSED
        question = VerifyItem(digits="0" * 20, ea=7, tct=2, tariff_index="01", pan=PAN)
        assert verify(session, key.reference, question)[0].reason is Reason.SAMPLE_TABLES_REFUSED
        (issued,) = issue(session, key.reference, credit(now(session)))
        assert (issued.reason, issued.marks) == (Reason.OK, Mark(0))
    lab.configure("online")
    with lab.session() as session:
        assert session.keys == []  # a production key is not for play


def test_guessing_tokens_is_cut_off(lab: Lab) -> None:
    """In a process of its own: the limit outlives a session, as it must."""
    import os
    import subprocess
    import sys

    code = (
        "from tests.module.test_profiles import guess_until_cut_off\n"
        "from hsm.session import ModuleSession\nfrom tests.support.lab import USER_PIN\n"
        "guess_until_cut_off(ModuleSession().open(USER_PIN))"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | lab.environment(), check=True, timeout=60)


def guess_until_cut_off(session: ModuleSession) -> None:
    import random

    from sts import luhn
    from sts.identifiers import MeterPAN

    source = random.Random(1)

    def guesses(count: int, pan: str) -> list[Reason]:
        # Class 0: bits 28 and 27 of the number are zero.
        numbers = [source.randrange(1 << 66) & ~(0b11 << 27) for _ in range(count)]
        items = [VerifyItem(digits=f"{n:020d}", ea=11, tct=2, tariff_index="01", pan=pan) for n in numbers]
        return [found.reason for found in verify(session, GOOD, *items)]

    reasons = guesses(200, PAN)
    assert reasons.count(Reason.VERIFICATION_LIMIT) == 180
    # All meters together have a limit as well.
    for serial in range(10):
        payload = f"{serial:010d}"
        reasons = guesses(30, MeterPAN.parse(payload + luhn.check_digit(payload)).digits)
    assert set(reasons) == {Reason.VERIFICATION_LIMIT}
    # Issuing has none.
    assert refused(session, GOOD, credit(now(session))) is Reason.OK


def test_requests_are_judged_on_a_copy(online: ModuleSession) -> None:
    """A caller that changes its octets while the module works gets nothing that was not judged."""
    import ctypes
    import threading

    from hsm.session_paths import LIBRARY_PATH
    from tests.support import cryptoki

    raw = cryptoki.RawLibrary(LIBRARY_PATH)
    handle = online._keys[GOOD][1].handle
    session = ctypes.c_ulong(online._session.handle)
    octets = pack_request(Operation.ISSUE, [credit(now(online), token_class=2, subclass=2)] * 50)
    request = ctypes.create_string_buffer(octets)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for position in range(50):
                offset = 8 + 64 * position + 1
                request[offset] = b"\3"
                request[offset] = b"\2"

    thread = threading.Thread(target=flip)
    thread.start()
    subclasses = set()
    try:
        for _ in range(200):
            assert raw.with_key("C_SignInit", online._session.handle, 0x804B5701, handle) == cryptoki.CKR_OK
            answer, length = ctypes.create_string_buffer(8 + 48 * 50), ctypes.c_ulong(8 + 48 * 50)
            source = ctypes.cast(request, ctypes.c_void_p), ctypes.c_ulong(len(octets))
            target = ctypes.cast(answer, ctypes.c_void_p)
            assert raw.call("C_Sign", session, *source, target, ctypes.pointer(length)) == cryptoki.CKR_OK
            for position in range(50):
                item = answer.raw[8 + 48 * position : 56 + 48 * position]
                if item[:2] == b"\0\0":
                    subclasses.add(item[3])
    finally:
        stop.set()
        thread.join()
    assert subclasses == {2}
