"""R12: bounded disk, and a full one stops nothing for good."""

import shutil
import subprocess
from pathlib import Path

import pytest
from doubles import FakeClock, FakeProxy, driver, new_study, settings
from sqlalchemy import select

from nas.driver import disk
from nas.driver.access import Wait
from nas.driver.disk import FIRST_GUESS, Quota, shortage, size_of
from nas.driver.running import run
from nas.driver.status import status
from nas.errors import StudyError
from nas.executors.inline import InlineExecutor
from nas.store.tables import Run
from nas.study.proposals import REPLAY


def write(folder, size):
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(bytes(size))


def test_quota_counts_what_is_there_and_what_will_come(tmp_path):
    quota = Quota(tmp_path, limit=350)
    write(tmp_path / "a", 100)
    write(tmp_path / "b", 100)
    live = {str(tmp_path / "a"), str(tmp_path / "b")}
    assert size_of(tmp_path) == 200
    assert quota.admits(tmp_path / "c", live)
    assert not quota.admits(tmp_path / "d", live | {str(tmp_path / "c")})
    assert quota.admits(tmp_path / "a", live)  # its own is counted once


def test_first_checkpoint_is_guessed(tmp_path):
    assert not Quota(tmp_path, FIRST_GUESS - 1).admits(tmp_path / "a", set())
    assert Quota(tmp_path, FIRST_GUESS).admits(tmp_path / "a", set())
    assert Quota(tmp_path, None).admits(tmp_path / "a", set())


def test_trial_beyond_the_quota_keeps_no_checkpoint(sqlite_url, clock):
    study = new_study(sqlite_url, settings(trials=2), clock=clock, max_checkpoint_gb=0.001)
    seen = []

    class Watching(FakeProxy):
        def __call__(self, *args, checkpoint=None, **options):
            seen.append(checkpoint)
            return super().__call__(*args, checkpoint=checkpoint, **options)

    last = run(study, InlineExecutor(Watching()))
    assert last.done == 2 and seen == [None, None]
    study.close()


def test_full_disk_makes_the_search_wait_and_status_say_why(sqlite_url, clock, monkeypatch):
    study = new_study(sqlite_url, settings(trials=2), clock=clock)
    work = driver(study)
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as full:
        full.setattr(disk.shutil, "disk_usage", lambda path: usage._replace(free=5 << 20))
        answer = work.next()
        assert isinstance(answer, Wait) and "has 5 MiB free, less than 128 MiB" in answer.reason
        assert "5 MiB free" in status("s", sqlite_url)["blocked"]
        assert study.store.read(lambda s: list(s.scalars(select(Run)))) == []
    assert not isinstance(work.next(), Wait)
    work.close()
    study.close()


def test_checkpoint_that_does_not_fit_is_no_failure_of_the_design(
    sqlite_url, tmp_path, monkeypatch
):
    full = []
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda path: usage._replace(free=0) if full else usage
    )

    class Clock(FakeClock):
        def sleep(self, seconds):
            super().sleep(seconds)
            full.clear()  # somebody has made room

    def fill_up(n, *_):
        if n == 1:
            full.append(True)
            return StudyError("checkpoint 'x' cannot be written: No space left on device")
        return None

    study = new_study(sqlite_url, settings(trials=2), clock=Clock())
    last = run(study, InlineExecutor(FakeProxy(raises=fill_up)))
    assert last.done == 2
    rows = study.store.read(lambda s: list(s.scalars(select(Run))))
    assert [(r.state, r.attempt) for r in rows] == [("complete", 1)] * 2
    study.close()


def test_room_is_looked_for_where_the_folder_will_be(tmp_path):
    assert shortage(tmp_path / "not" / "yet" / "there", least=1) is None
    assert "MiB free" in shortage(tmp_path / "not" / "yet", least=1 << 60)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user may not mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_study_outlives_a_disk_that_fills_up(small_disk, monkeypatch):
    """The database's own disk runs full in mid-study; when there is room, the study goes on."""
    import threading

    monkeypatch.setattr(disk, "LEAST_FREE", 1 << 20)
    monkeypatch.setattr("nas.driver.coordinator.shortage", lambda folder: shortage(folder, 1 << 20))
    monkeypatch.setattr("nas.executors.attempt.shortage", lambda folder: shortage(folder, 1 << 20))
    url = f"sqlite:///{small_disk}/nas.db"
    study = new_study(url, settings(trials=6))
    ballast = Path(small_disk) / "ballast"

    def fill_up(n, *_):
        if n == 3 and not ballast.exists():
            try:
                with ballast.open("wb") as file:
                    while True:
                        file.write(bytes(4096))
                        file.flush()
            except OSError:
                pass
            threading.Timer(8, lambda: ballast.write_bytes(b"")).start()

    study.clock.sleep = lambda seconds: threading.Event().wait(seconds / 5)
    last = run(study, InlineExecutor(FakeProxy(raises=fill_up)))
    assert last.done == 6
    rows = study.store.read(lambda s: list(s.scalars(select(Run))))
    # A design that is proposed again is a row as well, which nobody trains.
    trained = [r for r in rows if r.newest and r.role != REPLAY]
    assert [r.state for r in trained] == ["complete"] * 6
    study.close()
