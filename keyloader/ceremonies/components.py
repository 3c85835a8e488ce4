"""Keys that come on paper: components, entered by officers, one each, and combined inside the module."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from hsm.errors import ModuleRefusal
from hsm.officers import ComponentPart
from hsm.reasons import Reason
from hsm.requests import CheckValue
from keyloader.ceremonies.base import Approver, CeremonyType, Stage, Throwaway
from keyloader.errors import ComponentRefused

_CHECK_VALUE = re.compile(r"[0-9A-Fa-f]{6}")
_ATTEMPTS = 3


class ComponentsType(CeremonyType):
    """What every type has whose key is entered in components.

    Args:
        components: how many, 2 to 8; each is entered by another officer.
        component_check_values: of each, six hexadecimal digits, as on its envelope; empty if they are not known.
        check_value: of the key; empty if it is not known.
    """

    components: Annotated[int, Field(ge=2, le=8)]
    component_check_values: list[str] = Field(default=[])
    check_value: str = ""

    @field_validator("check_value")
    @classmethod
    def _check_value(cls, text: str) -> str:
        if text and _CHECK_VALUE.fullmatch(text) is None:
            raise ValueError("a check value is six hexadecimal digits")
        return text.upper()

    @field_validator("component_check_values")
    @classmethod
    def _check_values(cls, texts: list[str]) -> list[str]:
        if any(_CHECK_VALUE.fullmatch(text) is None for text in texts):
            raise ValueError("a check value is six hexadecimal digits")
        return [text.upper() for text in texts]

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if self.component_check_values and len(self.component_check_values) != self.components:
            raise ValueError("give a check value for each component, or for none")
        return self

    @property
    def component_values(self) -> bytes:
        """Check values of the components as the module takes them: three octets each, or nothing."""
        return bytes.fromhex("".join(self.component_check_values))

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Return it without check values: no real component is entered into a throw-away token."""
        update = {"component_check_values": [], "check_value": ""}
        return self.model_copy(update=update), throwaway.plan_folder

    def entry_script(self) -> list[str]:
        """Return how components are entered, in words."""
        steps = []
        for number in range(1, self.components + 1):
            expected = f"; it must be {self._expected(number)}" if self.component_check_values else ""
            steps.append(f"An officer opens the envelope of component {number} alone and enters it without echo.")
            steps.append(f"The check value of component {number} is read out and compared{expected}.")
        return steps

    def enter_components(self, stage: Stage, key_length: int) -> None:
        """Have every component entered, each by another of the officers who have approved.

        Raises:
            ComponentRefused: one was entered wrongly too often.
        """
        left = list(stage.approvers)
        for number in range(1, self.components + 1):
            name = stage.choose(
                f"Who enters component {number} of {self.components}? All others look away.",
                [approver.name for approver in left],
            )
            officer = next(approver for approver in left if approver.name == name)
            left.remove(officer)
            self._enter(stage, number, officer, key_length)

    def _expected(self, number: int) -> str:
        return self.component_check_values[number - 1] if self.component_check_values else ""

    def _enter(self, stage: Stage, number: int, officer: Approver, key_length: int) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            checked: list[CheckValue] = []
            sink = partial(self._part, stage, number, officer, key_length, checked)
            try:
                stage.enter_secret(f"{officer.name}: component {number} of {self.components}", key_length, sink)
            except ModuleRefusal as error:
                if error.code is not Reason.COMPONENT_INVALID:
                    raise
                stage.step("component refused by the module", component=str(number), officer=officer.name)
                continue
            value = checked[-1].octets.hex().upper()
            expected = self._expected(number)
            facts = {"component": str(number), "officer": officer.name, "check_value": value}
            facts |= {"algorithm": checked[-1].algorithm.label, "expected": expected or "not known"}
            if expected == value or (not expected and stage.confirm(f"The check value is {value}. Is that right?")):
                stage.step("component entered", **facts)
                return
            stage.step("component with a wrong check value", attempt=str(attempt), **facts)
        raise ComponentRefused(f"component {number} was entered wrongly {_ATTEMPTS} times")

    def _part(
        self,
        stage: Stage,
        number: int,
        officer: Approver,
        key_length: int,
        checked: list[CheckValue],
        offset: int,
        octets: bytes,
    ) -> None:
        part = ComponentPart(
            number=number,
            total=self.components,
            offset=offset,
            key_length=key_length,
            officer=officer.key,
            octets=octets,
        )
        checked.append(stage.ceremony.enter_component(part))
