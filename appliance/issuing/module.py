"""What the appliance knows of its module: identity, zone, keys; read again after a reconnect or a ceremony."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.issuing.orders import Origin
from hsm.client import ModuleClient
from hsm.errors import ModuleChanged, VendingKeyUnknown
from hsm.keys import KeyReference, VendingKey
from hsm.requests import Mark
from hsm.status import Mode, ModuleStatus, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleView:
    """One reading of the module."""

    status: ModuleStatus
    keys: dict[KeyReference, VendingKey]
    connection: int
    generation: int = 0
    origins: dict[tuple[int, Mark], Origin] = field(default_factory=dict)

    @property
    def certification(self) -> bool:
        """Whether the module replays official tests."""
        return self.status.mode is Mode.CERTIFICATION

    def origin(self, key: VendingKey | None, marks: Mark) -> Origin:
        """Return where tokens under a key come from; the same object for the same key and marks."""
        # By identity: the keys of one reading live as long as it does.
        name = (id(key), marks)
        found = self.origins.get(name)
        if found is None:
            found = self.origins[name] = Origin(key=key, module_id=self.status.module_id, marks=marks)
        return found

    def key(self, reference: KeyReference) -> VendingKey:
        """Return a vending key's record; raises VendingKeyUnknown."""
        try:
            return self.keys[reference]
        except KeyError:
            raise VendingKeyUnknown(f"no vending key {reference}") from None


class ModuleCatalogue:
    """Caches one reading for as long as connection and generation last: the worker says when it reads another store."""

    def __init__(self, client: ModuleClient) -> None:
        self.client = client
        self._view: ModuleView | None = None
        self._identity: tuple[str, Mode, Profile] | None = None

    @property
    def last(self) -> ModuleView | None:
        """The last reading, as old as it may be."""
        return self._view

    async def view(self) -> ModuleView:
        """Return the present reading; raises HsmError if the module does not answer."""
        view = self._view
        client = self.client
        if (
            view is not None
            and view.connection == client.connections
            and view.generation == client.generation
            and client.is_connected
        ):
            return view
        status, keys = await client.status(), await client.keys()
        identity = (status.module_id, status.mode, status.profile)
        if self._identity not in (None, identity):
            raise ModuleChanged("the module is another one, or in another mode, than when the appliance started")
        self._identity = identity
        view = ModuleView(
            status=status,
            keys={key.reference: key for key in keys},
            connection=client.connections,
            generation=client.generation,
        )
        self._view = view
        return view
