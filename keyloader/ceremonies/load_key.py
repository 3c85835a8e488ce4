"""Load a vending key from components that officers enter, one each; they are combined inside the module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hsm.ceremony_requests import KeySource, LoadKeyItem
from hsm.errors import ModuleRefusal
from hsm.officers import CeremonyKind, ComponentPart
from hsm.reasons import Reason
from hsm.requests import CheckValue, Operation
from keyloader.ceremonies.base import Action, Approver, CeremonyType, Stage
from keyloader.errors import ComponentRefused
from keyloader.key_attributes import KeyAttributes

_CHECK_VALUE = re.compile(r"[0-9A-Fa-f]{6}")
_ATTEMPTS = 3


class LoadKey(CeremonyType):
    """A key that comes on paper, in components.

    Args:
        key: what it is for.
        components: how many, 2 to 8; each is entered by another officer.
        component_check_values: of each, six hexadecimal digits, as on its envelope; empty if they are not known.
        check_value: of the key; empty if it is not known.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.LOAD_KEY
    kind: Literal["load-key"]
    key: KeyAttributes
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
    def _check_count(self) -> LoadKey:
        if self.component_check_values and len(self.component_check_values) != self.components:
            raise ValueError("give a check value for each component, or for none")
        return self

    @property
    def item(self) -> LoadKeyItem:
        """As the module takes it."""
        return self.key.item(
            KeySource.COMPONENTS,
            expected=bytes.fromhex(self.check_value),
            components=self.components,
            component_values=bytes.fromhex("".join(self.component_check_values)),
        )

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Load."""
        what = f"load vending key {self.key.name} from {self.components} components"
        if self.check_value:
            what += f", check value {self.check_value}"
        return [Action(operation=Operation.LOAD_KEY, item=self.item, what=what)]

    def script(self) -> list[str]:
        """In words."""
        steps = []
        for number in range(1, self.components + 1):
            expected = f"; it must be {self._expected(number)}" if self.component_check_values else ""
            steps.append(f"An officer opens the envelope of component {number} alone and enters it without echo.")
            steps.append(f"The check value of component {number} is read out and compared{expected}.")
        expected = f", which must be {self.check_value}" if self.check_value else ""
        steps.append(f"The module combines the components and loads key {self.key.name}; its check value{expected}.")
        return steps

    def rehearsed(self) -> LoadKey:
        """Return it without check values: no real component is entered into a throw-away token."""
        return self.model_copy(update={"component_check_values": [], "check_value": ""})

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Have the components entered, and load the key."""
        left = list(stage.approvers)
        for number in range(1, self.components + 1):
            name = stage.choose(
                f"Who enters component {number} of {self.components}? All others look away.",
                [approver.name for approver in left],
            )
            officer = next(approver for approver in left if approver.name == name)
            left.remove(officer)
            self._enter(stage, number, officer)
        checked, is_new = stage.ceremony.load_key(self.item)
        stage.step(
            "vending key loaded" if is_new else "this very key was there already",
            key=self.key.name,
            check_value=checked.octets.hex().upper(),
            algorithm=checked.algorithm.label,
            expected=self.check_value or "not known",
        )

    def _expected(self, number: int) -> str:
        return self.component_check_values[number - 1] if self.component_check_values else ""

    def _enter(self, stage: Stage, number: int, officer: Approver) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            checked: list[CheckValue] = []
            sink = partial(self._part, stage, number, officer, checked)
            try:
                stage.enter_secret(
                    f"{officer.name}: component {number} of {self.components}", self.key.key_length, sink
                )
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
        self, stage: Stage, number: int, officer: Approver, checked: list[CheckValue], offset: int, octets: bytes
    ) -> None:
        part = ComponentPart(
            number=number,
            total=self.components,
            offset=offset,
            key_length=self.key.key_length,
            officer=officer.key,
            octets=octets,
        )
        checked.append(stage.ceremony.enter_component(part))
