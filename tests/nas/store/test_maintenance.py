"""Upgrade, backup and check of a database that may be in use."""

import json
import sqlite3

import pytest
from doubles import FakeProxy, driver, new_study, settings
from sqlalchemy import text

from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StoreError
from nas.executors.inline import InlineExecutor
from nas.store.maintenance import backup_database, check_database, upgrade_database
from nas.store.session import open_store
from nas.store.tables import REVISION
from nas.store.upgrade import alembic_config
from nas.study.budget import parse_budget


@pytest.fixture
def finished(url, clock):
    study = new_study(url, settings(trials=3), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    study.close()
    return url


def test_current_database_needs_no_upgrade(finished):
    done = upgrade_database(finished)
    assert (done["before"], done["after"], done["backup"]) == (REVISION, REVISION, None)


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_database_of_an_earlier_version_is_upgraded_and_goes_on(url, clock, version):
    """Every other command says so instead of failing later; nothing of a study is lost."""
    from alembic import command

    study = new_study(url, settings(trials=3), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    study.store.write(lambda s: command.downgrade(alembic_config(s.connection()), version))
    # Such a driver numbered a trial after it had written its row; this one died in between.
    unnumbered = text("UPDATE nas_run SET trial_number = NULL WHERE proposal = 2")
    study.store.write(lambda s: s.execute(unnumbered))
    study.close()
    with pytest.raises(
        StoreError, match=f"schema {version}, this version needs {REVISION}; run `db"
    ):
        open_study("s", url)
    done = upgrade_database(url)
    assert (done["before"], done["after"]) == (version, REVISION)
    assert (done["backup"] is None) == url.startswith("postgresql")
    if done["backup"] is not None:
        with pytest.raises(StoreError, match=f"schema {version}"):
            open_store(f"sqlite:///{done['backup']}")
    study = open_study("s", url, clock=clock)
    assert run(study, InlineExecutor(FakeProxy()), trials=5).done == 5
    numbers = text("SELECT trial_number FROM nas_run ORDER BY proposal")
    assert study.store.read(lambda s: list(s.scalars(numbers))) == [0, 1, 2, 3, 4]
    study.close()


def test_settings_of_an_earlier_version_mean_the_same(url, clock):
    """Where a study ran leaves its settings; its bands and its seeds stay what they were."""
    from alembic import command

    study = new_study(
        url, settings(trials=1), clock=clock, device="cpu", backend="reference", timeout_s=9.0
    )
    stored = {
        "budget": ["0.1GFLOPs", "1-2.5Mparams"],
        "recipe": study.settings.recipe.to_dict(),
        "device": "cuda:1",
        "strategy": "tpe",
        "objectives": ["top1", "params"],
        "image_size": 96,
        "backend": "triton",
        "warm_start": "presets",
        "pruner": "asha",
        "timeout_s": 60.0,
        "trial_timeout_s": None,
        "space_source": "gone.yaml",
    }
    study.store.write(lambda s: command.downgrade(alembic_config(s.connection()), "0002"))
    with study.store.engine.begin() as connection:
        shown = connection.execute(text("SELECT settings FROM nas_study")).scalar()
        shown = json.loads(shown) if isinstance(shown, str) else shown
        assert (shown["budget"], shown["device"], shown["timeout_s"]) == (
            ["80-100MFLOPs"],
            "cpu",
            9.0,
        )
        assert shown.keys() == stored.keys()
        said = {"settings": json.dumps(stored)}
        connection.execute(text("UPDATE nas_study SET settings = :settings"), said)
    study.close()
    upgrade_database(url)
    study = open_study("s", url)
    made, place = study.settings, study.place
    bands = [(b.metric, b.lo, b.hi) for b in made.budget.bands]
    assert bands == [("flops", 0.95 * 1e8, 1e8), ("params", 1e6, 2.5e6)]
    assert made.budget == parse_budget(stored["budget"])
    assert (made.strategy, made.objectives, made.image_size) == ("tpe", ("top1", "params"), 96)
    assert (made.warm_start, made.pruner, made.space_source) == ("presets", "asha", "gone.yaml")
    assert made.recipe == study.settings.recipe and made.seeds == "per design"
    assert (place.device, place.backend, place.timeout_s) == ("cuda:1", "triton", 60.0)
    assert place.trial_timeout_s is None
    study.close()


def test_empty_and_newer_databases_are_not_upgraded(sqlite_url, tmp_path):
    sqlite3.connect(tmp_path / "nas.db").execute("CREATE TABLE t (x)").close()
    with pytest.raises(StoreError, match="nothing to upgrade"):
        upgrade_database(sqlite_url)
    open_store(sqlite_url, create=True).close()
    store = open_store(sqlite_url)
    store.write(lambda s: s.execute(text("UPDATE nas_alembic_version SET version_num = '9999'")))
    store.close()
    with pytest.raises(StoreError, match="schema 9999, newer"):
        upgrade_database(sqlite_url)


def test_backup_of_a_database_in_use_opens_by_itself(sqlite_url, tmp_path, clock):
    study = new_study(sqlite_url, settings(trials=3), clock=clock)
    work = driver(study)
    work.next()
    out = backup_database(sqlite_url, tmp_path / "copies" / "copy.db")
    copy = open_store(f"sqlite:///{out}")
    assert copy.read(lambda s: s.execute(text("SELECT count(*) FROM nas_run")).scalar()) == 1
    copy.close()
    with pytest.raises(StoreError, match="exists"):
        backup_database(sqlite_url, out)
    work.close()
    study.close()


def test_backup_of_postgres_names_pg_dump_without_the_password(postgres_url, tmp_path, clock):
    new_study(postgres_url, settings(), clock=clock).close()
    with pytest.raises(StoreError, match="pg_dump --format=custom"):
        backup_database(postgres_url, tmp_path / "x")


def test_healthy_database_has_no_findings(finished):
    assert check_database(finished) == []


def test_check_finds_loose_ends(url, clock):
    study = new_study(url, settings(trials=3), clock=clock)
    work = driver(study)
    work.next()
    task = work.next()
    work.release(task, "test")
    found = {f["problem"]: f["count"] for f in check_database(url, now=clock.now() + 1000)}
    assert found == {
        "trials of drivers that have gone silent": 1,
        "trials that wait for a driver": 1,
    }
    work.close()
    study.close()


def test_check_finds_a_damaged_file(tmp_path, clock):
    path = tmp_path / "nas.db"
    study = new_study(f"sqlite:///{path}", settings(trials=20), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    study.store.engine.dispose()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    data = bytearray(path.read_bytes())
    start = len(data) // 2 // 4096 * 4096
    data[start : start + 3 * 4096] = bytes(3 * 4096)
    path.write_bytes(bytes(data))
    try:
        found = check_database(f"sqlite:///{path}")
        assert any("damaged pages" in f["problem"] for f in found)
    except StoreError as error:
        assert "restore a backup" in str(error)
