"""The demonstration: real tokens from the running appliance, entered into virtual meters.

    python demo/demo.py --state STATE

Talks to the appliance as any vending platform does. The virtual meters derive their keys themselves from the public
test keys, as a meter factory would; they never ask the module.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keywatt.keys.v1 import keys_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, ClientProfile, KeywattClient
from sts import derivation
from sts.credit import CreditSubClass
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
)
from sts.meter import MeterKey, Result, VirtualMeter
from sts.token_identifier import BaseDate
from sts.token_number import TokenNumber

PUBLIC_TEST_KEY = bytes.fromhex("ABABABABABABABAB949494949494949401234567")
SGC = "201457"
METER_NUMBERS = {EncryptionAlgorithm.MISTY1: "00000000000", EncryptionAlgorithm.STA: "11111111115"}


def say(text: str = "") -> None:
    """Print at once: a person watches."""
    print(text, flush=True)


def make_meter(ea: EncryptionAlgorithm) -> VirtualMeter:
    """Make a meter as its factory does: with a decoder key for its group, tariff and number."""
    context = derivation.KeyContext(
        pan=MeterPAN.parse(METER_NUMBERS[ea]),
        supply_group_code=SupplyGroupCode(digits=SGC),
        tariff_index=TariffIndex(digits="01"),
        key_revision_number=KeyRevisionNumber(number=1),
        key_type=KeyType.UNIQUE,
        base_date=BaseDate.BDT_2014,
        ea=ea,
        dkga=DecoderKeyGenerationAlgorithm.DKGA04,
    )
    key = MeterKey(
        decoder_key=derivation.derive(PUBLIC_TEST_KEY, context),
        key_type=context.key_type,
        key_revision_number=context.key_revision_number,
        key_expiry_number=KeyExpiryNumber(number=255),
        tariff_index=context.tariff_index,
        supply_group_code=context.supply_group_code,
    )
    return VirtualMeter(pan=context.pan, key=key)


def configuration(meter: VirtualMeter) -> meter_pb2.MeterConfiguration:
    """Describe the meter as a vending platform's records do."""
    return meter_pb2.MeterConfiguration(
        meter_pan=meter.pan.digits,
        supply_group_code=SGC,
        key_revision_number=meter.key.key_revision_number.number,
        tariff_index=meter.key.tariff_index.digits,
        encryption_algorithm=meter_pb2.EncryptionAlgorithm.ValueType(meter.key.decoder_key.ea),
    )


def enter(meter: VirtualMeter, digits: str, expected: Result) -> None:
    """Type a token into the meter, show what it displays, and stop if that is not what it must be."""
    shown = meter.enter(digits)
    say(f"    {TokenNumber(digits=digits).grouped}   the meter shows: {shown.value}")
    if shown is not expected:
        raise SystemExit(f"the meter should have shown {expected.value}: the demonstration failed")


def order(meter: VirtualMeter, amount: str) -> vending_pb2.IssueCreditTokenRequest:
    """Order electricity, under a new request id."""
    return vending_pb2.IssueCreditTokenRequest(
        meter=configuration(meter),
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
        amount=amount,
        request_id=request_ids.new(),
    )


def buy(client: KeywattClient, meter: VirtualMeter, amount: str) -> str:
    """Buy electricity."""
    return client.issue(client.vending.IssueCreditToken, order(meter, amount)).token.digits


def register(meter: VirtualMeter) -> str:
    """Show the credit register."""
    tenths = meter.registers.credit(CreditSubClass.ELECTRICITY)
    connected = "on" if meter.registers.is_connected(CreditSubClass.ELECTRICITY) else "off"
    return f"    credit {tenths / 10:.1f} kWh, supply {connected}"


def credit(client: KeywattClient, meter: VirtualMeter, name: str) -> None:
    """Sell 25.6 kWh, enter it twice."""
    say(f"\n{name}, meter {meter.pan.decoder_reference_number.digits}: a sale of 25.6 kWh")
    request = order(meter, "25.6")
    token = client.issue(client.vending.IssueCreditToken, request).token.digits
    enter(meter, token, Result.ACCEPT)
    say(register(meter))
    say("  the same token again:")
    enter(meter, token, Result.USED_ERROR)
    say(register(meter))


def repeat(client: KeywattClient, meter: VirtualMeter) -> None:
    """Ask for one sale three times, as a platform does that never saw the answer."""
    say("\nThe answer of a sale of 5 kWh is lost on the way, so the platform repeats the request, twice:")
    request = order(meter, "5")
    answers = [client.issue(client.vending.IssueCreditToken, request) for _ in range(3)]
    for answer in answers:
        say(f"    request {request.request_id}: {answer.token.grouped}")
    if any(answer != answers[0] for answer in answers):
        raise SystemExit("the answers should have been the same: the demonstration failed")
    enter(meter, answers[0].token.digits, Result.ACCEPT)
    say(register(meter))


def change_key(client: KeywattClient, meter: VirtualMeter) -> None:
    """Move a meter to tariff 02 by a key-change set, then sell under the new key."""
    say("\nThe first meter changes to tariff 02, and so to a new key: a set of four tokens, entered out of order")
    old_token = buy(client, meter, "1")
    target = meter_pb2.KeyAssignment(supply_group_code=SGC, key_revision_number=1, tariff_index="02")
    request = vending_pb2.IssueKeyChangeTokensRequest(meter=configuration(meter), target=target)
    tokens = [token.digits for token in client.issue(client.vending.IssueKeyChangeTokens, request).tokens]
    steps = ((2, Result.THIRD_KCT), (0, Result.FIRST_KCT), (3, Result.FOURTH_KCT), (1, Result.ACCEPT))
    for position, expected in steps:
        enter(meter, tokens[position], expected)
    say(f"    the meter now has tariff {meter.key.tariff_index.digits} and its new key")
    say("  a token made under the old key:")
    enter(meter, old_token, Result.CRC_ERROR)
    say("  a sale of 10 kWh under the new key:")
    enter(meter, buy(client, meter, "10"), Result.ACCEPT)
    say(register(meter))


def show_refusal(client: KeywattClient, meter: VirtualMeter) -> None:
    """Show that a mistyped meter number is refused, and how."""
    say("\nA meter number with a wrong digit:")
    wrong = configuration(meter)
    wrong.meter_pan = "12345678904"
    request = vending_pb2.IssueCreditTokenRequest(
        meter=wrong, credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY, amount="25.6"
    )
    try:
        client.issue(client.vending.IssueCreditToken, request)
    except ClientError as error:
        say(f"    refused, {error.reason}: {error.hint}")
    else:
        raise SystemExit("the number should have been refused: the demonstration failed")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Show real tokens in virtual meters.")
    parser.add_argument("--state", type=Path, required=True)
    arguments = parser.parse_args()
    with KeywattClient(ClientProfile.read(arguments.state / "client" / "client.toml")) as client:
        status = client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
        say(f"Module {status.module_id}: {status.keys} vending keys (public test keys), self-test passed,")
        say(f"  built from sources {status.build_digest[:16]}…, EA07 tables: {status.tables_name}")
        if status.single_user:
            say("  without root: appliance and module process run as the same user")
        else:
            say("  appliance and module process run as two system users; the keys are with the second")
        first, second = make_meter(EncryptionAlgorithm.MISTY1), make_meter(EncryptionAlgorithm.STA)
        credit(client, first, "EA11 (MISTY1)")
        credit(client, second, "EA07 (STA, sample tables)")
        repeat(client, second)
        change_key(client, first)
        show_refusal(client, first)
    say("\nEvery token above was made inside the module; no key ever left it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
