"""R1: a driver is killed at every point of a trial's life; resuming loses and repeats nothing."""

import collections
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crashing_driver import POINTS
from doubles import CONDITIONAL, EPOCHS, FakeProxy, new_study, settings
from sqlalchemy import create_engine, select, text

from backbones import load_config
from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.executors.inline import InlineExecutor
from nas.export.trials import export_trials
from nas.store.tables import Export, Run
from nas.store.urls import parse_url

DRIVER = Path(__file__).with_name("crashing_driver.py")
ROOT = Path(__file__).resolve().parents[3]
TRIALS = 5
KILLED = -9


def drive(url, point, nth, log, name="s"):
    """Run a driver in its own process until it ends or kills itself; returns its exit code."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), url, name, point, str(nth), str(log)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, KILLED), done.stderr
    return done.returncode


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


def history(study):
    return [
        (r.trial_number, r.role, r.kind, r.fingerprint, r.seed, r.state, r.score)
        for r in rows(study)
        if r.newest
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The history of the same study when nobody dies."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/nas.db"
    study = new_study(url, settings(trials=TRIALS), clock=SystemClock())
    run(study, InlineExecutor(FakeProxy()))
    found = history(study)
    study.close()
    return found


def check_whole(url, log, uninterrupted):
    """Nothing lost, nothing repeated, nothing left running, the same history."""
    import optuna

    study = open_study("s", url)
    found = rows(study)
    assert history(study) == uninterrupted
    assert all(r.told for r in found)
    assert all(r.state == "lost" for r in found if not r.newest)
    trials = optuna.load_study(study_name="s", storage=study.store.url.render_as_string(False))
    states = [t.state.name for t in trials.get_trials()]
    assert states == ["COMPLETE"] * len(uninterrupted)
    assert not list(study.checkpoints.glob("*"))
    study.close()
    trained = collections.Counter(tuple(line.split()) for line in log.read_text().splitlines())
    # An epoch is only trained again when it had not reached its checkpoint.
    assert set(trained.values()) == {1}
    assert len(trained) == len(uninterrupted) * EPOCHS


def attack(url, log, point, nth, uninterrupted):
    study = new_study(url, settings(trials=TRIALS), clock=SystemClock())
    assert drive(url, point, nth, log) == KILLED
    interrupted = [r for r in rows(study) if r.newest and r.state == "running"]
    finished = {r.fingerprint for r in rows(study) if r.state == "complete"}
    study.close()
    assert drive(url, "", 0, log) == 0
    check_whole(url, log, uninterrupted)
    study = open_study("s", url)
    again = [r for r in rows(study) if r.attempt == 2]
    # Exactly the interrupted ones were queued again, with the same design and seed.
    assert [(r.fingerprint, r.seed) for r in again] == [
        (r.fingerprint, r.seed) for r in interrupted
    ]
    assert not finished & {r.fingerprint for r in again}
    study.close()


@pytest.mark.parametrize("point", ["after insert", "mid-epoch", "after result"])
def test_killed_driver_loses_and_repeats_nothing(sqlite_url, tmp_path, point, uninterrupted):
    attack(sqlite_url, tmp_path / "log", point, 2, uninterrupted)


def begin(url, log, **environment):
    """Start a driver that goes on until its study is whole."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), url, "s", "", "0", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def most_connections(url, processes):
    """How many connections processes hold at most, until all have ended; 0 to a file."""
    if not url.startswith("postgresql"):
        return 0
    engine, most = create_engine(parse_url(url)), 0
    count = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'scannas' AND datname = current_database()"
    )
    with engine.connect() as connection:
        while any(process.poll() is None for process in processes):
            most = max(most, connection.execute(count).scalar_one())
            connection.rollback()
            time.sleep(0.02)
    engine.dispose()
    return most


def test_live_drivers_share_a_study(url, tmp_path):
    """Three processes at once, their clocks hours apart: every design once, and all trained.

    All know the best one. Two connections each, and two for who copies for Optuna.
    """
    wanted = 24
    study = new_study(url, settings(CONDITIONAL, trials=wanted), clock=SystemClock())
    study.close()
    logs = [tmp_path / f"log{i}" for i in range(3)]
    drivers = [
        begin(url, log, EPOCH_SECONDS="0.05", SKEW_SECONDS=skew)
        for log, skew in zip(logs, ("0", "-60", "7200"), strict=True)
    ]
    assert most_connections(url, drivers) <= 2 * len(drivers) + 2
    said = [driver.communicate(timeout=120) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0, 0], said
    found = rows(study)
    trained = [r for r in found if r.role == "candidate"]
    assert len(trained) == len({r.fingerprint for r in trained}) == wanted
    assert all((r.state, r.attempt) == ("complete", 1) for r in trained)
    assert [r.trial_number for r in found] == list(range(len(found)))
    # Each trained some, no two the same epoch of the same design.
    lines = [log.read_text().splitlines() for log in logs]
    together = [line for log in lines for line in log]
    assert all(lines) and len(together) == len(set(together)) == wanted * EPOCHS
    best = max(trained, key=lambda r: r.score)
    assert [out.splitlines()[-1] for out, _ in said] == [f"best {best.trial_number}"] * 3
    assert all(r.told for r in found)
    study.close()


def until(true, process):
    """Wait until something is true."""
    give_up = time.monotonic() + 60
    while not true():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_driver_in_a_long_epoch_puts_back_what_a_dead_one_left(url, tmp_path):
    """Long before its own trial ends; two processes, one killed."""
    study = new_study(url, settings(trials=2), clock=SystemClock())
    slow = {"EPOCH_SECONDS": "100", "LEASE_SECONDS": "2"}
    busy = begin(url, tmp_path / "busy", **slow)
    until(lambda: [r.state for r in rows(study)] == ["running"], busy)
    dying = begin(url, tmp_path / "dying", **slow)
    until(lambda: [r.state for r in rows(study)] == ["running"] * 2, dying)
    dying.kill()
    until(lambda: len(rows(study)) == 3, busy)
    assert [r.state for r in rows(study)] == ["running", "lost", "waiting"]
    busy.kill()
    for process in (busy, dying):
        process.communicate()
    study.close()


@pytest.mark.chaos
@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("point", list(POINTS))
def test_driver_killed_at_each_point(url, tmp_path, point, nth, uninterrupted):
    attack(url, tmp_path / "log", point, nth, uninterrupted)


@pytest.mark.chaos
@pytest.mark.parametrize("point", ["document.verify_export", "trials.record_export"])
def test_driver_killed_during_export(sqlite_url, tmp_path, point, uninterrupted):
    """The file is whole or not there, the study is untouched, and a second export succeeds."""
    study = new_study(sqlite_url, settings(trials=TRIALS), clock=SystemClock())
    run(study, InlineExecutor(FakeProxy()))
    out = tmp_path / "best.yaml"
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom nas.export import document, trials\n"
        f"{point} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"trials.export_trials('s', {sqlite_url!r}, out=Path({str(out)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == KILLED
    assert out.exists() == (point == "trials.record_export")
    assert history(study) == uninterrupted
    ((trial, path),) = export_trials("s", sqlite_url, out=out)
    best = max(uninterrupted, key=lambda h: h[6])
    assert (trial, load_config(path).fingerprint()) == (best[0], best[3])
    assert [p.name for p in tmp_path.iterdir() if "best" in p.name] == ["best.yaml"]
    found = study.store.read(lambda s: list(s.scalars(select(Export))))
    assert [(row.path, row.verified) for row in found] == [(str(out), True)]
    study.close()


@pytest.mark.chaos
def test_fifty_random_kills(sqlite_url, tmp_path, capsys):
    """One study is killed fifty times, at random points, and still ends as if never touched."""
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    with capsys.disabled():
        print(f" CHAOS_SEED={seed} ", end="", flush=True)
    draw, log, trials, kills = random.Random(seed), tmp_path / "log", 40, 0
    # Uniform draws, so that a trial that was killed three times does not change what follows.
    made = settings(CONDITIONAL, trials=trials, strategy="random")
    whole = new_study(f"sqlite:///{tmp_path}/whole.db", made, clock=SystemClock())
    run(whole, InlineExecutor(FakeProxy()))
    expected = {h[0]: h for h in history(whole)}
    whole.close()
    new_study(sqlite_url, made, clock=SystemClock()).close()
    while kills < 50:
        assert drive(sqlite_url, draw.choice(list(POINTS)), draw.choice([1, 1, 2]), log) == KILLED
        kills += 1
    assert drive(sqlite_url, "", 0, log) == 0
    study = open_study("s", sqlite_url)
    found = history(study)
    given_up = [h for h in found if h[5] == "lost"]
    print(f"{kills} kills, {len(given_up)} trials given up")
    assert len(found) == len(expected)
    for entry in found:
        twin = expected[entry[0]]
        assert entry[3:5] == twin[3:5]
        assert entry[5] == "lost" or entry == twin
    for entry in given_up:
        attempts = [r for r in rows(study) if r.fingerprint == entry[3]]
        assert [r.state for r in attempts] == ["lost"] * 3
    assert all(r.told for r in rows(study))
    study.close()
    trained = collections.Counter(tuple(line.split()) for line in log.read_text().splitlines())
    assert set(trained.values()) == {1}
