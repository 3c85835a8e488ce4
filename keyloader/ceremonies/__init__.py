"""Types of ceremonies, one file each; a new type is a new file here, named in ``TYPES``.

A type says what a plan may hold, what the module is asked to do (which is what officers approve), and how it goes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keyloader.ceremonies.destroy_key import DestroyKey
from keyloader.ceremonies.generate_key import GenerateKey
from keyloader.ceremonies.initialise import Initialise
from keyloader.ceremonies.load_key import LoadKey
from keyloader.ceremonies.officers import ChangeOfficers
from keyloader.ceremonies.tables import InstallTables

CeremonyPlan = Annotated[
    Initialise | ChangeOfficers | LoadKey | GenerateKey | InstallTables | DestroyKey, Field(discriminator="kind")
]
