"""Load vending keys out of key blocks of X9.143 (TR-31), version D, which stand in the plan."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hsm.ceremony_requests import BLOCK_KEY_LENGTH, KEY_BLOCK_MAX, BlockKeyItem, KeyBlockItem
from hsm.officers import CeremonyKind, ComponentPart
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage, Throwaway
from keyloader.errors import PlanInvalid
from keyloader.exchange.centre import check_value, throwaway_key
from keyloader.exchange.key_block import wrap

_HEADER = re.compile(r"D(?P<length>\d{4})41[HD]X00N(?P<count>\d{2})00")
_ATTRIBUTES = re.compile(r"sgc=(?P<sgc>\d{6}) krn=(?P<krn>\d) [a-z0-9=:T -]* kcv=[0-9a-f]{6}")
_PART = 16
_CHECK_VALUE = re.compile(r" kcv=([0-9a-f]{6})")


class LoadKeyBlocks(CeremonyType):
    """Keys under the key block protection key of this token.

    Args:
        blocks: as the centre sent them; what a block says of its key is shown, and is proven by the module alone.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.KEY_FILE
    kind: Literal["key-blocks"]
    blocks: Annotated[list[str], Field(min_length=1, max_length=32)]

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: list[str]) -> list[str]:
        for number, block in enumerate(blocks, 1):
            if not block.isascii() or len(block) > KEY_BLOCK_MAX or not _attributes(block):
                raise ValueError(f"block {number} is no key block of version D with the attributes of a vending key")
        return blocks

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [_name(block) for block in self.blocks]
        if len(set(names)) != len(names):
            raise ValueError("two blocks are for the same key")
        return self

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Load each."""
        return [
            Action(
                operation=Operation.LOAD_BLOCK,
                item=KeyBlockItem(block=block),
                what=f"load vending key {_name(block)} out of a key block that says: {_attributes(block)}",
            )
            for block in self.blocks
        ]

    def may_change(self, folder: Path) -> frozenset[str]:  # noqa: ARG002 - as above
        """Name them: a key that is there takes new dates and limits."""
        return frozenset(_name(block) for block in self.blocks)

    def script(self) -> list[str]:
        """In words."""
        return [f"Vending key {_name(block)} is loaded out of its key block." for block in self.blocks]

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Give the throw-away token a key of its own, and rehearse with blocks under it that say the same."""
        shares = [secrets.token_bytes(BLOCK_KEY_LENGTH) for _ in range(2)]
        block_key = bytes(a ^ b for a, b in zip(*shares, strict=True))
        item = BlockKeyItem(components=len(shares))
        action = Action(operation=Operation.SET_BLOCK_KEY, item=item, what="load a block key to rehearse with")
        with throwaway.holding(CeremonyKind.OFFICERS, action) as ceremony:
            for number, (share, officer) in enumerate(zip(shares, throwaway.officers, strict=False), 1):
                for offset in (0, _PART):
                    part = ComponentPart(
                        number=number,
                        total=len(shares),
                        offset=offset,
                        key_length=BLOCK_KEY_LENGTH,
                        officer=officer.key,
                        octets=share[offset : offset + _PART],
                    )
                    ceremony.enter_component(part)
            ceremony.set_block_key(item)
        blocks = [_throwaway_block(block_key, block, number) for number, block in enumerate(self.blocks)]
        return self.model_copy(update={"blocks": blocks}), throwaway.plan_folder

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:
        """Load."""
        for action in actions:
            if isinstance(action.item, KeyBlockItem):
                checked, is_new = stage.ceremony.load_block(action.item)
                stage.step(
                    "vending key loaded" if is_new else "this very key was there already",
                    key=_name(action.item.block),
                    check_value=checked.octets.hex().upper(),
                    algorithm=checked.algorithm.label,
                )


def _attributes(block: str) -> str:
    """Return what a block says of its key, read as the module reads it; empty if it is not of that form.

    Optional blocks are walked by their lengths: attributes once and first, then at the most padding, at the end.
    """
    header = _HEADER.match(block)
    if header is None or int(header["length"]) != len(block):
        return ""
    at, found = header.end(), ""
    for left in range(int(header["count"]), 0, -1):
        name, digits = block[at : at + 2], block[at + 2 : at + 4]
        if re.fullmatch(r"[0-9A-F]{2}", digits) is None or not 4 <= int(digits, 16) <= len(block) - at:
            return ""
        content = block[at + 4 : at + int(digits, 16)]
        if name == "41" and not found:
            found = content
        elif name != "PB" or not found or left != 1:
            return ""
        at += int(digits, 16)
    return found if _ATTRIBUTES.fullmatch(found) else ""


def _name(block: str) -> str:
    match = _ATTRIBUTES.fullmatch(_attributes(block))
    if match is None:  # the validator has seen to it
        raise PlanInvalid("a block is no key block")
    return f"{match['sgc']}/{match['krn']}"


def _throwaway_block(block_key: bytes, block: str, number: int) -> str:
    """Return a block that says the same of a key that is nobody's."""
    length = 20 if block[7] == "H" else 8
    key = throwaway_key(length, number)
    attributes = _CHECK_VALUE.sub(f" kcv={check_value(key).lower()}", _attributes(block))
    return wrap(block_key, key, attributes, secrets.token_bytes(_PART))
