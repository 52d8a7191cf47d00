"""Opening the database, and transactions that outlast a busy file or a restarted server.

SQLite: write-ahead log, so that readers never block the writer; BEGIN IMMEDIATE for writing, so
that a transaction waits for the lock at its start and never fails half-way for want of it.
PostgreSQL: a small pool that tests connections before use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Engine,
    bindparam,
    create_engine,
    event,
    exc,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from nas.errors import StoreError
from nas.store.mounts import mount_of
from nas.store.tables import REVISION, VERSION_TABLE, Base, Study
from nas.store.troubles import goes_down, is_passing, store_error
from nas.store.urls import DEFAULT_STORAGE, parse_url, shown

T = TypeVar("T")

# Longer than the longest that a backup or another program is expected to hold the file.
BUSY_TIMEOUT_S = 60.0
# How long a transaction is tried again while the server is away.
PATIENCE_S = 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_SQLITE_MAGIC = b"SQLite format 3\x00"
_WRITING, _DURABLE = "scannas_writing", "scannas_durable"
# Any numbers, the same in every driver.
_CREATION_LOCK, _COPY_LOCK = 0x5CA77A5, 0x5CA77A6


class NoStore(StoreError):
    """There is no database of ours yet where one was to be read."""


class Store:
    """An open database of the current schema.

    shown: its URL without the password. path: of the SQLite file, None elsewhere.
    """

    def __init__(self, url: URL, engine: Engine, patience_s: float = PATIENCE_S) -> None:
        self.url, self.engine, self.patience_s = url, engine, patience_s
        self.shown = shown(url)
        self.path = _sqlite_path(url) if url.get_backend_name() == "sqlite" else None
        # SQLite's readers see one state anyway; PostgreSQL's would see each statement's own.
        level = {} if self.path is not None else {"isolation_level": "REPEATABLE READ"}
        self._reading = engine.execution_options(**level)
        self._writing = {
            durable: engine.execution_options(**{_WRITING: True, _DURABLE: durable})
            for durable in (False, True)
        }

    def write(self, action: Callable[[Session], T], *, durable: bool = False) -> T:
        """Run `action` in a transaction that holds the write lock, and commit.

        durable: do not return before the disk has it and all that was written before. Other
        writes survive a killed process, but the last of them may not survive a power cut.
        `action` runs again from the start after a lost connection or a held lock. The commit
        before may have gone through unseen, so it must recognize its own work.
        Raises: StoreError when the database cannot be reached or written for `patience_s`.
        """
        return self.outlast(lambda: self._transact(action, durable))

    def read(self, action: Callable[[Session], T]) -> T:
        """Run `action` on a consistent view that takes no lock."""
        return self.outlast(lambda: self._look(action))

    @contextmanager
    def alone(self, study_id: int, wait_s: float) -> Iterator[bool]:
        """Hold a lock on a study that one process has at a time, and that dies with it.

        Writing by others goes on. Yields whether the lock was to be had within `wait_s`.
        """
        give_up = time.monotonic() + wait_s
        with ExitStack() as held:
            take = self._lock(study_id, held)
            while not (taken := take()) and time.monotonic() < give_up:
                time.sleep(_LONGEST_PAUSE_S * random.uniform(0.05, 0.1))
            yield taken

    def _lock(self, study_id: int, held: ExitStack) -> Callable[[], bool]:
        if self.path is None:
            session = held.enter_context(Session(self.engine))
            lock = select(func.pg_try_advisory_xact_lock(_COPY_LOCK, study_id))
            return lambda: bool(session.scalar(lock))
        folder = os.open(self.path.parent, os.O_RDONLY)  # a file would be left behind
        held.callback(os.close, folder)
        return lambda: _flock(folder)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _transact(self, action: Callable[[Session], T], durable: bool) -> T:
        bind = self._writing[durable]
        with Session(bind, expire_on_commit=False) as session, session.begin():
            session.connection()  # takes the lock now, before anything is read
            return action(session)

    def _look(self, action: Callable[[Session], T]) -> T:
        with Session(self._reading, expire_on_commit=False) as session:
            return action(session)

    def outlast(
        self,
        attempt: Callable[[], T],
        wrapped: type[Exception] = exc.DBAPIError,
        passing: Callable[[exc.DBAPIError], bool] | None = None,
    ) -> T:
        """Call `attempt` until it meets no passing trouble of the database.

        wrapped: the exception in which another library hides such trouble as the cause.
        passing: says which trouble is; what may be over a moment later by default.
        Raises: StoreError for lasting trouble, or after `patience_s`.
        """
        give_up, pause = time.monotonic() + self.patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except (exc.DBAPIError, wrapped) as error:
                trouble = error if isinstance(error, exc.DBAPIError) else error.__cause__
                if not isinstance(trouble, exc.DBAPIError):
                    raise
                if isinstance(trouble, exc.IntegrityError):
                    raise  # no trouble of the database, but an answer
                if not (passing or is_passing)(trouble) or time.monotonic() > give_up:
                    raise store_error(trouble, self.shown) from error
            # Spread out, so that many drivers do not come back at the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def open_store(url: str = DEFAULT_STORAGE, *, create: bool = False) -> Store:
    """Open a database of the current schema.

    create: make it, and our tables in it, where they do not exist.
    Raises: StoreError for a URL that is none, a file that is missing, is no database, cannot be
        written or lies on a network mount, a server that refuses, or another schema version.
    """
    parsed = parse_url(url)
    engine = make_engine(parsed)
    store = Store(parsed, engine)
    try:
        if store.path is not None:
            check_file(store.path, create)

        def look() -> str | None:
            with engine.connect() as connection:
                return schema_version(connection)

        found = store.outlast(look, passing=goes_down)
        if found is None and create:
            create_schema(store)
        elif found is None:
            raise NoStore(f"{store.shown} holds no ScanNAS study yet; make one with `search`")
        elif found != REVISION:
            raise StoreError(_other_schema(store.shown, found))
    except exc.DBAPIError as error:
        raise store_error(error, store.shown) from error
    except BaseException:
        store.close()
        raise
    return store


def make_engine(url: URL) -> Engine:
    """Return an engine with the settings that all our connections share.

    Raises: StoreError where the driver is not installed.
    """
    try:
        engine = create_engine(url, **engine_options(url))
    except ModuleNotFoundError as error:
        lacks = f"storage {shown(url)!r} needs the package {error.name}"
        raise StoreError(f"{lacks}; pip install 'scannas[postgres]'") from None
    prepare(engine)
    return engine


def engine_options(url: URL) -> dict[str, Any]:
    """Return the arguments of create_engine for `url`."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {
        # Two for a driver at work: its loop's, and that of whoever renews leases beside it.
        "pool_size": 2,
        "max_overflow": 0,
        "pool_timeout": 2 * PATIENCE_S,
        "connect_args": {"connect_timeout": 10, "application_name": "scannas"},
    }


def prepare(engine: Engine, *, always_writing: bool = False) -> None:
    """Make an SQLite engine begin transactions itself, and turn the write-ahead log on.

    always_writing: take the write lock at every BEGIN, for engines whose owner does not say.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver shall not begin on its own
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        options = connection.get_execution_options()
        if not (always_writing or options.get(_WRITING)):
            connection.exec_driver_sql("BEGIN")
            return
        # With FULL the log is flushed at the commit, earlier transactions included.
        level = "FULL" if options.get(_DURABLE) else "NORMAL"
        if connection.info.get(_DURABLE) != level:  # what this connection was told last
            connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
            connection.info[_DURABLE] = level
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def schema_version(connection: Any) -> str | None:
    """Return the version of our tables in a database, None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(
        text(f"SELECT version_num FROM {VERSION_TABLE}")
    ).scalar()
    return version


def create_schema(store: Store) -> None:
    """Make our tables; of several drivers that start at once, one does it and the others wait."""
    from nas.store.upgrade import upgrade_on

    if store.path is not None:
        # Only possible outside of a transaction; the mode stays with the file.
        raw = store.engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()

    def make(session: Session) -> None:
        connection = session.connection()
        if store.path is None:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"))
        if schema_version(connection) is None:
            upgrade_on(connection)

    store.write(make)


# SQLite ignores FOR UPDATE and needs it not: the transaction has the only write lock.
_LOCKED = (
    select(Study.trials, Study.space_name, Study.space_version, Study.space_fingerprint)
    .where(Study.id == bindparam("study"))
    .with_for_update()
)


def lock_study(session: Session, study_id: int) -> Any:
    """Lock a study's row until the transaction ends: proposals come one by one.

    Returns its trials, space_name, space_version and space_fingerprint.
    """
    return session.execute(_LOCKED, {"study": study_id}).one()


# By dialect, an INSERT that may say what to do where a row with the same key exists.
INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def insert_if_new(session: Session, table: type[Base], key: Any, **values: Any) -> Any:
    """Insert a row and return its key; None where one exists, even if it came a moment ago."""
    insert = INSERTS[session.get_bind().dialect.name](table).values(**values)
    return session.scalar(insert.on_conflict_do_nothing().returning(key))


@contextmanager
def opened(url: str, *, create: bool = False) -> Iterator[Store]:
    """Open a store for the length of a block."""
    store = open_store(url, create=create)
    try:
        yield store
    finally:
        store.close()


# --- files and errors --------------------------------------------------------------------------


def _sqlite_path(url: URL) -> Path:
    return Path(url.database or "").absolute()


def check_file(path: Path, create: bool) -> None:
    """Refuse what SQLite would misread, hang on, or silently make anew."""
    if not path.exists():
        if not create:
            raise NoStore(f"no database at {str(path)!r}; `search` makes one, or give --storage")
        _make_folder(path.parent)
    elif path.is_dir():
        raise StoreError(f"storage {str(path)!r} is a folder; name a file in it, e.g. nas.db")
    elif path.stat().st_size and _head(path) != _SQLITE_MAGIC:
        raise StoreError(f"{str(path)!r} is not an SQLite database; give another --storage")
    mount = mount_of(path)
    if mount.is_network:
        raise StoreError(
            f"{str(path)!r} lies on the network mount {mount.point!r} ({mount.type}), where SQLite "
            "loses data; put it on a local disk, or use postgresql+psycopg://"
        )
    if create and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise StoreError(f"cannot write {str(path)!r}: permission denied; give another --storage")


def _flock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise StoreError(
            f"cannot make the folder {str(folder)!r} for the database: {reason}; "
            "give another --storage"
        ) from None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error.strerror}; see --storage") from None


def _other_schema(shown: str, found: str) -> str:
    remedy = (
        "run `db upgrade`" if found < REVISION else "it was made by a newer ScanNAS; upgrade it"
    )
    return f"{shown} has schema {found}, this version needs {REVISION}; {remedy}"
