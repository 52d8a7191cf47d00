"""Looking after a database: upgrade, backup, check."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, exc, func, inspect, select, text

from nas.errors import StoreError
from nas.store.now import Now, Time
from nas.store.session import (
    Store,
    check_file,
    make_engine,
    open_store,
    schema_version,
)
from nas.store.tables import REVISION, Architecture, Run, Study
from nas.store.troubles import store_error
from nas.store.urls import parse_url, without_password
from nas.study.attempts import ENDED, RUNNING, WAITING


def upgrade_database(storage: str) -> dict[str, Any]:
    """Bring our tables to the current schema; an SQLite file is copied beside itself first.

    Returns: before and after (versions), backup (path or None).
    Raises: StoreError for a database that is not ours, or of a newer ScanNAS.
    """
    from nas.store.upgrade import upgrade_on

    store = _open_any(storage)
    try:
        with store.engine.connect() as connection:
            before = schema_version(connection)
        if before is None:
            raise StoreError(f"{store.shown} holds no ScanNAS study; there is nothing to upgrade")
        if before > REVISION:
            raise StoreError(
                f"{store.shown} has schema {before}, newer than {REVISION}; upgrade ScanNAS"
            )
        backup = None
        if before != REVISION:
            if store.path is not None:
                backup = store.path.with_name(f"{store.path.name}.schema-{before}")
                _copy(store.path, backup)
            store.write(lambda session: upgrade_on(session.connection()))
        return {
            "storage": store.shown,
            "before": before,
            "after": REVISION,
            "backup": None if backup is None else str(backup),
        }
    except exc.DBAPIError as error:
        raise store_error(error, store.shown) from error
    finally:
        store.close()


def backup_database(storage: str, out: Path) -> Path:
    """Copy an SQLite database to `out` while it is in use; the copy is whole or absent.

    Raises: StoreError when `out` exists or cannot be written, and for PostgreSQL, which has
        pg_dump for it.
    """
    store = open_store(storage)
    try:
        if store.path is None:
            url = without_password(store.url.set(drivername="postgresql")).render_as_string()
            command = shlex.join(["pg_dump", "--format=custom", f"--file={out}", url])
            raise StoreError(f"PostgreSQL has its own tool for that: {command}")
        if out.exists():
            raise StoreError(f"{str(out)!r} exists; choose another name")
        _copy(store.path, out)
    finally:
        store.close()
    return out


def check_database(storage: str, *, now: float | None = None) -> list[dict[str, Any]]:
    """Look for damage and for loose ends; an empty list means that all is well.

    Returns: findings with the keys problem, count, remedy.
    Raises: StoreError when the database cannot be opened.
    """
    at = Now() if now is None else now
    store = open_store(storage)
    try:
        with store.engine.connect() as connection:
            return [f for f in (*_damage(connection), *_loose_ends(connection, at)) if f["count"]]
    except exc.DBAPIError as error:
        raise store_error(error, store.shown) from error
    finally:
        store.close()


def _open_any(storage: str) -> Store:
    """Open a database of any schema version."""
    url = parse_url(storage)
    store = Store(url, make_engine(url))
    if store.path is not None:
        check_file(store.path, create=False)
    return store


def _copy(source: Path, target: Path) -> None:
    """Copy with SQLite's own means, which see the write-ahead log and other programs' locks."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(target.parent).free
        if room < 2 * source.stat().st_size:
            raise StoreError(
                f"{str(target.parent)!r} has {room >> 20} MiB free, too little for a backup of "
                f"{source.stat().st_size >> 20} MiB; choose another disk"
            )
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
        part.replace(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {str(target)!r}: {error.strerror}; choose another place"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _damage(connection: Connection) -> list[dict[str, Any]]:
    findings = []
    if connection.dialect.name == "sqlite":
        said = connection.execute(text("PRAGMA integrity_check(5)")).scalars().all()
        broken = 0 if said == ["ok"] else len(said)
        findings.append(_finding(f"damaged pages: {'; '.join(said)[:200]}", broken, _RESTORE))
        dangling = connection.execute(text("PRAGMA foreign_key_check")).all()
        ours = [row for row in dangling if str(row[0]).startswith("nas_")]
        findings.append(_finding("rows that refer to missing rows", len(ours), _RESTORE))
    columns = {
        table: {c["name"] for c in inspect(connection).get_columns(table)}
        for table in (Run.__tablename__, Study.__tablename__, Architecture.__tablename__)
    }
    missing = [
        f"{model.__tablename__}.{column.name}"
        for model in (Run, Study, Architecture)
        for column in model.__table__.columns
        if column.name not in columns[model.__tablename__]
    ]
    findings.append(_finding(f"missing columns: {', '.join(missing)}", len(missing), _RESTORE))
    return findings


def _loose_ends(connection: Connection, now: Time) -> list[dict[str, Any]]:
    def count(*where: Any) -> int:
        query = select(func.count(Run.id)).where(Run.newest, *where)
        return int(connection.execute(query).scalar_one())

    silent = count(Run.state == RUNNING, Run.lease_expires < now)
    waiting = count(Run.state == WAITING)
    uncopied = count(~Run.told, Run.state.in_(ENDED))
    unknown = count(Run.state.not_in([*ENDED, RUNNING, WAITING]))
    unscored = count(Run.state == "complete", Run.score.is_(None))
    return [
        _finding("trials of drivers that have gone silent", silent, _RESUME),
        _finding("trials that wait for a driver", waiting, _RESUME),
        _finding("trials that Optuna's copy does not show yet", uncopied, _RESUME),
        _finding("runs of an unknown state", unknown, _RESTORE),
        _finding("complete runs without a score", unscored, _RESTORE),
    ]


_RESTORE = "restore a backup"
_RESUME = "`resume` the study"


def _finding(problem: str, count: int, remedy: str) -> dict[str, Any]:
    return {"problem": problem, "count": count, "remedy": remedy}
