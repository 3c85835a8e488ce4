"""What decoder keys and tokens must be, by the Python reference in the test's own process."""

from __future__ import annotations

from sts import codec
from sts.credit import TransferCredit
from sts.decoder_key import DecoderKey
from sts.token_number import TokenNumber
from tests.support import vectors
from tests.support.lab import CONTEXTS, RULES
from tests.support.load import Sale

RECORDS = {item.supply_group_code: item for item in CONTEXTS + RULES if item.key_revision_number == 1}


def decoder_key(pan: str, sgc: str, ea: int) -> DecoderKey:
    record = RECORDS[sgc]
    fields = {
        "vk": record.key.hex(),
        "pan": pan,
        "sgc": sgc,
        "ti": "01",
        "krn": record.key_revision_number,
        "kt": record.key_type,
        "base_date": record.base_date,
        "dkga": record.dkga,
    }
    return vectors.decoder_key(fields, ea)


def check(sale: Sale) -> None:
    """The token is exactly a credit of 25.6 kWh for its meter; anything else is a wrong token."""
    token = codec.decode(TokenNumber(digits=sale.digits), decoder_key(sale.pan, sale.sgc, sale.ea))
    assert isinstance(token, TransferCredit)
    assert token.amount.units == 256
