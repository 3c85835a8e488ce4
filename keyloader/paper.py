"""What is printed, on A4: the script with a box for time and initials at each step, and the record of what was done."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segno
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from hsm.ssh_signatures import OfficerSignature
from keyloader.plan import PlanFile
from keyloader.proquints import spell
from keyloader.record import Record

_STYLES = getSampleStyleSheet()
_SMALL = ParagraphStyle("small", parent=_STYLES["BodyText"], fontSize=8, leading=10)
_MONO = ParagraphStyle("mono", parent=_SMALL, fontName="Courier")
BODY = ParagraphStyle("body", parent=_STYLES["BodyText"])
BIG = ParagraphStyle("big", parent=_STYLES["BodyText"], fontName="Courier-Bold", fontSize=15, leading=22)
TITLE = ParagraphStyle("title", parent=_STYLES["Title"])
HEADING = ParagraphStyle("heading", parent=_STYLES["Heading2"])
GRID = TableStyle(
    [
        ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
)
_FIXED_DIGITS = 8
_BY_HAND = 3 * mm


def paragraph(value: object, style: ParagraphStyle = _SMALL) -> Paragraph:
    """Return a paragraph; what people wrote is text and never markup."""
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # The fonts that every reader has are Latin-1.
    return Paragraph(escaped.encode("latin-1", "replace").decode("latin-1").replace("\n", "<br/>"), style)


def qr(text: str, size: float = 30 * mm) -> Image:
    """Return a QR code of a text."""
    octets = io.BytesIO()
    segno.make(text, micro=False, error="m").save(octets, kind="png", scale=6, border=2)
    octets.seek(0)
    return Image(octets, size, size)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[object]], widths: Sequence[float], *, by_hand: bool = False
) -> Table:
    cells = [[paragraph(one) for one in head]]
    cells += [[one if isinstance(one, Paragraph) else paragraph(one) for one in row] for row in rows]
    table = Table(cells, colWidths=[width * mm for width in widths], style=GRID, repeatRows=1)
    if by_hand:
        table.setStyle([("TOPPADDING", (0, 1), (-1, -1), _BY_HAND), ("BOTTOMPADDING", (0, 1), (-1, -1), _BY_HAND)])
    return table


def _digest_block(digest: bytes) -> Table:
    text = digest.hex()
    groups = " ".join(text[at : at + 4] for at in range(0, 64, 4))
    words = spell(digest)
    return Table(
        [[[paragraph("SHA-256 of the plan"), paragraph(groups, _MONO), paragraph(words, _MONO)], qr(text)]],
        colWidths=[140 * mm, 35 * mm],
    )


class Pages:
    """Head and foot of every page."""

    def __init__(self, title: str, digest: str, *, is_rehearsal: bool) -> None:
        self._title = title
        self._digest = digest
        self._is_rehearsal = is_rehearsal

    def __call__(self, canvas: Canvas, _: SimpleDocTemplate) -> None:
        """Draw them."""
        canvas.saveState()
        canvas.setFont("Helvetica", 8)
        canvas.drawString(18 * mm, 12 * mm, f"{self._title}   {self._digest[:16]}")
        canvas.drawRightString(192 * mm, 12 * mm, f"page {canvas.getPageNumber()}")
        if self._is_rehearsal:
            canvas.setFont("Helvetica-Bold", 60)
            canvas.setFillGray(0.88)
            canvas.translate(105 * mm, 150 * mm)
            canvas.rotate(45)
            canvas.drawCentredString(0, 0, "REHEARSAL")
        canvas.restoreState()


def write(path: Path, story: list[Any], pages: Pages, title: str) -> None:
    """Write A4 pages; raises OSError. The file must not exist."""
    octets = io.BytesIO()
    document = SimpleDocTemplate(
        octets,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=15 * mm,
        bottomMargin=20 * mm,
        title=title,
        author="keywatt keyloader",
        invariant=1,
    )
    document.build(story, onFirstPage=pages, onLaterPages=pages)
    with path.open("xb") as file:
        file.write(octets.getvalue())


def print_script(plan: PlanFile, actions: bytes, path: Path) -> None:
    """Write the script of a ceremony, for those who hold and watch it. Raises OSError; the file must not exist."""
    title = plan.plan.title
    story: list[Any] = [
        paragraph(title, TITLE),
        paragraph(f"Module {plan.plan.module}, {plan.plan.not_before} to {plan.plan.not_after}", BODY),
        _digest_block(plan.digest),
        paragraph("SHA-256 of all that the module may do, as it stands in what officers sign"),
        paragraph(f"actions {_grouped(actions.hex())}", _MONO),
        Spacer(1, 4 * mm),
        paragraph("Participants", HEADING),
        _table(
            ("name", "role", "signature"),
            [(one.name, one.role, "") for one in plan.plan.participants],
            (60, 30, 84),
            by_hand=True,
        ),
    ]
    if plan.plan.note:
        story += [paragraph("Note", HEADING), paragraph(plan.plan.note, BODY)]
    steps = [
        "The digest on the screen is compared with this page, aloud, and its last eight characters are typed.",
        "Officers approve: each compares plan and actions in the text to sign, and signs with a key of their own.",
        *plan.plan.ceremony.script(),
        "Every key proves its record; the record is sealed by the audit key; the new token store is put in force.",
        "The record is printed, read, and signed by all who are here.",
    ]
    rows = [(number, step, "", "") for number, step in enumerate(steps, 1)]
    story += [
        paragraph("Steps", HEADING),
        _table(("", "what is done", "time", "initials"), rows, (8, 116, 22, 28), by_hand=True),
    ]
    story += [
        paragraph("Deviations, with the number of the step", HEADING),
        Table([[""]], colWidths=[174 * mm], rowHeights=[45 * mm], style=[("BOX", (0, 0), (-1, -1), 0.4, colors.grey)]),
    ]
    write(path, story, Pages(title, plan.digest.hex(), is_rehearsal=False), title)


def print_record(record: Record, path: Path) -> None:
    """Write the record of a ceremony. Raises OSError; the file must not exist."""
    fields = record.fields
    is_rehearsal = bool(fields["rehearsal"])
    title = f"Record: {fields['title']}"
    module = fields.get("module", {})
    story: list[Any] = [
        paragraph(title, TITLE),
        paragraph(_outcome(fields), BODY),
        _digest_block(bytes.fromhex(fields["plan_sha256"])),
        _table(
            ("module", "token", "begun", "ended"),
            [(module.get("id", ""), module.get("token_serial", ""), fields["begun"], fields.get("ended", ""))],
            (44, 44, 43, 43),
        ),
        paragraph("Officers who approved", HEADING),
        _table(
            ("officer", "key", "time"),
            [
                (one["officer"], OfficerSignature.parse(one["signature"]).key.fingerprint, one["time"])
                for one in fields["approvals"]
            ],
            (40, 90, 44),
        ),
        *_acceptances(fields),
        paragraph("What was approved", HEADING),
        _table(
            ("what", "digest"), [(one["what"], paragraph(one["digest"], _MONO)) for one in fields["actions"]], (70, 104)
        ),
        paragraph("Steps", HEADING),
        _table(("time", "what", "seen"), [_step_row(step) for step in fields["steps"]], (32, 48, 94)),
        paragraph("Vending keys after, as read back from the token", HEADING),
        _table(("record",), [(paragraph(label, _MONO),) for label in fields.get("keys_after", [])], (174,)),
        paragraph("Participants", HEADING),
        _table(
            ("name", "role", "signature"),
            [(one["name"], one["role"], "") for one in fields["participants"]],
            (60, 30, 84),
            by_hand=True,
        ),
        KeepTogether(
            [
                paragraph("Seal of the module's audit key, over this record", HEADING),
                Table(
                    [
                        [
                            [
                                paragraph("SHA-256 of the record"),
                                paragraph(_grouped(record.digest.hex()), _MONO),
                                paragraph("audit key"),
                                paragraph(_grouped(record.audit_key.hex()) or "none", _MONO),
                                paragraph("signature"),
                                paragraph(_grouped(record.signature.hex()) or "none", _MONO),
                            ],
                            qr(record.digest.hex()),
                        ]
                    ],
                    colWidths=[140 * mm, 35 * mm],
                ),
            ]
        ),
    ]
    write(path, story, Pages(title, record.digest.hex(), is_rehearsal=is_rehearsal), title)


def _acceptances(fields: dict[str, Any]) -> list[Any]:
    """Return who has taken the module over, if it changed hands."""
    rows = [
        (one["officer"], OfficerSignature.parse(one["signature"]).key.fingerprint, one["time"])
        for one in fields.get("acceptances", ())
    ]
    return [paragraph("Taken over by", HEADING), _table(("officer", "key", "time"), rows, (40, 90, 44))] if rows else []


def _outcome(fields: dict[str, Any]) -> str:
    start = "REHEARSAL. " if fields["rehearsal"] else ""
    if fields["outcome"] == "done":
        before = fields["store_before"]
        if fields["store_after"] == before:
            return f"{start}Done: token store {before} stays in force."
        place = f"took the place of {before}" if before else "is the first"
        return f"{start}Done: token store {fields['store_after']} {place}."
    why = fields.get("refused_because", {})
    return f"{start}REFUSED: {why.get('reason', '')}, {why.get('what', '')}. The token store is as it was."


def _step_row(step: dict[str, Any]) -> tuple[str, str, str]:
    seen = "\n".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in step["facts"].items())
    return step["time"], step["what"], seen


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _grouped(text: str) -> str:
    return " ".join(re.findall(f".{{1,{_FIXED_DIGITS}}}", text))
