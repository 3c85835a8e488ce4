"""What a customer gets: the tokens of one meter on A4, in the order of entry, with a QR code of each."""

from __future__ import annotations

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, Spacer, Table, TableStyle

from keyloader.keychange.shop import KeyChangeSet
from keyloader.paper import BIG, BODY, HEADING, TITLE, Pages, paragraph, qr, write

_ROWS = TableStyle([("GRID", (0, 0), (-1, -1), 0.4, colors.grey), ("VALIGN", (0, 0), (-1, -1), "MIDDLE")])
USUAL_TEXT = (
    "Your meter gets a new key. Enter the numbers below on its keypad, one after the other, in this order, each once. "
    "After the last one the meter accepts them. Until then use no other number. Credit that is on the meter stays."
)


def grouped(digits: str) -> str:
    """Return 20 digits as they are printed: in fours."""
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def print_slip(made: KeyChangeSet, text: str, path: Path) -> None:
    """Write the page; raises OSError. The file must not exist."""
    rows: list[list[Paragraph | Table | object]] = []
    for number, digits in enumerate(made.tokens, 1):
        rows.append([paragraph(f"{number}.", BIG), paragraph(grouped(digits), BIG), qr(digits, 22 * mm)])
    title = f"Key change, meter {made.change.meter_pan}"
    story: list[object] = [
        paragraph(title, TITLE),
        paragraph(text or USUAL_TEXT, BODY),
        Spacer(1, 6 * mm),
        Table(rows, colWidths=[14 * mm, 128 * mm, 32 * mm], style=_ROWS),
        paragraph("For the utility", HEADING),
        paragraph(
            f"New supply group {made.change.new_supply_group_code}, "
            f"key revision {made.change.new_key_revision_number}, tariff index {made.change.new_tariff_index}; "
            f"check value of the new key {made.new_key}; module {made.module}; request {made.request_id}"
        ),
    ]
    if made.rollover:
        story.append(paragraph("The meter forgets which tokens it has taken (rollover)."))
    if made.test_key:
        story.append(paragraph("TEST KEY: no meter in service takes these tokens."))
    write(path, story, Pages(title, made.request_id, is_rehearsal=False), title)
