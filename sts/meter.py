"""A virtual meter: takes 20 digits and does what a meter does (IEC 62055-41, clauses 7 and 8).

Order of acceptance: format, class, decryption, CRC, subclass, token identifier, field range, action, then the TID
is stored. Choices where public sources leave them to the meter: a token refused with OverflowError or RangeError
does not consume its identifier; an incomplete key-change set is forgotten after five minutes without a section.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sts import codec, errors, key_change, key_transition
from sts.ciphers.sta_tables import SAMPLE_TABLES, StaTables
from sts.credit import CreditSubClass, TransferCredit, TransferCurrencyCredit
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import (
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
    TokenCarrierType,
)
from sts.key_change import KeyChange, KeyChangeSection
from sts.management import (
    KEY_CHANGE_SUBCLASSES,
    ClearCredit,
    ClearTamperCondition,
    ExtendedSet,
    ManagementSubClass,
    ManagementToken,
    ProprietaryManagement,
    SetMaximumPhasePowerUnbalanceLimit,
    SetMaximumPowerLimit,
    SetTariffRate,
    SetWaterMeterFactor,
)
from sts.meter_memory import TokenMemory, Verdict
from sts.meter_registers import CreditRegisterOverflow, MeterRegisters
from sts.meter_test import InitiateMeterTest, control_bits
from sts.token_number import TokenNumber

KEY_CHANGE_TIMEOUT_SECONDS = 300.0


class Result(enum.Enum):
    """TokenResult, AuthenticationResult and ValidationResult, as a meter displays them."""

    ACCEPT = "Accept"
    FIRST_KCT = "1stKCT"
    SECOND_KCT = "2ndKCT"
    THIRD_KCT = "3rdKCT"
    FOURTH_KCT = "4thKCT"
    OVERFLOW_ERROR = "OverflowError"
    KEY_TYPE_ERROR = "KeyTypeError"
    FORMAT_ERROR = "FormatError"
    RANGE_ERROR = "RangeError"
    FUNCTION_ERROR = "FunctionError"
    OLD_ERROR = "OldError"
    USED_ERROR = "UsedError"
    KEY_EXPIRED_ERROR = "KeyExpiredError"
    DDTK_ERROR = "DDTKError"
    CRC_ERROR = "CRCError"
    MFR_CODE_ERROR = "MfrCodeError"


_SECTION_RESULT = {
    ManagementSubClass.SET_1ST_SECTION_DECODER_KEY: Result.FIRST_KCT,
    ManagementSubClass.SET_2ND_SECTION_DECODER_KEY: Result.SECOND_KCT,
    ManagementSubClass.SET_3RD_SECTION_DECODER_KEY: Result.THIRD_KCT,
    ManagementSubClass.SET_4TH_SECTION_DECODER_KEY: Result.FOURTH_KCT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterKey:
    """The decoder key register of a meter and its attributes; SGC is None where the meter was never told."""

    decoder_key: DecoderKey
    key_type: KeyType
    key_revision_number: KeyRevisionNumber
    key_expiry_number: KeyExpiryNumber
    tariff_index: TariffIndex
    supply_group_code: SupplyGroupCode | None = None


class VirtualMeter:
    """A meter with credit registers, token memory and one decoder key.

    Args:
        pan: the meter's own PAN, of which only the manufacturer code matters to class 1 tokens.
        key: the decoder key it was shipped or last changed to.
        carrier: its token carrier type.
        manufactured: TID of the date of manufacture; anything before is old.
        tables: the STA tables of an EA07 meter.
        clock: monotonic seconds, for the time-out of key-change sets.
    """

    def __init__(
        self,
        *,
        pan: MeterPAN,
        key: MeterKey,
        carrier: TokenCarrierType = TokenCarrierType.NUMERIC,
        manufactured: int = 0,
        tables: StaTables = SAMPLE_TABLES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pan = pan
        self.key = key
        self.registers = MeterRegisters()
        self.tests_run: list[InitiateMeterTest] = []
        self._carrier = carrier
        self._tables = tables
        self._clock = clock
        self._memory = TokenMemory(manufactured)
        self._sections: dict[int, KeyChangeSection] = {}
        self._last_section_at = 0.0

    def enter(self, text: str) -> Result:
        """Enter a token as a customer does, and return what the display shows."""
        try:
            number = TokenNumber.parse(text)
        except errors.StsError:
            return Result.FORMAT_ERROR
        try:
            frame = codec.decode_number(number, self.key.decoder_key, self._tables)
        except errors.ReservedTokenClass:
            return Result.FUNCTION_ERROR
        except errors.CRCMismatch:
            return Result.CRC_ERROR
        if frame.token_class == 1:
            return self._test(frame)
        if frame.token_class == 2 and frame.subclass in KEY_CHANGE_SUBCLASSES:
            return self._take_section(frame)
        if frame.token_class == 0 and frame.subclass >= len(CreditSubClass):
            return Result.FUNCTION_ERROR
        refusal = self._validate(frame)
        return refusal if refusal is not None else self._execute(frame)

    def _test(self, frame: Frame) -> Result:
        # The manufacturer code is authentication: it comes before the subclass is looked at.
        code = frame.content & ((1 << (44 - control_bits(frame.subclass))) - 1)
        own_code = int(self.pan.decoder_reference_number.manufacturer_code)
        if code not in (0, own_code):
            return Result.MFR_CODE_ERROR
        try:
            token = InitiateMeterTest.from_frame(frame)
        except errors.ReservedSubClass:
            return Result.FUNCTION_ERROR
        except errors.FieldOutOfRange:
            return Result.RANGE_ERROR
        self.tests_run.append(token)
        return Result.ACCEPT

    def _validate(self, frame: Frame) -> Result | None:
        token_identifier = frame.content >> 16 & 0xFFFFFF
        if self.key.key_expiry_number.is_expired_at(token_identifier):
            return Result.KEY_EXPIRED_ERROR
        verdict = self._memory.judge(token_identifier)
        if verdict is not Verdict.FRESH:
            return Result.USED_ERROR if verdict is Verdict.USED else Result.OLD_ERROR
        if frame.token_class == 0 and self.key.key_type is KeyType.DEFAULT:
            return Result.DDTK_ERROR
        return None

    def _execute(self, frame: Frame) -> Result:
        try:
            token = codec.decode_frame(frame, self.key.decoder_key.ea)
        except errors.FieldOutOfRange:
            return Result.RANGE_ERROR
        if isinstance(token, TransferCredit | TransferCurrencyCredit):
            try:
                self.registers.add(token.subclass, token.amount.units)
            except CreditRegisterOverflow:
                return Result.OVERFLOW_ERROR
        elif isinstance(token, ManagementToken):
            self._manage(token)
        self._memory.store(frame.content >> 16 & 0xFFFFFF)
        return Result.ACCEPT

    def _manage(self, token: ManagementToken) -> None:
        registers = self.registers
        match token:
            case SetMaximumPowerLimit():
                registers.maximum_power_limit_watts = token.limit.units
            case SetMaximumPhasePowerUnbalanceLimit():
                registers.maximum_phase_unbalance_watts = token.limit.units
            case ClearCredit():
                registers.clear(token.register)
            case ClearTamperCondition():
                registers.clear_tamper()
            case SetTariffRate():
                registers.tariff_rate = token.rate
            case SetWaterMeterFactor():
                registers.water_meter_factor = token.factor
            case ExtendedSet():
                registers.extended[token.index] = token.data
            case ProprietaryManagement():
                registers.proprietary[token.subclass] = token.data

    def _take_section(self, frame: Frame) -> Result:
        now = self._clock()
        if now - self._last_section_at > KEY_CHANGE_TIMEOUT_SECONDS:
            self._sections.clear()
        ea = self.key.decoder_key.ea
        try:
            section = key_change.decode_section(frame, ea)
        except errors.ReservedSubClass:
            return Result.FUNCTION_ERROR
        except errors.StsError:
            return Result.RANGE_ERROR
        self._sections[frame.subclass] = section
        self._last_section_at = now
        try:
            change = KeyChange.assemble(tuple(self._sections.values()), ea)
        except errors.StsError:
            self._sections.clear()
            return Result.RANGE_ERROR
        if change is None:
            return _SECTION_RESULT[ManagementSubClass(frame.subclass)]
        self._sections.clear()
        return self._change_key(change)

    def _change_key(self, change: KeyChange) -> Result:
        try:
            key_transition.require_transition(self.key.key_type, change.key_type, self._carrier)
        except errors.KeyTypeTransition:
            return Result.KEY_TYPE_ERROR
        if change.rollover:
            self._memory.clear()
        self.key = replace(
            self.key,
            decoder_key=change.decoder_key,
            key_type=change.key_type,
            key_revision_number=change.key_revision_number,
            key_expiry_number=change.key_expiry_number,
            tariff_index=change.tariff_index,
            supply_group_code=change.supply_group_code or self.key.supply_group_code,
        )
        return Result.ACCEPT
