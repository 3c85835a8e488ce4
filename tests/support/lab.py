"""A SoftHSM token with test keys behind the functionality module, in a folder of its own, in this process."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import LoadKeyItem
from hsm.keys import KeyReference
from hsm.reasons import Reason
from hsm.requests import (
    Issued,
    IssueItem,
    KeyChanged,
    KeyChangeItem,
    Operation,
    Verified,
    VerifyItem,
    pack_request,
    split_answer,
)
from hsm.session import ModuleSession
from hsm.session_paths import CONFIG_ENVIRONMENT, LIBRARY_PATH
from sts.identifiers import KeyRevisionNumber, SupplyGroupCode

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
LABEL = "keywatt"
USER_PIN = "0123456789abcdef0123456789abcdef"
SO_PIN = "fedcba9876543210fedcba9876543210"
PUBLIC_160 = bytes.fromhex("ABABABABABABABAB949494949494949401234567")
PUBLIC_DES = (bytes.fromhex("ABABABABABABABAB"), bytes.fromhex("9494949494949494"))
# Keys that are nobody's: what a memory scan looks for must not lie in the code as well.
DEVELOPMENT_160 = bytes.fromhex("5d1ea6c31f02b4977740c2f9e88a36d15b90ee47")
DEVELOPMENT_DES = bytes.fromhex("5d1fa7c21f02b597")
EPOCH = datetime(1970, 1, 1)
PAN = "600727000000000009"
PAN_13 = "000001000000000082"
ALL0, ALL2 = 0x00FF, 0xFCE7


def reference(sgc: str, krn: int = 1) -> KeyReference:
    return KeyReference(
        supply_group_code=SupplyGroupCode(digits=sgc), key_revision_number=KeyRevisionNumber(number=krn)
    )


def minutes(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds() // 60)


def key_item(sgc: str, krn: int = 1, *, key: bytes = PUBLIC_160, **changes: object) -> LoadKeyItem:
    fields: dict[str, object] = {
        "supply_group_code": sgc,
        "key_revision_number": krn,
        "key_type": 2,
        "dkga": 4 if len(key) == 20 else 2,
        "base_date": 14,
        "key_expiry_number": 255,
        "key_change": True,
        "class0": ALL0,
        "class2": ALL2,
        "activation": 0,
        "issued_until": 0,
        "key": key,
    }
    return LoadKeyItem(**(fields | changes))  # type: ignore[arg-type]


CONTEXTS = [
    key_item("201457"),
    key_item("203557", 6, base_date=35),
    key_item("123457", base_date=93),
    key_item("123456", key=PUBLIC_DES[0], base_date=93),
    key_item("888888", key=PUBLIC_DES[1], base_date=93),
]

RULES = [
    key_item("600001", key=DEVELOPMENT_160),
    key_item("600002", key=DEVELOPMENT_160, key_type=1, class0=0),
    key_item("600003", key=DEVELOPMENT_160, key_expiry_number=10),
    key_item("600004", key=DEVELOPMENT_160, activation=minutes(datetime(2099, 1, 1))),
    key_item("600005", key=DEVELOPMENT_160, issued_until=minutes(datetime(2020, 1, 1))),
    key_item("600006", key=DEVELOPMENT_160, class0=0x0001, class2=0x0001, key_change=False),
    key_item("600007", key=DEVELOPMENT_DES, base_date=14),
    key_item("600008", key=DEVELOPMENT_DES, key_type=3),
    key_item("600009", key=DEVELOPMENT_160, base_date=35),
    key_item("600010", key=DEVELOPMENT_DES, key_type=3, krn=2),
]


class Lab:
    """One token store and the module on it, in one mode at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.config = folder / "module.conf"
        self.softhsm_config = folder / "softhsm2.conf"

    @classmethod
    def create(cls, folder: Path, items: list[LoadKeyItem]) -> Lab:
        lab = cls(folder)
        lab.tokens.mkdir(parents=True, mode=0o700)
        lab.configure("ceremony")
        with lab.session(pin=None) as session:
            from hsm.ceremony_requests import InitTokenItem

            assert Ceremony(session).init_token(InitTokenItem(label=LABEL, so_pin=SO_PIN, user_pin=USER_PIN))
        lab.load(items)
        return lab

    def copy(self, folder: Path) -> Lab:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        lab = Lab(folder)
        lab.configure("online")
        return lab

    def configure(self, mode: str, profile: str = "development", **changes: object) -> None:
        self.softhsm_config.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        fields: dict[str, object] = {
            "library": SOFTHSM,
            "token_label": LABEL,
            "module_id": "lab",
            "mode": mode,
            "profile": profile,
            "utc_offset": "+00:00",
            "tid_past_minutes": 10,
            "tid_future_minutes": 60,
            "reserved_past_minutes": 44640,
            "reserved_future_minutes": 1440,
        }
        lines = [f"{name} = {value}" for name, value in (fields | changes).items() if value is not None]
        self.config.write_text("\n".join(lines) + "\n")
        self.config.chmod(0o644)

    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.softhsm_config), CONFIG_ENVIRONMENT: str(self.config)}

    @contextlib.contextmanager
    def session(self, pin: str | None = USER_PIN, library: Path = LIBRARY_PATH) -> Iterator[ModuleSession]:
        os.environ.update(self.environment())
        session = ModuleSession(library)
        try:
            yield session.open(pin)
        finally:
            session.finalize()

    def load(self, items: list[LoadKeyItem]) -> None:
        self.configure("ceremony")
        with self.session() as session:
            for item in items:
                Ceremony(session).load_key(item)
        self.configure("online")


def issue(session: ModuleSession, key: KeyReference | None, *items: IssueItem) -> list[Issued]:
    answer = session.operate(Operation.ISSUE, pack_request(Operation.ISSUE, items), key)
    return [Issued.unpack(octets) for octets in split_answer(Operation.ISSUE, answer, len(items))]


def verify(session: ModuleSession, key: KeyReference | None, *items: VerifyItem) -> list[Verified]:
    answer = session.operate(Operation.VERIFY, pack_request(Operation.VERIFY, items), key)
    return [Verified.unpack(octets) for octets in split_answer(Operation.VERIFY, answer, len(items))]


def change(session: ModuleSession, key: KeyReference, *items: KeyChangeItem) -> list[KeyChanged]:
    answer = session.operate(Operation.KEY_CHANGE, pack_request(Operation.KEY_CHANGE, items), key)
    return [KeyChanged.unpack(octets) for octets in split_answer(Operation.KEY_CHANGE, answer, len(items))]


def credit(tid: int, **changes: object) -> IssueItem:
    fields: dict[str, object] = {
        "token_class": 0,
        "subclass": 0,
        "value": 256,
        "ea": 11,
        "tct": 2,
        "random_number": 5,
        "tariff_index": "01",
        "pan": PAN,
        "token_identifier": tid,
    }
    return IssueItem(**(fields | changes))  # type: ignore[arg-type]


def refused(session: ModuleSession, key: KeyReference | None, item: IssueItem) -> Reason:
    (answer,) = issue(session, key, item)
    assert (answer.reason is Reason.OK) == bool(answer.digits)
    return answer.reason
