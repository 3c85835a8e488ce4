"""Types of ceremonies, one file each; a new type is a new file here, named in ``CeremonyPlan``.

A type says what a plan may hold, what the module is asked to do (which is what officers approve), and how it goes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keyloader.ceremonies.backup import BackUp
from keyloader.ceremonies.block_key import LoadBlockKey
from keyloader.ceremonies.centres import ChangeCentres
from keyloader.ceremonies.destroy_key import DestroyKey
from keyloader.ceremonies.generate_key import GenerateKey
from keyloader.ceremonies.hand_over import HandOver
from keyloader.ceremonies.initialise import Initialise
from keyloader.ceremonies.key_blocks import LoadKeyBlocks
from keyloader.ceremonies.key_file import LoadKeyFile
from keyloader.ceremonies.key_request import RequestKeys
from keyloader.ceremonies.lease import RenewLease
from keyloader.ceremonies.load_key import LoadKey
from keyloader.ceremonies.officers import ChangeOfficers
from keyloader.ceremonies.policy import PutPolicy
from keyloader.ceremonies.restore import Restore
from keyloader.ceremonies.retire_key import RetireKey
from keyloader.ceremonies.tables import InstallTables

CeremonyPlan = Annotated[
    Initialise
    | ChangeOfficers
    | LoadKey
    | GenerateKey
    | ChangeCentres
    | RequestKeys
    | LoadKeyFile
    | LoadBlockKey
    | LoadKeyBlocks
    | InstallTables
    | BackUp
    | Restore
    | RetireKey
    | DestroyKey
    | PutPolicy
    | RenewLease
    | HandOver,
    Field(discriminator="kind"),
]
