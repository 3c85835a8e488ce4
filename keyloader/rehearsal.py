"""Rehearsals: the same code on a throw-away SoftHSM, with officers of the same names and keys that nobody keeps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from hsm.ssh_signatures import OfficerKey, sign
from keyloader import module_access
from keyloader.ceremonies.base import Action, Approver, Basis, CeremonyType
from keyloader.ceremonies.initialise import Initialise
from keyloader.conduct import Conduct
from keyloader.desk import Desk
from keyloader.errors import SiteFault
from keyloader.plan import PlanFile
from keyloader.signers import RehearsalSigner
from keyloader.site import Site
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
        ceremony: CeremonyType = plan.plan.ceremony
        files = plan.folder
        keys = {person: Ed25519PrivateKey.generate() for person in _officers(plan)}
        if isinstance(ceremony, Initialise):
            ceremony = _with_keys(ceremony, keys)
        else:
            ceremony, files = _prepare(plan, desk, site, keys)
        yield Conduct(
            plan=plan,
            site=site,
            desk=desk,
            signer=RehearsalSigner(keys),
            ceremony=ceremony,
            folder=files,
            is_rehearsal=True,
        )


def _officers(plan: PlanFile) -> list[str]:
    ceremony = plan.plan.ceremony
    if isinstance(ceremony, Initialise):
        return [entry.name for entry in ceremony.officers.officer]
    return [one.name for one in plan.plan.participants if one.role == "officer"]


def _line(key: Ed25519PrivateKey) -> str:
    return str(OfficerKey(public=key.public_key().public_bytes_raw()))


def _with_keys(ceremony: Initialise, keys: dict[str, Ed25519PrivateKey]) -> CeremonyType:
    entries = [entry.model_copy(update={"key": _line(keys[entry.name])}) for entry in ceremony.officers.officer]
    return ceremony.model_copy(update={"officers": ceremony.officers.model_copy(update={"officer": entries})})


def _make_site(folder: Path, module: str) -> Site:
    library = next((path for path in _SOFTHSM if Path(path).exists()), None)
    if library is None:
        raise SiteFault("a rehearsal needs SoftHSM: apt-get install softhsm2")
    for name in ("module", "records", "backups"):
        (folder / name).mkdir(mode=0o700)
    config = folder / "ceremony.conf"
    config.write_text(_CONFIG.format(library=library, label=_LABEL, module=module), "ascii")
    config.chmod(0o644)
    return Site(
        token_folder=folder / "module",
        token_label=_LABEL,
        ceremony_config=config,
        records=folder / "records",
        backups=folder / "backups",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ThrowawayToken:
    """See :class:`keyloader.ceremonies.base.Throwaway`."""

    folder: Path
    plan_folder: Path
    ceremony: Ceremony
    desk: Desk
    module: str
    site: Site
    keys: dict[str, Ed25519PrivateKey]

    @property
    def officers(self) -> Sequence[Approver]:
        """Those who are enrolled."""
        return [
            Approver(name=name, key=key.public_key().public_bytes_raw())
            for name, key in self.keys.items()
            if name in self._enrolled
        ]

    @property
    def _enrolled(self) -> set[str]:
        found = self.ceremony.officers()
        return set() if found is None else {officer.name for officer in found.officers}

    @contextmanager
    def holding(self, kind: CeremonyKind, *actions: Action) -> Iterator[Ceremony]:
        """Begin a ceremony that all have approved."""
        begin = BeginItem(kind=kind, plan=bytes(32), actions=[action.digest for action in actions])
        text = approval_text(self.module, begin, self.ceremony.begin(begin).nonce)
        for officer in self.officers:
            signature = sign(self.keys[officer.name], NAMESPACE, text.encode())
            self.ceremony.approve(Approval(key=signature.key.public, signature=signature.signature))
        yield self.ceremony

    def key_for(self, name: str) -> str:
        """Return the public key of somebody to rehearse with."""
        return _line(self.keys.setdefault(name, Ed25519PrivateKey.generate()))

    def take_away(self) -> tuple[Path, str]:
        """Copy the token elsewhere; it is not put in force."""
        away = self.folder / "away"
        current = self.site.token_folder / ".draft-store-0001"
        shutil.copytree(current, away)
        return away, _PIN

    def say(self, text: str) -> None:
        """Show a line."""
        self.desk.say(text)


def _prepare(plan: PlanFile, desk: Desk, site: Site, keys: dict[str, Ed25519PrivateKey]) -> tuple[CeremonyType, Path]:
    """Make a token with these officers, as an initialisation would have, and with what the ceremony expects."""
    officers = [
        Officer(name=name, key=key.public_key().public_bytes_raw(), valid_from=0, valid_until=_FOR_EVER)
        for name, key in keys.items()
    ]
    item = OfficersItem(officers=officers, thresholds=dict.fromkeys(CeremonyKind, 2))
    store = TokenStore(site.token_folder)
    with (
        store.draft() as tokens,
        module_access.session_on(tokens, site.ceremony_config) as session,
    ):
        Ceremony(session).init_token(InitTokenItem(label=_LABEL, so_pin=_PIN, user_pin=_PIN))
        session.close()
        session.open(_PIN)
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        digest = action_digest(Operation.SET_OFFICERS, item.pack())
        begin = BeginItem(kind=CeremonyKind.INITIALISE, plan=bytes(32), actions=[digest])
        text = approval_text(plan.plan.module, begin, ceremony.begin(begin).nonce)
        ceremony.set_officers(item)
        for key in keys.values():
            signature = sign(key, NAMESPACE, text.encode())
            ceremony.approve(Approval(key=signature.key.public, signature=signature.signature))
        ceremony.set_officers(item)
        throwaway = _ThrowawayToken(
            folder=site.token_folder.parent,
            plan_folder=plan.folder,
            ceremony=ceremony,
            desk=desk,
            module=plan.plan.module,
            site=site,
            keys=keys,
        )
        rehearsed, files = plan.plan.ceremony.rehearsed(throwaway)
    if rehearsed.basis is Basis.NOTHING:
        _discard(site.token_folder)
    else:
        site.pin_file.write_text(_PIN, "ascii")
    return rehearsed, files


def _discard(folder: Path) -> None:
    """Leave an empty folder where the throw-away token was."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
