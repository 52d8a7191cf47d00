"""Whose fault it is: a place that trains nothing ends no design, a bad design ends by itself."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from doubles import CONDITIONAL, EPOCHS, FakeProxy, driver, new_study, settings
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.driver.progress import Notice, TrialRequeued, TrialStarted
from nas.driver.recovery import put_back
from nas.driver.running import run
from nas.driver.status import status
from nas.errors import StudyError
from nas.executors.attempt import Brake, _train
from nas.executors.canary import _DESIGN, trouble_with_canary
from nas.executors.inline import InlineExecutor
from nas.store.tables import Run
from nas.study.attempts import CANARY, Attempt, Lease, Result
from nas.study.outcomes import NanLoss, Outcome
from nas.study.proposals import CANDIDATE
from nas.study.recipe import Recipe

DRIVER = Path(__file__).with_name("crashing_driver.py")
ROOT = Path(__file__).resolve().parents[3]
TINY = Recipe(
    dataset="digits",
    image_size=16,
    train_size=96,
    val_size=64,
    batch_size=32,
    epochs=EPOCHS,
    flops_ratio=0.002,
    threads=1,
)


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


def without_gpu(study):
    """The study as a driver sees it whose device fails at the start of every training."""
    return replace(study, place=study.place.model_copy(update={"device": "cuda:99"}))


def test_broken_machine_ends_no_design(url, clock):
    """A study with results, then a machine whose device fails, then a healthy one again."""
    study = new_study(url, settings(CONDITIONAL, trials=60, recipe=TINY), clock=clock)
    run(study, InlineExecutor(FakeProxy()), trials=2)
    study.want(60)
    events = []
    last = run(without_gpu(study), InlineExecutor(), events.append)
    assert not last.complete and last.done == 2
    assert "3 trials in a row failed, and a known design fails on" in last.reason
    newest = [r for r in rows(study) if r.newest]
    assert [r.state for r in newest] == ["complete", "complete", "waiting"]
    tried = [r for r in rows(study) if not r.newest]
    assert [(r.state, r.metrics[CANARY]) for r in tried] == [("error", False)] * 3
    assert all(r.node and "train" in r.traceback for r in tried)
    (failing,) = status("s", url)["failing"]
    assert failing["node"] == tried[-1].node and failing["error"] == tried[-1].error
    said = [e.reason for e in events if isinstance(e, TrialRequeued)]
    assert len(said) == 3 and all("a known design fails here as well" in one for one in said)
    last = run(study, InlineExecutor(FakeProxy()))
    assert last.complete and last.done == 60
    assert {r.state for r in rows(study) if r.newest} == {"complete"}
    assert status("s", url)["failing"] == []
    study.close()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_broken_machine_beside_a_healthy_one(url, tmp_path):
    """Two drivers at once, as processes: `resume` where there is no such device, and a healthy one.

    The broken machine has a name of its own, by which `status` calls it.
    """
    elsewhere = ["unshare", "--uts", "sh", "-c", 'hostname broken && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*elsewhere, "true"]).returncode != 0:
        pytest.skip("no namespaces for this user")
    made = settings(CONDITIONAL, trials=60, recipe=TINY, strategy="random")
    study = new_study(url, made, clock=SystemClock(), device="cuda:99")
    run(study, InlineExecutor(FakeProxy()), trials=2)
    study.want(60)
    facts = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}
    facts["env"] = {**os.environ, "OMP_NUM_THREADS": "1", "EPOCH_SECONDS": "0.1"}
    resume = [sys.executable, str(ROOT / "cli.py"), "resume", "s", "--storage", url]
    with subprocess.Popen([*elsewhere, *resume], **facts) as broken:
        while not status("s", url)["failing"]:
            assert broken.poll() is None, broken.stdout.read()
            time.sleep(0.1)
        log = str(tmp_path / "log")
        drive = [sys.executable, str(DRIVER), url, "s", "", "0", log]
        with subprocess.Popen(drive, **facts) as healthy:
            said, _ = broken.communicate(timeout=250)
            assert "continue with: " in said, said
            (failing,) = status("s", url)["failing"]
            assert failing["node"] == "broken"
            assert "a known design fails on broken as well" in " ".join(said.split())
            said, _ = healthy.communicate(timeout=250)
            assert healthy.returncode == 0, said
    ended = [r for r in rows(study) if r.newest]
    assert [r.state for r in ended if r.role == CANDIDATE] == ["complete"] * 60
    tried = [r for r in rows(study) if not r.newest]
    assert [(r.state, r.node, r.metrics[CANARY]) for r in tried] == [("error", "broken", False)] * 3
    assert failing["error"] == tried[-1].error
    study.close()


def test_known_design_trains_here():
    """With the real training: the canary is no design that fails by itself."""
    attempt = Attempt(
        lease=Lease(1, "x", 1),
        trial=0,
        attempt=1,
        role="candidate",
        label=None,
        kind="random",
        fingerprint="f",
        flops=1,
        params=1,
        config={},
        recipe=TINY.to_dict(),
        seed=0,
        device="cpu",
        backend="auto",
        checkpoint=None,
    )

    def train(attempt, should_stop):
        asked.append(attempt.config)
        brake = Brake()
        brake.should_stop = should_stop
        _train(attempt, lambda _: None, brake, None)

    asked = []
    assert trouble_with_canary(attempt, train) is None
    assert asked == [_DESIGN]
    assert "Error: " in trouble_with_canary(replace(attempt, device="cuda:99"), train)
    lost = TINY.model_copy(update={"dataset": "folder:/no/such/folder"})
    assert "/no/such" in trouble_with_canary(replace(attempt, recipe=lost.to_dict()), train)


def faulty(wrong):
    """A proxy that fails with some designs."""

    class Faulty(FakeProxy):
        def __call__(self, config, recipe, **options):
            if config.fingerprint() in wrong:
                self.calls.append((config.fingerprint(), options["seed"], recipe.accumulate))
                raise ValueError("shapes differ")
            return super().__call__(config, recipe, **options)

    return Faulty()


def test_error_of_a_design_ends_it_the_second_time(url, clock):
    study = new_study(url, settings(trials=5), clock=clock)
    peek = driver(study)
    first = peek.next()
    peek.release(first, "test")
    peek.close()
    events = []
    last = run(study, InlineExecutor(faulty({first.fingerprint})), events.append)
    assert last.complete and last.done == 5
    found = [r for r in rows(study) if r.fingerprint == first.fingerprint]
    assert [(r.state, r.attempt, r.metrics[CANARY]) for r in found] == [
        ("error", 1, True),
        ("error", 2, True),
    ]
    assert [r.state for r in rows(study) if r.newest] == ["error"] + ["complete"] * 4
    # Tried again when there was nothing else to do: another driver would have had the time.
    assert [e.trial for e in events if isinstance(e, TrialStarted)] == [0, 1, 2, 3, 4, 0]
    assert status("s", url)["failing"] == []
    study.close()


def test_second_try_is_another_drivers_where_there_is_one(url, clock):
    study = new_study(url, settings(trials=4), clock=clock)
    one, two = driver(study), driver(study)
    task = one.next()
    one.finish(task, Result(Outcome.ERROR, error="segfault", metrics={CANARY: True}))
    assert one.next().trial == 1
    again = two.next()
    assert (again.trial, again.attempt) == (0, 2)
    two.finish(again, Result(Outcome.ERROR, error="segfault", metrics={CANARY: True}))
    assert [r.state for r in rows(study)][:2] == ["error", "error"]
    assert rows(study)[1].newest
    one.close()
    two.close()
    study.close()


def test_place_that_comes_back_goes_on(url, clock):
    """Two failures in a row, then all is well: the driver has waited, and stops nothing."""
    study = new_study(url, settings(trials=3), clock=clock)
    proxy = FakeProxy(raises=lambda n, *_: OSError("no route to the data") if n <= 4 else None)
    started = clock.now()
    last = run(study, InlineExecutor(proxy))
    assert last.complete and last.done == 3
    assert [r.state for r in rows(study)] == ["error", "error", *["complete"] * 3]
    assert clock.now() - started >= 2 + 4
    study.close()


@pytest.mark.parametrize("outcome", ["nan", "oom", "timeout"])
def test_ends_of_the_design_are_not_tried_again(url, clock, outcome):
    errors = {"nan": NanLoss("nan"), "oom": MemoryError("no"), "timeout": TimeoutError("slow")}
    study = new_study(url, settings(trials=2), clock=clock)
    bad = errors[outcome]
    last = run(study, InlineExecutor(FakeProxy(raises=lambda n, *_: bad if n <= 2 else None)))
    assert last.complete
    assert next(r.state for r in rows(study) if r.newest) == outcome
    study.close()


def test_ended_trials_are_put_back_on_request(url, clock):
    """And their second end replaces the first everywhere, Optuna's copy included."""
    study = new_study(url, settings(trials=4), clock=clock)
    errors = {2: NanLoss("nan"), 3: TimeoutError("slow")}
    run(study, InlineExecutor(FakeProxy(raises=lambda n, *_: errors.get(n))))
    assert put_back("s", url, ["error", "lost"]) == 0
    assert put_back("s", url, ["timeout", "nan"]) == 2
    assert status("s", url)["waiting"] == 2
    last = run(study, InlineExecutor(FakeProxy()))
    assert last.complete and last.done == 4
    assert [(r.state, r.attempt) for r in rows(study) if r.newest] == [
        ("complete", 1),
        ("complete", 2),
        ("complete", 2),
        ("complete", 1),
    ]
    storage = study.store.url.render_as_string(hide_password=False)
    trials = optuna.load_study(study_name="s", storage=storage).get_trials()
    assert [t.value for t in trials] == [r.score for r in rows(study) if r.newest]
    with pytest.raises(StudyError, match="class 'bad' is not one of error, stalled, lost"):
        put_back("s", url, ["bad"])
    study.close()


def test_error_repeated_on_one_machine_waits_for_another(url, clock):
    """While others work it goes back; the error of a second machine ends the design."""
    study = new_study(url, settings(trials=4), clock=clock)
    one, other = driver(study), driver(study)
    other.owner = other.owner.replace("host/", "elsewhere/")
    busy = other.next()

    def fails(work, task, host):
        facts = {"host": host}
        work.finish(
            task, Result(Outcome.ERROR, error="odd", metrics={CANARY: True}, environment=facts)
        )

    task = one.next()
    fails(one, task, "host")
    one._erred.clear()
    task = one.next()
    assert (task.trial, task.attempt) == (1, 2)
    fails(one, task, "host")
    assert rows(study)[-1].state == "waiting" and rows(study)[-1].attempt == 3
    other.release(busy, "test")
    other.next()
    task = other.next()
    assert (task.trial, task.attempt) == (1, 3)
    fails(other, task, "elsewhere")
    assert [r.state for r in rows(study) if r.proposal == 1] == ["error"] * 3
    for work in (one, other):
        work.close()
    study.close()


def test_trial_put_back_after_it_was_lost_has_three_attempts_again(url, clock):
    study = new_study(url, settings(trials=1), clock=clock)

    def lose(times):
        for _ in range(times):
            gone = driver(study)
            assert isinstance(gone.next(), Attempt)
            clock.dead.add(gone.owner)
        look = driver(study)
        look._look_around()
        look.close()

    lose(3)
    assert [r.state for r in rows(study)] == ["lost"] * 3
    put_back("s", url, ["lost"])
    lose(2)
    events = []
    last = run(study, InlineExecutor(FakeProxy()), events.append)
    assert last.complete and [r.state for r in rows(study)] == ["lost"] * 5 + ["complete"]
    study.close()


def test_continuing_offers_to_put_failures_back(url, clock):
    study = new_study(url, settings(trials=3), clock=clock)
    peek = driver(study)
    first = peek.next()
    peek.release(first, "test")
    peek.close()
    run(study, InlineExecutor(faulty({first.fingerprint})))
    events = []
    run(study, InlineExecutor(FakeProxy()), events.append)
    said = [e.text for e in events if isinstance(e, Notice)]
    assert said and "ended as error, stalled or lost; `retry s` puts them back" in said[0]
    study.close()
