"""Commands that look after a database and the studies in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import DEFAULT_STORAGE, LOOK_ROOM, JsonOption, StorageOption

app = typer.Typer()
db = typer.Typer(help="Look after a database and the studies in it.", no_args_is_help=True)
app.add_typer(db, name="db", rich_help_panel=LOOK_ROOM)


@db.command()
def check(storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """Look for damage and loose ends, each with its remedy."""
    from nas.report.console import emit
    from nas.report.studies import findings_table
    from nas.store.maintenance import check_database

    emit(check_database(storage), json, findings_table)


@db.command()
def backup(out: Path, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Copy an SQLite database while it is in use."""
    from nas.store.maintenance import backup_database

    print(f"wrote {backup_database(storage, out)}")


@db.command()
def upgrade(storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Bring a database of an older version to this one; SQLite is copied first."""
    from nas.store.maintenance import upgrade_database

    done = upgrade_database(storage)
    kept = f"; the former file is {done['backup']}" if done["backup"] else ""
    print(f"schema {done['before']} -> {done['after']}{kept}")


@db.command()
def rename(study: str, name: str, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Give a study another name; everything else of it stays."""
    from nas.driver.keeping import rename_study

    rename_study(study, name, storage)
    print(f"{study} is now {name}")


@db.command()
def delete(
    study: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Delete a study after saying what goes; exported files stay."""
    from nas.driver.keeping import contents, delete_study
    from nas.report.console import say
    from nas.report.studies import contents_lines

    for line in contents_lines(contents(study, storage)):
        say(line)
    if not yes:
        typer.confirm("delete it?", abort=True)
    delete_study(study, storage)
    print(f"deleted {study}")
