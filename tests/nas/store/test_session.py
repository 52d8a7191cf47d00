"""Opening databases: what works, and what each mistake says."""

import hashlib
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import text

from nas.errors import StoreError
from nas.store import mounts
from nas.store.session import insert_if_new, open_store
from nas.store.tables import REVISION, Environment


def test_create_then_open_keeps_the_schema(url):
    open_store(url, create=True).close()
    store = open_store(url)
    names = store.read(lambda s: s.execute(text("SELECT count(*) FROM nas_run")).scalar())
    store.close()
    assert names == 0


def test_sqlite_uses_the_write_ahead_log(sqlite_url):
    store = open_store(sqlite_url, create=True)
    assert store.read(lambda s: s.execute(text("PRAGMA journal_mode")).scalar()) == "wal"
    assert store.read(lambda s: s.execute(text("PRAGMA foreign_keys")).scalar()) == 1
    store.close()


def test_opening_for_reading_makes_nothing(tmp_path):
    with pytest.raises(StoreError, match=r"no database at .*none\.db"):
        open_store(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_database_is_named_and_untouched(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes\n" * 100)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    for create in (False, True):
        with pytest.raises(StoreError, match=r"notes\.db.* is not an SQLite database"):
            open_store(f"sqlite:///{path}", create=create)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [p.name for p in tmp_path.iterdir()] == ["notes.db"]


def test_database_of_another_program_is_not_ours(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="holds no ScanNAS study"):
        open_store(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("found", "says"), [("0000", "db upgrade"), ("9999", "newer ScanNAS")], ids=["older", "newer"]
)
def test_other_schema_is_refused_with_the_remedy(url, found, says):
    store = open_store(url, create=True)
    store.write(
        lambda s: s.execute(text(f"UPDATE nas_alembic_version SET version_num = '{found}'"))
    )
    store.close()
    for create in (False, True):
        with pytest.raises(StoreError, match=f"schema {found}.*needs {REVISION}.*{says}"):
            open_store(url, create=create)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nas.db", "no database URL"),
        ("mongodb://host/x", "mongodb is not supported"),
        ("sqlite://", "memory only"),
        ("sqlite:///:memory:", "memory only"),
        ("postgresql://user:hush@127.0.0.1:1/x", "127.0.0.1"),
    ],
)
def test_bad_url_is_one_line_with_a_remedy(bad, says):
    with pytest.raises(StoreError, match=says) as caught:
        open_store(bad, create=True)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        open_store(f"sqlite:///{tmp_path}", create=True)


def test_missing_driver_names_the_extra(monkeypatch):
    from nas.store import session

    def missing(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(session, "create_engine", missing)
    with pytest.raises(StoreError, match=r"psycopg; pip install 'scannas\[postgres\]'"):
        open_store("postgresql://user@host/x")


class Part(NamedTuple):
    mountpoint: str
    fstype: str


MOUNTS = [
    Part("/", "ext4"),
    Part("/home", "nfs4"),
    Part("/home/me/scratch", "xfs"),
    Part("/mnt/my cloud", "fuse.sshfs"),
    Part("/lustre", "tmpfs"),
    Part("/lustre", "lustre"),
    Part("/Volumes/share", "smbfs"),
    Part("/Volumes/disk", "apfs"),
]


@pytest.mark.parametrize(
    ("path", "type_", "network"),
    [
        ("/data/nas.db", "ext4", False),
        ("/home/me/nas.db", "nfs4", True),
        ("/home/me/scratch/nas.db", "xfs", False),
        ("/homes/nas.db", "ext4", False),
        ("/mnt/my cloud/nas.db", "fuse.sshfs", True),
        ("/lustre/nas.db", "lustre", True),
        ("/Volumes/share/nas.db", "smbfs", True),
        ("/Volumes/disk/nas.db", "apfs", False),
    ],
)
def test_mount_of_a_path_is_the_innermost(monkeypatch, path, type_, network):
    monkeypatch.setattr(mounts.psutil, "disk_partitions", lambda all: MOUNTS)
    mount = mounts.mount_of(Path(path))
    assert (mount.type, mount.is_network) == (type_, network)


def test_mount_of_this_machine_is_found(tmp_path):
    assert mounts.mount_of(Path("/proc/self/stat")).type == "proc"
    assert mounts.mount_of(tmp_path / "not" / "yet").point in ("/", *map(str, tmp_path.parents))


def test_sqlite_on_a_network_mount_is_refused_with_its_name(tmp_path, monkeypatch):
    mounted = Part(str(tmp_path), "nfs4")
    monkeypatch.setattr(mounts.psutil, "disk_partitions", lambda all: [mounted])
    with pytest.raises(StoreError, match=rf"network mount '{tmp_path}' \(nfs4\).*postgresql"):
        open_store(f"sqlite:///{tmp_path}/nas.db", create=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only(tmp_path):
    """A folder that nobody may write to, not even root: mounted so."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        if os.geteuid() == 0:
            pytest.skip(f"root may not mount here: {done.stderr.strip()}")
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_unwritable_folder_is_refused(read_only):
    for path in (read_only / "nas.db", read_only / "new" / "nas.db"):
        with pytest.raises(StoreError, match=r"cannot (write|make the folder).*--storage"):
            open_store(f"sqlite:///{path}", create=True)


def test_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "notes").write_text("")
    with pytest.raises(StoreError, match="cannot make the folder"):
        open_store(f"sqlite:///{tmp_path}/notes/runs/nas.db", create=True)


def test_reader_sees_one_state_of_the_database(url):
    """Also where somebody else writes between two of its questions."""
    store = open_store(url, create=True)

    def look(session):
        count = text("SELECT count(*) FROM nas_environment")
        before = session.scalar(count)
        store.write(lambda s: insert_if_new(s, Environment, Environment.id, **row))
        return before, session.scalar(count)

    row = {"id": "e", "facts": {}, "created_at": 0.0}
    assert store.read(look) == (0, 0)
    assert store.read(look) == (1, 1)
    store.close()


def test_held_lock_is_waited_for(sqlite_url, tmp_path):
    """A transaction that finds the file locked begins later; nothing fails."""
    import threading

    store = open_store(sqlite_url, create=True)
    holder = sqlite3.connect(tmp_path / "nas.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(1.0, lambda: holder.execute("COMMIT")).start()
    store.write(lambda s: None)
    assert not holder.in_transaction
    holder.close()
    store.close()
