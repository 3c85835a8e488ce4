"""The ``keyloader`` command line: ceremonies, and EA07 tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hsm.ceremony_requests import InstallTablesItem
from hsm.errors import HsmError
from keyloader import ceremony_cli, keychange_cli, kmc_cli, module_access, tables_file
from keyloader.errors import KeyLoaderError
from keyloader.token_store import TokenStore

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Hold key ceremonies for the module's token."
)
tables_app = typer.Typer(no_args_is_help=True, help="EA07 tables from the STS Association.")
app.add_typer(tables_app, name="sta-tables")
app.add_typer(kmc_cli.app, name="kmc")
app.add_typer(keychange_cli.app, name="keychange")
app.command()(ceremony_cli.lint)
app.command()(ceremony_cli.rehearse)
app.command()(ceremony_cli.run)
app.command()(ceremony_cli.inventory)
app.command()(ceremony_cli.rollback)
app.command(name="print")(ceremony_cli.print_script)
app.command()(ceremony_cli.verify)
app.command()(ceremony_cli.papers)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

File = Annotated[Path, typer.Argument(help="JSON with name, substitution1, substitution2, permutation.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def _main() -> None:
    """Hold key ceremonies for the module's token."""


def _show(name: str, digest: str, *, installed: bool, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"name": name, "sha256": digest, "installed": installed}) + "\n")
        return
    console.print(f"EA07 tables {name}\n  SHA-256 {digest}\n  {'installed' if installed else 'valid, not installed'}")


def _fail(error: KeyLoaderError | HsmError) -> typer.Exit:
    errors.print(f"[bold]{error.reason}[/bold]: {error}\n  {error.hint}")
    return typer.Exit(1)


@tables_app.command()
def check(file: File, json: Json = False) -> None:
    """Check a table file, and show its digest; the tables themselves are never shown."""
    try:
        tables = tables_file.read(file)
    except KeyLoaderError as error:
        raise _fail(error) from None
    _show(tables.name, tables.digest.hex(), installed=False, as_json=json)


@tables_app.command()
def install(
    file: File,
    folder: Annotated[Path, typer.Option(help="Folder of the module's token store.")] = Path("/var/lib/keywatt/module"),
    ceremony_config: Annotated[
        Path, typer.Option(help="Configuration of the functionality module with mode = ceremony.")
    ] = Path("/etc/keywatt/ceremony.conf"),
    json: Json = False,
) -> None:
    """Install a table file into the token; run it as the module's system user, then restart the module process.

    Works on a copy of the token store and puts it in force only when everything went well.
    """
    try:
        tables = tables_file.read(file)
        pin = (folder / "pin").read_text("ascii").strip()
        with (
            TokenStore(folder).draft() as tokens,
            module_access.ceremony_on(tokens, ceremony_config, pin) as ceremony,
        ):
            ceremony.install_tables(InstallTablesItem(name=tables.name, tables=tables.octets))
    except (KeyLoaderError, HsmError) as error:
        raise _fail(error) from None
    except OSError as error:
        errors.print(f"[bold]{error.filename}[/bold]: {error.strerror}")
        raise typer.Exit(1) from None
    _show(tables.name, tables.digest.hex(), installed=True, as_json=json)


def main() -> None:
    """Entry point ``keyloader``."""
    app()


if __name__ == "__main__":
    main()
