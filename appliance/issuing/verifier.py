"""Verifying: whether a token is genuine, and what it says. Nothing of it is kept."""

from __future__ import annotations

from appliance.issuing.meter import Meter
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.orders import Verification
from appliance.issuing.quantities import Unit, unit_of
from hsm.errors import ModuleRefusal
from hsm.frames import NOBODY, Asker
from hsm.keys import VendingKey
from hsm.reasons import Reason
from hsm.requests import Verified, VerifyItem
from sts import errors as sts_errors
from sts.management import KEY_CHANGE_SUBCLASSES
from sts.token_identifier import TokenIdentifier
from sts.token_number import TokenNumber


class Verifier:
    """Verifies tokens through one module."""

    def __init__(self, catalogue: ModuleCatalogue) -> None:
        self._catalogue = catalogue

    async def verify(self, number: TokenNumber, meter: Meter | None, client: str) -> Verification:
        """Verify a token for a client, who goes into the log; one that is not genuine is an answer, not an error.

        Raises:
            ReservedTokenClass: class 3.
            StsError, HsmError, ApplianceError: the question makes no sense, or cannot be answered now.
        """
        view = await self._catalogue.view()
        if number.token_class == 3:
            raise sts_errors.ReservedTokenClass("class 3 is reserved")
        key: VendingKey | None = None
        if number.token_class == 1:
            item = VerifyItem(digits=number.digits)
        elif meter is None:
            raise sts_errors.InvalidMeterPAN("a token of class 0 or 2 is verified for a meter")
        else:
            key = view.key(meter.holds.reference)
            item = VerifyItem(
                digits=number.digits,
                ea=meter.ea,
                tct=meter.carrier,
                tariff_index=meter.holds.tariff_index.digits,
                pan=meter.pan.digits,
            )
        asker = Asker(client=client, request_id=NOBODY.request_id)
        reference = key.reference if key is not None else None
        (verified,) = await self._catalogue.client.verify(reference, [item], [asker])
        if verified.reason is Reason.CRC_MISMATCH:
            return Verification(genuine=False)
        if verified.reason is not Reason.OK:
            raise ModuleRefusal(verified.reason)
        return _verification(view, key, verified)


def _verification(view: ModuleView, key: VendingKey | None, verified: Verified) -> Verification:
    is_timed = key is not None and not (verified.token_class == 2 and verified.subclass in KEY_CHANGE_SUBCLASSES)
    identifier = None
    if key is not None and is_timed:
        identifier = TokenIdentifier(minutes=verified.token_identifier, base_date=key.base_date)
    unit = unit_of(verified.token_class, verified.subclass)
    return Verification(
        genuine=True,
        token_class=verified.token_class,
        subclass=verified.subclass,
        identifier=identifier,
        key_change=verified.is_key_change,
        key_expired=verified.key_expired,
        value=verified.value,
        random_number=verified.random_number if is_timed and unit is not Unit.CURRENCY else None,
        unit=unit,
        origin=view.origin(key, verified.marks),
    )
