"""A training that makes no batch any more is ended: in this process, or together with it."""

import os
import queue
import subprocess
import sys
from pathlib import Path

import pytest
from doubles import FakeProxy, new_study, settings
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.executors import pace
from nas.executors.inline import InlineExecutor
from nas.executors.pace import LEAST_S, TIMES, Pace
from nas.store.tables import Run
from nas.study.attempts import CANARY

ROOT = Path(__file__).resolve().parents[3]


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


class Hanging(FakeProxy):
    """Waits for ever for a loader's queue, the first `times` times."""

    times = 1

    def __call__(self, config, recipe, **options):
        if config.num_classes and len(self.calls) < self.times:
            self.calls.append((config.fingerprint(), options["seed"], recipe.accumulate))
            queue.Queue().get()
        return super().__call__(config, recipe, **options)


def test_hung_loader_is_interrupted_and_the_trial_tried_again(url):
    study = new_study(url, settings(trials=2), clock=SystemClock(), stall_s=1)
    last = run(study, InlineExecutor(Hanging()))
    assert last.complete and last.done == 2
    first, again, other = rows(study)
    assert (first.state, again.state, other.state) == ("stalled", "complete", "complete")
    assert first.error.startswith("Stalled: no batch for 1 s (limit 1 s, --stall)")
    assert "queue.py" in first.traceback and first.metrics[CANARY] is True
    assert (again.proposal, again.attempt) == (first.proposal, 2)
    study.close()


def test_design_that_stalls_twice_ends_as_stalled(sqlite_url):
    study = new_study(sqlite_url, settings(trials=1), clock=SystemClock(), stall_s=1)
    proxy = Hanging()
    known = []

    def stall(n, fingerprint, recipe):
        known.append(fingerprint)
        if fingerprint == known[0]:
            queue.Queue().get()

    proxy.times, proxy.raises = 0, stall
    last = run(study, InlineExecutor(proxy))
    assert last.complete
    assert [r.state for r in rows(study)] == ["stalled"] * 2
    study.close()


# sleep() of the C library, which no signal wakes; called with the interpreter's lock held, no other
# thread of the process runs either.
DRIVER = """
import ctypes, signal, sys
from doubles import FakeProxy
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.executors import watch
from nas.executors.inline import InlineExecutor

watch.GRACE_S, watch._LOCKED_S = 0.5, 1.0
url, library = sys.argv[1:]
sleep = getattr(ctypes, library)(None).sleep

def hang(n, *_):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    sleep(50)

run(open_study("s", url), InlineExecutor(FakeProxy(raises=hang)))
"""


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_hung_kernel_is_killed_with_its_process(sqlite_url, library):
    """And the next driver tries the trial again."""
    study = new_study(sqlite_url, settings(trials=1), clock=SystemClock(), stall_s=1)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, sqlite_url, library],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'nas'}",
            "OMP_NUM_THREADS": "1",
        },
    )
    (first, *more) = rows(study)
    if library == "CDLL":
        assert done.returncode == -9, done.stderr
        assert (first.state, [r.state for r in more]) == ("stalled", ["waiting"])
        assert first.error.endswith("its process was killed") and "in hang" in first.traceback
    else:
        assert done.returncode == 1 and "Timeout (0:00:0" in done.stderr, done.stderr
        assert "in hang" in done.stderr and first.state == "running" and not more
    last = run(study, InlineExecutor(FakeProxy()))
    assert last.complete and rows(study)[-1].state == "complete" and len(rows(study)) == 2
    study.close()


def test_paces_of_their_own():
    """Five minutes at least, twenty times the longest silence where that is more."""
    watched = Pace(None, 10.0, 0.0)
    now, batches = 0.0, 0
    for gap in (10, 20, 30):
        for _ in range(gap // 10):
            now += 10
            assert watched.look(batches, now) is None
        batches += 1
    assert watched.limit_s == LEAST_S
    for _ in range(3):
        now += 10
        watched.look(batches, now)
    watched.look(batches + 1, now + 10)
    assert watched.limit_s == TIMES * 20 > LEAST_S


@given(st.lists(st.floats(0.1, 1e6), max_size=50), st.floats(1, 100))
def test_paused_process_has_not_stalled(pauses, limit):
    """However long the process was stopped, a pause counts as two looks at most."""
    watched = Pace(limit, 10.0, 0.0)
    now, counted = 0.0, 0.0
    watched.look(0, now)
    for pause in pauses:
        now += pause
        counted += min(pause, pace._MOST_LOOKS_MISSED * watched.every)
        assert (watched.look(0, now) is not None) == (counted >= limit)
