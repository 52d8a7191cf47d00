"""What fails under a real Ray, for real: workers, the head, the database, room for trials."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from doubles import EPOCHS, FakeProxy, driver, new_study, settings
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.executors.inline import InlineExecutor
from nas.store.tables import Run
from nas.study.attempts import CANARY
from nas.study.proposals import CANDIDATE

LONGEST_S = 540
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


def first_designs(study, number):
    """Fingerprints of the first designs that a study will train."""
    peek = driver(study)
    held = [peek.next() for _ in range(number)]
    for attempt in held:
        peek.release(attempt, "test")
    peek.close()
    return [attempt.fingerprint for attempt in held]


def attempts_at(study, fingerprint):
    return [r for r in rows(study) if r.fingerprint == fingerprint and r.role == CANDIDATE]


@pytest.fixture
def memory_group():
    """A control group of the kernel with 200 MiB, or a skip that says why there is none."""
    first = Path("/sys/fs/cgroup/memory")
    parent, limit = (
        (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    )
    group = parent / f"scannas-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(200 << 20))
    except OSError as error:
        pytest.skip(f"no group with a limit of memory may be made here: {error}")
    yield group
    group.rmdir()


def test_every_death_of_a_worker_is_told_apart(sqlite_url, tmp_path, start, memory_group):
    """A segfault, a hang, and a kill by the kernel for lack of memory; all else is trained."""
    study = new_study(sqlite_url, settings(trials=6), clock=SystemClock(), stall_s=15)
    crashing, hanging, hungry = first_designs(study, 3)
    table = tmp_path / "failing.json"
    table.write_text(json.dumps({crashing: "segfault", hanging: "hang", hungry: "hungry"}))
    process = start(sqlite_url, 6, {"MEMORY_GROUP": str(memory_group)}, failing=table, workers=3)
    out, _ = process.communicate(timeout=LONGEST_S)
    assert "END 6 of 6" in out, out[-3000:]
    newest = [r for r in rows(study) if r.newest and r.role == CANDIDATE]
    assert Counter(r.state for r in newest) == {"complete": 4, "error": 1, "stalled": 1}
    for found, state in ((crashing, "error"), (hanging, "stalled")):
        ends = [(r.state, r.metrics[CANARY]) for r in attempts_at(study, found)]
        assert ends == [(state, True)] * 2
    crashed, hung = attempts_at(study, crashing)[0], attempts_at(study, hanging)[0]
    assert crashed.error == "its worker process died: Segmentation fault"
    assert "ray_driver.py" in crashed.traceback
    assert hung.error.startswith("no batch for ") and hung.error.endswith("its worker was killed")
    killed, halved = attempts_at(study, hungry)
    assert (killed.state, killed.halvings) == ("oom", 0)
    assert killed.error == "the kernel killed its worker process for lack of memory"
    assert (halved.state, halved.halvings) == ("complete", 1)
    study.close()


def lines_until(process, wanted, number):
    """Read what a driver says until it has said something so often."""
    said = []
    for line in process.stdout:
        said.append(line)
        if sum(wanted in one for one in said) == number:
            return said
    raise AssertionError("".join(said)[-3000:])


def test_death_of_the_head_keeps_every_unfinished_run(sqlite_url, tmp_path, start):
    """The driver says so and ends; what it trained waits, and no attempt is spent."""
    study = new_study(sqlite_url, settings(trials=12), clock=SystemClock())
    process = start(sqlite_url, 12, seconds=1.0, workers=3)
    lines_until(process, "EpochDone", 4)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.name() in ("gcs_server", "raylet"):
            child.kill()
    out, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1, out[-3000:]
    assert "NOTICE the head of Ray at 127.0.0.1:" in out, out[-3000:]
    unfinished = [r for r in rows(study) if r.state != "complete"]
    # Two where one of the three workers had just ended a trial.
    assert {(r.state, r.attempt) for r in unfinished} == {("waiting", 1)} and len(unfinished) in (
        2,
        3,
    )
    log = tmp_path / "log"
    last = run(open_study("s", sqlite_url), InlineExecutor(FakeProxy(log=log)))
    assert last.complete and {(r.state, r.attempt) for r in rows(study)} == {("complete", 1)}
    trained = Counter(log.read_text().splitlines())
    assert len(trained) == 12 * EPOCHS
    study.close()


def test_lost_database_ends_the_driver_soon(own_server, start):
    """Not after its patience for each of the workers; the trials are another driver's then."""
    url = own_server.get_uri()
    study = new_study(url, settings(trials=40), clock=SystemClock())
    process = start(url, 40, seconds=0.5, workers=8, patience=15)
    lines_until(process, "EpochDone", 8)
    psutil.Process(own_server.get_pid()).send_signal(signal.SIGQUIT)
    gone = time.monotonic()
    out, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1 and "check that the database can be reached" in out, out[-3000:]
    assert time.monotonic() - gone < 8 * 15
    own_server.ensure_postgres_running()
    assert [r for r in rows(study) if r.state == "running"]
    study.want(12)
    last = run(study, InlineExecutor(FakeProxy()))
    assert last.complete and {r.state for r in rows(study) if r.newest} == {"complete"}
    study.close()


def test_sigterm_ends_a_driver_of_ray_after_the_epoch(sqlite_url, start):
    """Its trials wait, those as well that have waited for room: four workers, two GPUs."""
    study = new_study(sqlite_url, settings(trials=12), clock=SystemClock())
    process = start(sqlite_url, 12, seconds=1.5, workers=4, gpus_per_trial=1)
    lines_until(process, "EpochDone", 2)
    held = [r for r in rows(study) if r.state == "running"]
    assert len(held) > 2
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=LONGEST_S)
    assert "END stopped by SIGTERM" in out, out[-3000:]
    assert {r.state for r in rows(study)} == {"waiting"}
    study.close()
