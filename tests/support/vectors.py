"""The official vectors in tests/vectors, with their key contexts as types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from Crypto.Cipher import DES

from sts import derivation
from sts.decoder_key import DecoderKey
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    EncryptionAlgorithm,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
)
from sts.token_identifier import BaseDate

PATH = Path(__file__).parent.parent / "vectors" / "sts531.json"
ALL: list[dict[str, Any]] = json.loads(PATH.read_text())["vectors"]


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [vector for vector in ALL if vector["kind"] == kind]
    assert found
    return found


def name(vector: dict[str, Any]) -> str:
    return "-".join(str(vector.get(field, "")) for field in ("kind", "test", "step", "field")).strip("-")


def des_block(key: bytes, block: bytes) -> bytes:
    return bytes(DES.new(key, DES.MODE_ECB).encrypt(block))


def context(fields: dict[str, Any], ea: int) -> derivation.KeyContext:
    return derivation.KeyContext(
        pan=MeterPAN(digits=fields["pan"]),
        supply_group_code=SupplyGroupCode(digits=fields["sgc"]),
        tariff_index=TariffIndex(digits=fields["ti"]),
        key_revision_number=KeyRevisionNumber(number=fields["krn"]),
        key_type=KeyType(fields["kt"]),
        base_date=BaseDate(fields["base_date"] or 93),
        ea=EncryptionAlgorithm(ea),
        dkga=DecoderKeyGenerationAlgorithm(fields["dkga"]),
    )


def decoder_key(fields: dict[str, Any], ea: int) -> DecoderKey:
    return derivation.derive(bytes.fromhex(fields["vk"]), context(fields, ea), des_block)


def module_value(vector: dict[str, Any]) -> int:
    """The value that the module takes for a token vector: units, or the raw field."""
    for field in ("amount_units", "amount_units_1e5", "raw_value"):
        if field in vector:
            return int(vector[field])
    raise AssertionError("a token vector carries a value")
