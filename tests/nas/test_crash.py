"""R1: a driver is killed at every point of a trial's life; resuming loses and repeats nothing."""

import collections
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from crashing_driver import POINTS
from doubles import EPOCHS, FakeProxy, new_study, settings
from sqlalchemy import select

from nas.clock import SystemClock
from nas.store.tables import Run
from nas.study import open_study, run

DRIVER = Path(__file__).with_name("crashing_driver.py")
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
    run(study, proxy=FakeProxy())
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


@pytest.mark.chaos
@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("point", list(POINTS))
def test_driver_killed_at_each_point(url, tmp_path, point, nth, uninterrupted):
    attack(url, tmp_path / "log", point, nth, uninterrupted)


@pytest.mark.chaos
def test_fifty_random_kills(sqlite_url, tmp_path, uninterrupted):
    """One study is killed fifty times, at random points, and still ends as if never touched."""
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    draw = random.Random(seed)
    log = tmp_path / "log"
    kills = 0
    trials = 40
    whole = new_study(
        f"sqlite:///{tmp_path}/whole.db",
        settings(trials=trials, strategy="random"),
        clock=SystemClock(),
    )
    run(whole, proxy=FakeProxy())
    new_study(sqlite_url, settings(trials=trials, strategy="random"), clock=SystemClock()).close()
    while kills < 50:
        # Two in three kills come soon, so that fifty fit into one study.
        point, nth = draw.choice(list(POINTS)), draw.choice([1, 1, 2])
        if drive(sqlite_url, point, nth, log) == 0:
            break
        kills += 1
    study = open_study("s", sqlite_url)
    lost = [r for r in rows(study) if r.newest and r.state == "lost"]
    study.close()
    drive(sqlite_url, "", 0, log)
    print(f"{kills} kills, {len(lost)} given up")
    study = open_study("s", sqlite_url)
    expected = {h[3]: h for h in history(whole)}
    for entry in history(study):
        assert entry[5] in ("complete", "lost")
        if entry[5] == "complete" and entry[3] in expected:
            assert entry[4] == expected[entry[3]][4] and entry[6] == expected[entry[3]][6]
    assert not [r for r in rows(study) if r.state in ("running", "waiting")]
    assert len([r for r in rows(study) if r.newest and r.role == "candidate"]) == trials
    study.close()
    whole.close()
    assert kills == 50
