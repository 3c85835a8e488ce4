"""Writes docs/man from the commands themselves; with --check, says if it is to date."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from appliance.client.cli import app as keywatt
from keyloader.cli import app as keyloader

TARGET = Path(__file__).resolve().parents[1] / "docs" / "man"
APPS = {"keyloader": keyloader, "keywatt": keywatt}
EXIT = {
    "keyloader": (
        ("0", "done"),
        ("1", "refused or failed; the token store is as it was"),
        ("2", "a file or an argument is wrong"),
        ("3", "stopped by those present"),
        ("4", "a record that is not proven"),
        ("5", "a campaign in which meters were refused"),
    ),
    "keywatt": (
        ("0", "done"),
        ("1", "refused, or no answer"),
        ("2", "an argument is wrong"),
        ("3", "the token is not genuine, or not known"),
        ("4", "a genuine token that is in no log: key or module are misused"),
    ),
}
HIDDEN = frozenset({"install_completion", "show_completion", "help"})


def escape(text: str) -> str:
    """Return text that roff takes as it is."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\n.", "\n\\&.")


def parameters(command: Any) -> list[str]:
    """Return what a command takes."""
    lines = []
    for one in command.params:
        if one.name in HIDDEN:
            continue
        metavar = escape(str(one.metavar or one.name).upper())
        if one.param_type_name == "argument":
            lines += [".TP", f"\\fI{metavar}\\fR", escape(one.help or "")]
            continue
        value = "" if one.is_flag else f" \\fI{metavar}\\fR"
        lines += [".TP", f"\\fB{escape(', '.join(one.opts))}\\fR{value}", escape(one.help or "")]
    return lines


def section(name: str, command: Any) -> list[str]:
    """Return a command, and those below it."""
    lines = [f".SS {escape(name)}", escape((command.help or "").strip())]
    if hasattr(command, "commands"):
        for child in command.commands.values():
            lines += section(f"{name} {child.name}", child)
        return lines
    return lines + parameters(command)


def render(name: str) -> str:
    """Return a page."""
    command: Any = typer.main.get_command(APPS[name])
    summary = (command.help or "").strip().split("\n")[0].rstrip(".")
    lines = [
        f'.TH {name.upper()} 1 "" "Keywatt" "Keywatt"',
        ".SH NAME",
        f"{name} \\- {escape(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        f"\\fB{name}\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]",
        ".SH COMMANDS",
    ]
    for child in command.commands.values():
        lines += section(str(child.name), child)
    lines += [".SH COMPLETION", f"\\fB{name} \\-\\-install\\-completion\\fR sets up the shell that it is called from."]
    lines += [".SH EXIT STATUS"]
    for status, what in EXIT[name]:
        lines += [".TP", status, escape(what)]
    return "\n".join(line for line in lines if line) + "\n"


def main() -> int:
    """Write the pages, or with --check say whether they are to date."""
    pages = {TARGET / f"{name}.1": render(name) for name in APPS}
    if "--check" in sys.argv[1:]:
        return 0 if all(path.exists() and path.read_text("utf-8") == text for path, text in pages.items()) else 1
    TARGET.mkdir(exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
