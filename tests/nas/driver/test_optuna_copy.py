"""Optuna's copy: behind after any accident, never ahead, and right after the next pass."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from doubles import CONDITIONAL, EpochMetrics, FakeProxy, driver, new_study, score_of, settings
from sqlalchemy import Engine, event, select

from nas.driver import optuna_copy
from nas.driver.optuna_copy import EVERY_S, open_optuna, sync
from nas.driver.progress import Notice
from nas.driver.running import run
from nas.errors import StoreError
from nas.executors.inline import InlineExecutor
from nas.store import runs
from nas.store.tables import Run
from nas.study.attempts import Attempt, Result
from nas.study.outcomes import Outcome

HERE = Path(__file__).parent
# Statements of a trial of three epochs, transactions begun and pragmas included. One a step is
# what remains: proposal, three epochs, result, and a replay in some. Optuna's tables take 60 more.
MOST_STATEMENTS = 25


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


def url_of(study):
    return study.store.url.render_as_string(hide_password=False)


def copied(study):
    """The trials as Optuna's tools see them."""
    return optuna.load_study(study_name=study.name, storage=url_of(study)).get_trials()


def copy(study):
    return sync(study.store, study.id, study.name, study.settings)


def check_equal(study):
    found = [(t.number, t.value, t.user_attrs["fingerprint"]) for t in copied(study)]
    assert found == [(r.trial_number, r.score, r.fingerprint) for r in rows(study) if r.newest]
    assert all(r.told for r in rows(study))


def finish(work, task):
    score = score_of(task.fingerprint)
    work.finish(task, Result(Outcome.COMPLETE, score=score, objectives=(score,), metrics={}))


@pytest.fixture
def study(url, clock):
    study = new_study(url, settings(trials=4), clock=clock)
    yield study
    study.close()


def test_three_epoch_trial_needs_few_statements(study):
    """No step of a trial writes Optuna's tables; they are brought up to date now and then."""
    study.store.write(lambda s: runs.change_study(s, study.id, trials=12))
    work, said = driver(study, trials=12), []

    def note(connection, cursor, statement, *rest):
        said.append(statement)

    def train(task):
        for epoch in (1, 2, 3):
            work.epoch(task, EpochMetrics(epoch, 3, 1.0, 1.0, 0.5, 0.1))
        finish(work, task)

    train(work.next())
    event.listen(Engine, "before_cursor_execute", note)
    for _ in range(5):
        train(work.next())
    event.remove(Engine, "before_cursor_execute", note)
    assert not [s for s in said if " trial" in s and "nas_" not in s]
    assert len(said) / 5 <= MOST_STATEMENTS
    work.close()


def test_copy_is_brought_up_to_date_now_and_then(study):
    work = driver(study)
    finish(work, work.next())
    assert not study.store.read(lambda s: s.scalars(select(Run.told)).one())
    study.clock.time += EVERY_S
    finish(work, work.next())
    check_equal(study)
    work.close()


def test_numbers_are_those_of_the_rows_whatever_ends_first(study):
    """One that runs is shown when a later one has ended, and finished when it has."""
    work = driver(study)
    first, second, third = (work.next() for _ in range(3))
    finish(work, second)
    assert copy(study) == 2
    assert [t.state.name for t in copied(study)] == ["RUNNING", "COMPLETE"]
    assert copied(study)[1].value == score_of(second.fingerprint)
    finish(work, third)
    finish(work, first)
    assert copy(study) == 2 and copy(study) == 0
    check_equal(study)
    work.close()


def test_failed_and_lost_trials_say_how_they_ended(study):
    for _ in range(3):
        dying = driver(study)
        dying.next()
        study.clock.dead.add(dying.owner)
        dying.close()
    work = driver(study)
    task = work.next()
    work.finish(task, Result(Outcome.NAN, objectives=(0.0,), error="loss is nan"))
    copy(study)
    found = [(t.state.name, t.user_attrs["outcome"]) for t in copied(study)]
    assert found == [("FAIL", "lost"), ("FAIL", "nan")]
    work.close()


def test_trial_that_an_earlier_version_left_running_is_finished(study):
    """It made every trial at its proposal."""
    work = driver(study)
    task = work.next()
    one = optuna.create_study(study_name="s", storage=url_of(study), direction="maximize").ask()
    one.set_user_attr("fingerprint", task.fingerprint)
    finish(work, task)
    assert copy(study) == 1
    check_equal(study)
    work.close()


def test_death_between_copy_and_note_is_mended(study, monkeypatch):
    run(study, InlineExecutor(FakeProxy()))

    class Killed(BaseException):
        pass

    def die(*args, **options):
        raise Killed

    optuna.delete_study(study_name="s", storage=url_of(study))
    monkeypatch.setattr(optuna_copy, "_BATCH", 2)
    with monkeypatch.context() as dying, pytest.raises(Killed):
        dying.setattr(optuna_copy.runs, "mark_copied", die)
        copy(study)
    assert len(copied(study)) == 2
    copy(study)
    check_equal(study)


def test_copy_that_another_program_deleted_is_made_again(study):
    run(study, InlineExecutor(FakeProxy()))
    optuna.delete_study(study_name="s", storage=url_of(study))
    run(study, InlineExecutor(FakeProxy()), trials=6)
    check_equal(study)


def test_copy_that_is_wrong_and_ours_alone_is_made_again(study):
    run(study, InlineExecutor(FakeProxy()), trials=2)
    with open_optuna(study.store) as storage:
        twin = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(1, 0))
        storage.create_new_trial(1, twin)
    run(study, InlineExecutor(FakeProxy()), trials=4)
    check_equal(study)


def test_trials_of_another_program_are_left_alone_and_end_no_search(study):
    run(study, InlineExecutor(FakeProxy()), trials=2)
    optuna.load_study(study_name="s", storage=url_of(study)).ask()
    events = []
    last = run(study, InlineExecutor(FakeProxy()), events.append, trials=4)
    assert last.complete and last.done == 4
    (notice,) = [e.text for e in events if isinstance(e, Notice)]
    assert "holds trials of another program (trial 2)" in notice
    assert "`optuna delete-study`" in notice
    with pytest.raises(StoreError, match="another program"):
        copy(study)
    assert len(copied(study)) == 3
    optuna.delete_study(study_name="s", storage=url_of(study))
    copy(study)
    check_equal(study)


def test_processes_that_copy_at_once_make_one_copy(url, clock):
    """Six processes, one study: each trial is added once, in the order of the numbers."""
    study = new_study(url, settings(CONDITIONAL, trials=30), clock=clock)
    work = driver(study)
    while isinstance(task := work.next(), Attempt):
        finish(work, task)
    work.close()
    code = (
        f"import sys; sys.path[:0] = [{str(HERE.parents[2])!r}]\n"
        "from nas.driver.studies import open_study\n"
        "from nas.driver.optuna_copy import sync\n"
        f"s = open_study('s', {url_of(study)!r})\n"
        "input(); print(sync(s.store, s.id, s.name, s.settings))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) for _ in range(6)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert sorted(int(out) for out, _ in said) == [0] * 5 + [len(rows(study))], said
    check_equal(study)
    study.close()
