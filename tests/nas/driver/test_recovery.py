"""What one driver does with what another one left: time and death are those of a fake clock."""

import time
from dataclasses import replace

import pytest
from doubles import FakeProxy, Skewed, driver, new_study, score_of, settings
from sqlalchemy import select

from nas.driver.access import Done, Wait
from nas.driver.clock import SystemClock
from nas.driver.progress import Recovered
from nas.driver.running import run
from nas.executors.inline import InlineExecutor
from nas.store.leases import LEASE_S
from nas.store.tables import Run
from nas.study.attempts import LeaseLost, Result
from nas.study.outcomes import Outcome


@pytest.fixture
def study(url, clock):
    study = new_study(url, settings(trials=4), clock=clock)
    yield study
    study.close()


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.id))))


def complete(task):
    score = score_of(task.fingerprint)
    return Result(Outcome.COMPLETE, score=score, objectives=(score,), metrics={"epochs": 3})


def recovered(events):
    return [e for e in events if isinstance(e, Recovered)]


def test_silent_driver_loses_its_trial_after_the_lease_and_not_before(study):
    """R2: expiry gives the trial to another, once, and the late write is refused."""
    first, events = driver(study), []
    task = first.next()
    second = driver(study, events.append)
    other = second.next()
    assert other.fingerprint != task.fingerprint
    study.clock.time += LEASE_S - 1
    second.renew(other)
    assert rows(study)[0].state == "running"
    study.clock.time += LEASE_S / 3
    taken = second.next()
    assert (taken.fingerprint, taken.seed) == (task.fingerprint, task.seed)
    assert (taken.trial, taken.attempt) == (task.trial, 2)
    assert recovered(events) == [Recovered(requeued=1, lost=0, waiting=1)]
    with pytest.raises(LeaseLost):
        first.finish(task, complete(task))
    second.finish(taken, complete(taken))
    assert [r.state for r in rows(study)] == ["lost", "running", "complete"]
    first.close()
    second.close()


def test_dead_driver_of_this_host_loses_its_trial_at_once(study):
    """R1: after a SIGKILL nobody waits for the lease to run out."""
    first = driver(study)
    task = first.next()
    study.clock.dead.add(first.owner)
    second = driver(study)
    taken = second.next()
    assert (taken.fingerprint, taken.seed, taken.attempt) == (task.fingerprint, task.seed, 2)
    first.close()
    second.close()


def test_renewed_trial_stays_with_its_driver(study):
    first, second = driver(study), driver(study)
    task = first.next()
    for _ in range(5):
        study.clock.time += LEASE_S - 1
        first.renew(task)
        answer = second.next()
        assert isinstance(answer, Wait) or answer.fingerprint != task.fingerprint
    first.finish(task, complete(task))
    assert rows(study)[0].state == "complete"
    first.close()
    second.close()


def test_trial_is_given_up_after_three_lost_attempts(study):
    events = []
    last = driver(study, events.append)
    for attempt in (1, 2, 3):
        dying = driver(study)
        task = dying.next()
        assert (task.trial, task.attempt) == (0, attempt)
        study.clock.dead.add(dying.owner)
        dying.close()
    task = last.next()
    assert task.trial == 1
    assert [r.state for r in rows(study)] == ["lost", "lost", "lost", "running"]
    assert recovered(events)[-1].lost == 1
    last.close()


def test_last_driver_waits_for_trials_of_others_and_inherits_them(study):
    first, second = driver(study), driver(study)
    tasks = [first.next() for _ in range(4)]
    answer = second.next()
    assert isinstance(answer, Wait) and answer.reason == "4 trials are still running"
    for task in tasks[:3]:
        first.finish(task, complete(task))
    study.clock.time += LEASE_S + 1
    inherited = second.next()
    assert inherited.fingerprint == tasks[3].fingerprint
    second.finish(inherited, complete(inherited))
    assert isinstance(second.next(), Done)
    first.close()
    second.close()


def test_drivers_take_turns_without_training_anything_twice(url, clock):
    """Two drivers on one study: every design once, no more candidates than wanted."""
    study = new_study(url, settings(trials=12), clock=clock)
    drivers = [driver(study) for _ in range(3)]
    trained = []
    ended = set()
    while len(ended) < 3:
        for i, one in enumerate(drivers):
            task = one.next()
            if isinstance(task, Done):
                ended.add(i)
            elif not isinstance(task, Wait):
                trained.append(task.fingerprint)
                one.finish(task, complete(task))
    assert len(trained) == len(set(trained)) == 12
    for one in drivers:
        one.close()
    study.close()


def test_clocks_that_disagree_cost_nothing(url):
    """Leases are granted and judged by the clock of the database, whatever drivers believe."""
    study = new_study(url, settings(trials=8), clock=SystemClock())
    drivers = [driver(replace(study, clock=Skewed(s))) for s in (-7200, -60, 60, 7200)]
    held = [(one, one.next()) for one in drivers]
    for one, task in held:
        one.renew(task)
    held += [(one, one.next()) for one in drivers]
    for one, task in held:
        one.finish(task, complete(task))
    found = rows(study)
    assert [(r.state, r.attempt) for r in found] == [("complete", 1)] * 8
    assert all(abs(r.started_at - time.time()) < 60 for r in found)
    assert all(0 <= r.finished_at - r.started_at < 60 for r in found)
    for one in drivers:
        one.close()
    study.close()


def test_silence_is_measured_by_the_database(url):
    study = new_study(url, settings(trials=2), clock=SystemClock())
    first, second = driver(study), driver(replace(study, clock=Skewed(-7200)))
    task = first.next()
    past = Run.__table__.update().values(lease_expires=Run.lease_expires - LEASE_S - 1)
    study.store.write(lambda s: s.execute(past))
    taken = second.next()
    assert (taken.fingerprint, taken.attempt) == (task.fingerprint, 2)
    with pytest.raises(LeaseLost):
        first.finish(task, complete(task))
    first.close()
    second.close()
    study.close()


def test_driver_in_a_long_trial_looks_after_the_others(study):
    busy, dying = driver(study), driver(study)
    task, orphan = busy.next(), dying.next()
    study.clock.dead.add(dying.owner)
    study.clock.time += LEASE_S / 3
    busy.renew(task)
    found = [(r.fingerprint, r.state) for r in rows(study)]
    assert found == [
        (task.fingerprint, "running"),
        (orphan.fingerprint, "lost"),
        (orphan.fingerprint, "waiting"),
    ]
    busy.close()
    dying.close()


def test_released_trial_is_continued_as_the_same_attempt(study):
    first = driver(study)
    task = first.next()
    first.release(task, "stopped by SIGTERM")
    assert rows(study)[0].state == "waiting"
    second = driver(study)
    again = second.next()
    assert (again.trial, again.attempt) == (task.trial, 1)
    assert again.lease.token == task.lease.token + 1
    first.close()
    second.close()


def test_interrupted_training_continues_from_its_checkpoint(sqlite_url, clock, tmp_path):
    study = new_study(sqlite_url, settings(trials=1), clock=clock)
    log = tmp_path / "log"

    class Killed(BaseException):
        pass

    class Dying(FakeProxy):
        def __call__(self, *args, report, **kwargs):
            def report_then_die(metrics):
                report(metrics)
                if metrics.epoch == 2:
                    raise Killed

            return super().__call__(*args, report=report_then_die, **kwargs)

    with pytest.raises(Killed):
        run(study, InlineExecutor(Dying(log=log)))
    study.clock.dead.add(rows(study)[0].lease_owner)
    run(study, InlineExecutor(FakeProxy(log=log)))
    assert [line.split()[2] for line in log.read_text().splitlines()] == ["1", "2", "3"]
    assert [(r.state, r.attempt) for r in rows(study)] == [("lost", 1), ("complete", 2)]
    assert not list(study.checkpoints.glob("*"))
    study.close()


def test_checkpoints_of_ended_trials_are_swept_at_the_start(sqlite_url, clock):
    study = new_study(sqlite_url, settings(trials=1), clock=clock)
    (study.checkpoints / "0123-0").mkdir(parents=True)
    run(study, InlineExecutor(FakeProxy()))
    assert not list(study.checkpoints.glob("*"))
    study.close()


def test_doubles_look_like_the_real_metrics():
    from dataclasses import fields

    import doubles

    from nas.training import run as training

    for name in ("EpochMetrics", "ProxyResult"):
        mine, real = (
            [f.name for f in fields(getattr(module, name))] for module in (doubles, training)
        )
        assert mine == real


@pytest.mark.parametrize("strategy", ["evolution", "tpe", "random"])
def test_proposals_of_several_drivers_can_be_made_again_from_the_rows(sqlite_url, clock, strategy):
    """R11: in asynchronous mode the recorded history replays to the same proposals."""
    import random

    from doubles import CONDITIONAL

    from nas.planning.proposals import Planner
    from nas.store import history

    study = new_study(sqlite_url, settings(CONDITIONAL, trials=25, strategy=strategy), clock=clock)
    drivers = [driver(study) for _ in range(3)]
    held, draw, open_ends = [], random.Random(0), True
    while open_ends or held:
        if held and draw.random() < 0.5:
            one, task = held.pop(draw.randrange(len(held)))
            one.finish(task, complete(task))
            continue
        one = draw.choice(drivers)
        task = one.next()
        if isinstance(task, Done):
            open_ends = False
        elif not isinstance(task, Wait):
            held.append((one, task))
    entries = study.store.read(lambda s: history.entries(s, study.id))
    assert any(e.sampler["scannas:pending"] for e in entries)
    for entry in entries:
        planner = Planner("s", study.settings, None)
        pending = entry.sampler["scannas:pending"]
        planner.learn(
            [
                replace(e, state="running", objectives=None) if e.index in pending else e
                for e in entries[: entry.index]
            ]
        )
        again = planner.candidate()
        assert (again.fingerprint, again.params) == (entry.fingerprint, entry.params)
    for one in drivers:
        one.close()
    study.close()
