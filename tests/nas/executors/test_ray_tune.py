"""The Ray executor: what Tune does is real, in a namespace where only loopback exists."""

import json
import os
import signal
import time
from collections import Counter

import pytest
from doubles import CONDITIONAL, EPOCHS, FakeProxy, driver, new_study, settings
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.driver.progress import Waiting
from nas.driver.running import run
from nas.driver.status import status
from nas.driver.studies import open_study
from nas.errors import StoreError, StudyError
from nas.executors.choice import choose_executor, place_for
from nas.executors.inline import InlineExecutor
from nas.executors.ray_tune import RayExecutor
from nas.executors.wire import PROGRESS, WHERE, attempt_from, attempt_to, result_from, result_to
from nas.store.tables import Epoch, Run
from nas.study.attempts import Result
from nas.study.outcomes import Outcome
from nas.study.recipe import Recipe

LONGEST_S = 280


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


# --- without Ray ------------------------------------------------------------------------------


def test_task_and_result_survive_the_way_to_a_worker(sqlite_url, clock):
    study = new_study(sqlite_url, settings(objectives=("top1", "params")), clock=clock)
    work = driver(study)
    task = work.next()
    assert attempt_from(attempt_to(task)) == task
    result = Result(Outcome.NAN, objectives=(0.0, 5.0), metrics={"loss": float("nan")}, error="x")
    back = result_from(result_to(result))
    assert (back.outcome, back.objectives, back.error) == (Outcome.NAN, (0.0, 5.0), "x")
    assert back.metrics == {"loss": None}
    work.close()
    study.close()


@pytest.fixture
def executor():
    return RayExecutor(workers=2)


@pytest.fixture
def desk(sqlite_url, clock, executor):
    study = new_study(sqlite_url, settings(trials=2), clock=clock)
    work = driver(study)
    yield executor.desk(work), study
    work.close()
    study.close()


def report(epoch):
    return {
        "epoch": epoch,
        "epochs": EPOCHS,
        "train_loss": 1.0,
        "val_loss": 1.0,
        "val_top1": 0.5,
        "seconds": 0.1,
    }


def test_dead_worker_puts_its_trial_back_into_the_queue(desk):
    desk, study = desk
    task = desk.hand_out("a")
    assert desk.epoch("a", report(1))
    desk.ended("a", failed=True)
    again = desk.hand_out("b")
    assert (again.fingerprint, again.seed, again.attempt) == (task.fingerprint, task.seed, 2)
    assert [r.state for r in rows(study)] == ["lost", "running"]
    assert rows(study)[0].error == "its worker process died"


def test_result_of_a_worker_ends_the_trial(desk):
    desk, study = desk
    desk.hand_out("a")
    result = Result(Outcome.COMPLETE, score=0.5, objectives=(0.5,), metrics={})
    assert desk.epoch("a", {"final": result_to(result)})
    desk.ended("a", failed=True)  # the worker is replaced; the result stands
    assert [r.state for r in rows(study)] == ["complete"]


def test_stopped_executor_releases_after_the_epoch(desk, executor):
    desk, study = desk
    desk.hand_out("a")
    executor.stop()
    assert not desk.epoch("a", report(1))
    desk.ended("a", failed=False)
    assert [r.state for r in rows(study)] == ["waiting"]


def test_trial_begins_where_it_trains_and_not_where_it_waits_for_room(desk, executor):
    """The wait is no part of its time; and who was asked to stop begins nothing."""
    desk, study = desk
    for trial in "ab":
        desk.hand_out(trial)
    where = {PROGRESS: 0, WHERE: {"host": "h", "node": "n", "oom_kills": 0}}
    study.clock.time += 30
    assert desk.epoch("a", where)
    began = [r.started_at for r in rows(study)]
    assert began == [study.clock.time, study.clock.time - 30]
    executor.stop()
    assert not desk.epoch("b", where)
    desk.ended("b", failed=False)
    assert [r.state for r in rows(study)] == ["running", "waiting"]


def test_lost_database_is_waited_for_once_for_all_trials(sqlite_url, clock, monkeypatch):
    """Not once for each: with sixty workers that would be hours."""
    study = new_study(sqlite_url, settings(trials=6), clock=clock)
    work = driver(study)
    desk = RayExecutor(workers=6).desk(work)
    for n in range(6):
        desk.hand_out(str(n))
    waited = []

    def gone(action, *, durable=False):
        waited.append(action)
        raise StoreError("the server is gone")

    with monkeypatch.context() as away:
        away.setattr(study.store, "write", gone)
        assert not desk.epoch("0", report(1))
        assert not desk.epoch("1", report(1))
        desk.ended("2", failed=True)
        desk.release_all()
    assert len(waited) == 1 and not desk.attempts
    assert str(desk.trouble) == "the server is gone" and not desk.done.complete
    assert [r.state for r in rows(study)] == ["running"] * 6
    assert [r.lease_owner for r in rows(study)] == [work.owner] * 6
    work.close()
    study.close()


def test_client_of_a_cluster_is_refused_with_what_works():
    says = r"'ray://head:10001': a driver must be a member .* --ray-address head:6379"
    with pytest.raises(StudyError, match=says):
        choose_executor("auto", ray_address="ray://head:10001")


def test_device_is_the_clusters_where_there_is_one(monkeypatch):
    """A driver without a GPU asks for what the cluster has, and is refused what it has not."""
    has = {"GPU": 4.0}
    monkeypatch.setattr(RayExecutor, "device", lambda self: "cuda" if has["GPU"] else "cpu")
    assert place_for("auto", "head:6379", backend="auto").device == "cuda"
    assert place_for("cpu", "head:6379", backend="auto").device == "cpu"
    assert place_for("cuda", "head:6379", backend="triton").device == "cuda"
    has["GPU"] = 0.0
    assert place_for("auto", "head:6379", backend="auto").device == "cpu"
    with pytest.raises(StudyError, match="no node of the cluster at 'head:6379' has a GPU"):
        place_for("cuda", "head:6379", backend="auto")


def test_trials_that_ray_cannot_place_are_called_out(sqlite_url, clock):
    """R12: a trial that waits for resources while nothing of ours runs is said in a minute."""
    study = new_study(sqlite_url, settings(trials=2), clock=clock)
    said = []
    desk = RayExecutor(gpus_per_trial=2).desk(driver(study, said.append))

    def wait(seconds):
        for _ in range(0, seconds, 10):
            clock.time += 10
            desk.watch_queue()
        return [event.reason for event in said if isinstance(event, Waiting)]

    desk.hand_out("a")
    desk.began("a")
    desk.hand_out("b")
    assert wait(120) == []  # it waits for the first to end
    desk.ended("a", failed=False)
    (reason,) = wait(60)
    assert "Ray has not found 1 CPUs, 2 GPUs free on one node" in reason
    assert status("s", sqlite_url)["blocked"] == reason
    desk.began("b")
    assert len(wait(120)) == 1
    assert status("s", sqlite_url)["blocked"] is None
    desk.coordinator.close()
    study.close()


def test_a_trial_takes_as_many_processors_as_it_has_threads():
    assert choose_executor("ray", threads=2).cpus_per_trial == 2.0
    assert choose_executor("ray", threads=2, cpus_per_trial=0.5).cpus_per_trial == 0.5


def test_auto_is_inline_for_one_trial_and_ray_for_more():
    assert isinstance(choose_executor(), InlineExecutor)
    assert isinstance(choose_executor(workers=4), RayExecutor)
    assert isinstance(choose_executor(ray_address="auto"), RayExecutor)
    assert choose_executor("ray", device="cuda", workers=2).gpus_per_trial == 1.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: choose_executor("slurm"), "unknown executor 'slurm'"),
        (lambda: choose_executor("inline", workers=2), "one trial at a time"),
        (lambda: RayExecutor(workers=0), "workers 0 must be 1 or more"),
        (lambda: RayExecutor(cpus_per_trial=0.0), "needs some CPU or GPU"),
    ],
    ids=["unknown", "inline workers", "no workers", "no resources"],
)
def test_options_without_sense_are_refused(call, says):
    with pytest.raises(StudyError, match=says):
        call()


# --- with Ray ----------------------------------------------------------------------------------


def end(process):
    out, _ = process.communicate(timeout=LONGEST_S)
    return out


def workers_of(process):
    """Process ids of the Ray workers that train for a driver."""
    import psutil

    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and "train" in title.lower():
            found.append(child.pid)
    return found


def check_whole(study, trials, log):
    found = rows(study)
    newest = [r for r in found if r.newest]
    assert len([r for r in newest if r.role == "candidate"]) == trials
    assert not [r for r in found if r.state in ("running", "waiting")]
    assert all(r.told for r in found)
    trained = Counter(tuple(line.split()) for line in log.read_text().splitlines())
    finished = {r.fingerprint for r in newest if r.state == "complete"}
    # A finished design is trained to its end, and no epoch that reached a checkpoint again.
    # (A worker may die between an epoch's end and its checkpoint.)
    for fingerprint in finished:
        epochs = [key for key in trained if key[0] == fingerprint]
        assert len(epochs) == EPOCHS
    return sum(trained.values()) - len(trained)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_pruned_trials_are_recorded_as_pruned(sqlite_url, tmp_path, start):
    study = new_study(sqlite_url, settings(trials=12, pruner="asha"), clock=SystemClock())
    out = end(start(sqlite_url, 12))
    assert "END 12 of 12" in out
    states = Counter(r.state for r in rows(study))
    assert set(states) == {"complete", "pruned"} and states["pruned"] >= 3
    for row in rows(study):
        if row.state == "pruned":
            assert row.metrics["epochs"] == 1
    study.close()


# A real training of about a second: a few images, a few updates.
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


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_workers_cost_nothing(sqlite_url, tmp_path, start):
    """R2: eight workers on quarters of a GPU, two of them killed: 200 real trials end complete."""
    made = settings(CONDITIONAL, trials=200, strategy="random", recipe=TINY)
    study = new_study(sqlite_url, made, clock=SystemClock())
    process = start(sqlite_url, 200, workers=8, real=1)
    output, ended = [], 0
    for line in process.stdout:
        output.append(line)
        ended += line.startswith("TrialFinished")
        # A worker may have nothing to lose at that moment: the next one is killed then.
        lost = sum(r.state == "lost" for r in rows(study))
        if ended >= 10 * (lost + 1) and lost < 2 and line.startswith("EpochDone"):
            for pid in workers_of(process)[:1]:
                os.kill(pid, signal.SIGKILL)
                time.sleep(2.0)
        if line.startswith("END"):
            break
    process.wait(timeout=LONGEST_S)
    found = [r for r in rows(study) if r.role == "candidate"]
    assert Counter(r.state for r in found) == {"complete": 200, "lost": 2}, "".join(output[-40:])
    assert len({r.fingerprint for r in found}) == 200
    assert all(r.told for r in found)
    for gone in (r for r in found if r.state == "lost"):
        (again,) = (r for r in found if r.fingerprint == gone.fingerprint and r.newest)
        assert (again.seed, again.attempt) == (gone.seed, 2)
        # It went on from its checkpoint. The worker may have died between an epoch's report and
        # its checkpoint, which is one epoch again.
        before, after = (epochs_of(study, r) for r in (gone, again))
        assert before | after == set(range(1, EPOCHS + 1)) and len(before & after) <= 1
    study.close()


def epochs_of(study, row):
    return set(study.store.read(lambda s: s.scalars(select(Epoch.epoch).filter_by(run_id=row.id))))


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_driver_of_ray_is_continued_without_it(sqlite_url, tmp_path, start):
    """R1: the driver dies with four trials in flight; another executor finishes the study."""
    study = new_study(sqlite_url, settings(trials=8), clock=SystemClock())
    end(start(sqlite_url, 8, die_after=10, seconds=0.3))
    interrupted = {(r.fingerprint, r.seed) for r in rows(study) if r.state == "running"}
    assert interrupted
    finished = run(open_study("s", sqlite_url), InlineExecutor(FakeProxy(log=tmp_path / "log")))
    assert finished.complete
    again = {(r.fingerprint, r.seed) for r in rows(study) if r.attempt == 2}
    assert again == interrupted
    check_whole(study, 8, tmp_path / "log")
    study.close()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_workers_are_replaced_after_memory_errors(sqlite_url, tmp_path, start):
    """R9: of 50 trials 10 run out of memory and 5 meet a NaN, each recorded as what it is.

    A lack of memory is tried again once, at half the batch with accumulation. The driver's memory
    grows by less than 200 MiB.
    """
    made = settings(CONDITIONAL, trials=50, strategy="random")
    plan = new_study(f"sqlite:///{tmp_path}/plan.db", made)
    run(plan, InlineExecutor(FakeProxy()))
    designs = [r.fingerprint for r in rows(plan) if r.role == "candidate"]
    plan.close()
    wanted = dict.fromkeys(designs, "complete")
    wanted |= dict.fromkeys(designs[3:23:2], "oom") | dict.fromkeys(designs[4:14:2], "nan")
    (tmp_path / "outcomes.json").write_text(json.dumps(wanted))
    study = new_study(sqlite_url, made, clock=SystemClock())
    out = end(start(sqlite_url, 50, failing=tmp_path / "outcomes.json"))
    assert "END" in out, out
    newest = [r for r in rows(study) if r.newest and r.role == "candidate"]
    assert {r.fingerprint: r.state for r in newest} == wanted
    assert Counter(r.state for r in newest) == {"complete": 35, "oom": 10, "nan": 5}
    for row in newest:
        assert row.halvings == row.attempt - 1 == int(row.state == "oom")
    grown = float(out.split("MEMORY ")[1].split()[0])
    assert grown < 200, out
    study.close()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_trial_that_fits_nowhere_is_refused_at_once(sqlite_url, tmp_path, start):
    """R12: what can never be scheduled is said, not waited for."""
    new_study(sqlite_url, settings(trials=2), clock=SystemClock()).close()
    out = end(start(sqlite_url, 2, gpus_per_trial=3))
    assert "a trial wants 3 GPU, but no node has more than 2" in out


def test_unreachable_cluster_is_one_line(sqlite_url):
    study = new_study(sqlite_url, settings(trials=2), clock=SystemClock())
    with pytest.raises(StudyError, match=r"cannot reach the Ray cluster at '127.0.0.1:1'"):
        run(study, RayExecutor(address="127.0.0.1:1", proxy=FakeProxy()))
    assert rows(study) == []
    study.close()
