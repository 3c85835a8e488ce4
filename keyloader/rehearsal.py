"""Rehearsals: the same code on a throw-away SoftHSM, with officers of the same names and keys that nobody keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InitTokenItem
from hsm.officers import (
    NAMESPACE,
    Approval,
    BeginItem,
    CeremonyKind,
    Officer,
    OfficersItem,
    action_digest,
    approval_text,
)
from hsm.requests import Operation
from keyloader import module_access
from keyloader.approvals import RehearsalSigner
from keyloader.ceremonies.base import CeremonyType
from keyloader.ceremonies.initialise import Initialise
from keyloader.conduct import Conduct
from keyloader.desk import Desk
from keyloader.errors import SiteFault
from keyloader.plan import PlanFile
from keyloader.site import Site
from keyloader.ssh_signatures import OfficerKey, sign
from keyloader.token_store import TokenStore

_SOFTHSM = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
_LABEL = "rehearsal"
_PIN = "0" * 32
_FOR_EVER = 1 << 40
_CONFIG = """\
library = {library}
token_label = {label}
module_id = {module}
mode = ceremony
profile = development
utc_offset = +00:00
tid_past_minutes = 10
tid_future_minutes = 60
reserved_past_minutes = 44640
reserved_future_minutes = 1440
"""


@contextmanager
def rehearsing(plan: PlanFile, desk: Desk) -> Iterator[Conduct]:
    """Give a rehearsal of a plan; all that it makes is gone afterwards. Raises KeyLoaderError, HsmError."""
    with tempfile.TemporaryDirectory(prefix="keywatt-rehearsal-") as name:
        folder = Path(name)
        site = _make_site(folder, plan.plan.module)
        ceremony = plan.plan.ceremony.rehearsed()
        keys = {person: Ed25519PrivateKey.generate() for person in _officers(plan)}
        if isinstance(ceremony, Initialise):
            ceremony = _with_keys(ceremony, keys)
        else:
            _make_token(site, plan.plan.module, keys, ceremony)
        yield Conduct(
            plan=plan, site=site, desk=desk, signer=RehearsalSigner(keys), ceremony=ceremony, is_rehearsal=True
        )


def _officers(plan: PlanFile) -> list[str]:
    ceremony = plan.plan.ceremony
    if isinstance(ceremony, Initialise):
        return [entry.name for entry in ceremony.officers.officer]
    return [one.name for one in plan.plan.participants if one.role == "officer"]


def _with_keys(ceremony: Initialise, keys: dict[str, Ed25519PrivateKey]) -> CeremonyType:
    def line(name: str) -> str:
        return str(OfficerKey(public=keys[name].public_key().public_bytes_raw()))

    entries = [entry.model_copy(update={"key": line(entry.name)}) for entry in ceremony.officers.officer]
    return ceremony.model_copy(update={"officers": ceremony.officers.model_copy(update={"officer": entries})})


def _make_site(folder: Path, module: str) -> Site:
    library = next((path for path in _SOFTHSM if Path(path).exists()), None)
    if library is None:
        raise SiteFault("a rehearsal needs SoftHSM: apt-get install softhsm2")
    for name in ("module", "records"):
        (folder / name).mkdir(mode=0o700)
    config = folder / "ceremony.conf"
    config.write_text(_CONFIG.format(library=library, label=_LABEL, module=module), "ascii")
    config.chmod(0o644)
    return Site(token_folder=folder / "module", token_label=_LABEL, ceremony_config=config, records=folder / "records")


def _make_token(site: Site, module: str, keys: dict[str, Ed25519PrivateKey], rehearsed: CeremonyType) -> None:
    """Make a token with these officers, as an initialisation would have, and with what the ceremony expects."""
    officers = [
        Officer(name=name, key=key.public_key().public_bytes_raw(), valid_from=0, valid_until=_FOR_EVER)
        for name, key in keys.items()
    ]
    item = OfficersItem(officers=officers, thresholds=dict.fromkeys(CeremonyKind, 2))
    with (
        TokenStore(site.token_folder).draft() as tokens,
        module_access.session_on(tokens, site.ceremony_config) as session,
    ):
        Ceremony(session).init_token(InitTokenItem(label=_LABEL, so_pin=_PIN, user_pin=_PIN))
        session.close()
        session.open(_PIN)
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        rehearsed.prepare_rehearsal(ceremony)
        digest = action_digest(Operation.SET_OFFICERS, item.pack())
        begin = BeginItem(kind=CeremonyKind.INITIALISE, plan=bytes(32), actions=[digest])
        text = approval_text(module, begin, ceremony.begin(begin).nonce)
        ceremony.set_officers(item)
        for key in keys.values():
            signature = sign(key, NAMESPACE, text.encode())
            ceremony.approve(Approval(key=signature.key.public, signature=signature.signature))
        ceremony.set_officers(item)
    (site.token_folder / "pin").write_text(_PIN, "ascii")
