"""A study from its start to its end, and again after every kind of end."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from doubles import (
    CONDITIONAL,
    EPOCHS,
    GRID,
    FakeClock,
    FakeProxy,
    driver,
    new_study,
    score_of,
    settings,
)
from sqlalchemy import func, select

from nas.driver.progress import (
    EpochDone,
    Notice,
    Replayed,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialRequeued,
    TrialStarted,
)
from nas.driver.running import run
from nas.driver.studies import create_study, open_study, start
from nas.errors import StoreError, StudyError
from nas.executors.inline import InlineExecutor
from nas.executors.rerun import rerun_trial
from nas.store import leases, runs
from nas.store.session import open_store
from nas.store.tables import Architecture, Environment, Epoch, Run
from nas.store.tables import Study as StudyRow
from nas.study.attempts import LeaseLost
from nas.study.outcomes import NanLoss, Outcome
from nas.study.place import Place
from nas.study.proposals import NewProposal
from nas.study.settings import DEFAULT_STRATEGY, Settings
from search_spaces import SearchSpace, SpaceError


def go(study, proxy=None, **options):
    """Run a study to its end; returns (last event, all events)."""
    events = []
    last = run(study, InlineExecutor(proxy or FakeProxy()), events.append, **options)
    return last, events


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.id))))


def history(study):
    """What must be equal between a study that was interrupted and one that was not."""
    return [
        (r.trial_number, r.proposal, r.role, r.kind, r.fingerprint, r.seed, r.state, r.score)
        for r in sorted(rows(study), key=lambda r: r.proposal)
        if r.newest
    ]


def optuna_trials(study):
    url = study.store.url.render_as_string(hide_password=False)
    return optuna.load_study(study_name=study.name, storage=url).get_trials()


def of(kind, events):
    return [e for e in events if isinstance(e, kind)]


def test_study_trains_the_wanted_candidates(url):
    study = new_study(url, settings(trials=6, seed=1))
    last, events = go(study)
    assert (last.done, last.complete) == (6, True)
    assert last == events[-1]
    made = rows(study)
    assert [r.trial_number for r in made] == list(range(6))
    assert all(r.state == "complete" and r.told for r in made)
    assert all(r.score == score_of(r.fingerprint) for r in made)
    assert len({r.fingerprint for r in made}) == 6
    epochs = study.store.read(lambda s: s.scalar(select(func.count()).select_from(Epoch)))
    assert epochs == 6 * EPOCHS
    assert last.best_score == max(r.score for r in made)
    assert of(TrialFinished, events)[-1].done == 6
    assert not list(study.checkpoints.glob("*"))
    study.close()


def test_optuna_reads_the_study_as_any_other(url):
    study = new_study(url, settings(CONDITIONAL, trials=8))
    go(study)
    trials = optuna_trials(study)
    made = rows(study)
    assert [t.number for t in trials] == [r.trial_number for r in made]
    assert all(t.state == optuna.trial.TrialState.COMPLETE for t in trials)
    for trial, row in zip(trials, made):
        assert trial.value == row.score
        assert trial.params == row.params
        assert trial.user_attrs["fingerprint"] == row.fingerprint
    study.close()


def test_baselines_come_first_and_do_not_count(sqlite_url):
    study = new_study(sqlite_url, settings(CONDITIONAL, trials=3, warm_start="presets"))
    last, events = go(study)
    made = rows(study)
    assert [(r.role, r.label) for r in made] == [
        ("baseline", "mambaout_femto"),
        *[("candidate", None)] * 3,
    ]
    assert last.done == 3
    assert of(StudyStarted, events)[0].baselines == 1
    study.close()


def test_baseline_out_of_reach_is_said_and_passed_over(sqlite_url, monkeypatch):
    from nas.study.budget import parse_budget

    tight = parse_budget(["1.0000-1.0001MFLOPs"])
    study = new_study(sqlite_url, settings(CONDITIONAL, trials=1))
    object.__setattr__(study.settings, "warm_start", "presets")
    events = []
    work = driver(study, events.append)
    monkeypatch.setattr(
        work.proposing.planner, "settings", settings(CONDITIONAL, trials=1, budget=tight)
    )
    assert work.proposing.next_baseline() is None
    assert "no baseline mambaout_femto: no width reaches" in of(Notice, events)[0].text
    work.close()
    study.close()


def test_more_trials_continue_the_study(url):
    study = new_study(url, settings(trials=3))
    go(study)
    study.close()
    again = open_study("s", url)
    proxy = FakeProxy()
    last, _ = go(again, proxy, trials=7)
    assert (last.done, last.trials) == (7, 7)
    assert len(proxy.calls) == 4
    assert open_study("s", url).settings.trials == 7
    again.close()


def test_finished_study_has_nothing_to_do(sqlite_url):
    study = new_study(sqlite_url, settings(trials=3))
    go(study)
    proxy = FakeProxy()
    last, _ = go(study, proxy)
    assert last.complete and proxy.calls == []
    study.close()


def test_study_keeps_its_strategy_where_no_other_is_asked_for():
    """The default was another one once: such a study goes on."""
    stored, asked = settings(strategy="evolution"), settings()
    chosen = {name: getattr(asked, name) for name in asked.model_fields_set - {"strategy"}}
    assert stored.difference(Settings.of(**chosen)) is None
    assert Settings.of(**chosen).strategy == DEFAULT_STRATEGY == "surrogate"
    assert stored.difference(Settings.of(**chosen, strategy="surrogate")) is not None


@pytest.mark.parametrize("strategy", ["evolution", "tpe", "nsga2", "random", "grid", "surrogate"])
def test_interrupted_study_ends_like_the_uninterrupted_one(tmp_path, strategy):
    """R11: resume goes on exactly as the first driver would have."""
    whole = new_study(f"sqlite:///{tmp_path}/a.db", settings(trials=14, strategy=strategy))
    go(whole)
    url = f"sqlite:///{tmp_path}/b.db"
    parts = new_study(url, settings(trials=14, strategy=strategy))
    for trials in (4, 9, 14):
        go(parts, trials=trials)
        parts.close()
        parts = open_study("s", url, clock=FakeClock())
    assert history(parts) == history(whole)
    for study in (whole, parts):
        study.close()


def test_space_that_is_exhausted_ends_the_study(sqlite_url):
    """R4: as many trainings as distinct designs; repeats are answered from the store."""
    study = new_study(sqlite_url, settings(GRID, trials=300, strategy="tpe"))
    proxy = FakeProxy()
    last, events = go(study, proxy)
    made = rows(study)
    trained = [r for r in made if r.role == "candidate"]
    assert len(proxy.calls) == len(trained) == len({r.fingerprint for r in made}) == 32
    replays = [r for r in made if r.role == "replay"]
    assert len(of(Replayed, events)) == len(replays) > 0
    assert all(r.score == score_of(r.fingerprint) and r.state == "complete" for r in replays)
    assert last.complete and "all proposals have been trained" in last.reason
    assert len(optuna_trials(study)) == len(made)
    study.close()


def test_row_costs_are_in_the_budget(sqlite_url):
    """R5: no row of any state has a cost outside of the band."""
    study = new_study(sqlite_url, settings(CONDITIONAL, trials=12))
    go(study)
    for trial in optuna_trials(study):
        assert 80e6 <= trial.user_attrs["flops"] <= 100e6
    study.close()


def test_unreachable_budget_is_refused_before_any_row(sqlite_url, tmp_path):
    """R5: an unreachable band is an error that names the nearest cost, and leaves no trace."""
    from kernels.errors import ScanNASError
    from nas.study.budget import parse_budget

    with pytest.raises(ScanNASError, match="no width reaches"):
        new_study(sqlite_url, settings(budget=parse_budget(["1KFLOPs"])))
    assert list(tmp_path.iterdir()) == []


def test_blame_is_sought_once_for_a_refusal(monkeypatch):
    """R5: the error comes within seconds: what binds is sought for the design it names alone."""
    from nas.planning.proposals import Planner
    from nas.study.budget import parse_budget

    plain, asked = SearchSpace._binding, []

    def binding(self, *args):
        asked.append(args)
        return plain(self, *args)

    monkeypatch.setattr(SearchSpace, "_binding", binding)
    made = settings(CONDITIONAL, budget=parse_budget(["1KFLOPs"]))
    with pytest.raises(SpaceError) as caught:
        Planner("s", made, None).candidate()
    assert asked == []
    assert "no width reaches" in str(caught.value) and str(caught.value) == str(caught.value)
    assert len(asked) == 1


def test_refused_search_with_a_name_leaves_no_trace_either(sqlite_url, tmp_path, no_data):
    from kernels.errors import ScanNASError
    from nas.study.budget import parse_budget

    with pytest.raises(ScanNASError, match="no width reaches"):
        start("mine", sqlite_url, settings(budget=parse_budget(["1KFLOPs"])))
    assert list(tmp_path.iterdir()) == []


# --- outcomes ----------------------------------------------------------------------------------


def failing(outcomes):
    """A proxy whose n-th training (from 1) raises what `outcomes` maps n to."""
    return FakeProxy(raises=lambda n, fingerprint, recipe: outcomes.get(n))


def test_outcomes_are_told_apart(url):
    study = new_study(url, settings(trials=6, seed=1))
    errors = {
        2: NanLoss("loss is nan in epoch 1"),
        3: RuntimeError("CUDA out of memory"),
        4: RuntimeError("CUDA out of memory"),
        5: TimeoutError("too slow"),
        6: ValueError("shapes differ"),
        9: ValueError("shapes differ"),  # 7 is the canary, 8 the next candidate
    }
    last, _ = go(study, failing(errors))
    assert last.done == 6
    assert [r.state for r in rows(study) if r.newest] == [
        "complete",
        "nan",
        "oom",
        "timeout",
        "error",
        "complete",
    ]
    (error,) = [r for r in rows(study) if r.state == "error" and r.newest]
    assert error.error == "ValueError: shapes differ"
    assert "Traceback" in error.traceback and "doubles.py" in error.traceback
    states = [t.state.name for t in optuna_trials(study)]
    assert states == ["COMPLETE", "FAIL", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert optuna_trials(study)[1].user_attrs["outcome"] == "nan"
    study.close()


def test_out_of_memory_is_tried_again_once_at_half_batch(url):
    study = new_study(url, settings(trials=1))
    proxy = FakeProxy(
        raises=lambda n, f, recipe: MemoryError("no room") if recipe.accumulate == 1 else None
    )
    _, events = go(study, proxy)
    first, second = rows(study)
    assert (first.state, first.newest, first.attempt) == ("oom", False, 1)
    assert (second.state, second.halvings, second.attempt) == ("complete", 1, 2)
    assert (second.seed, second.fingerprint) == (first.seed, first.fingerprint)
    assert first.trial_number == second.trial_number == 0
    assert [c[2] for c in proxy.calls] == [1, 2]
    assert "half the batch" in of(TrialRequeued, events)[0].reason
    assert len(optuna_trials(study)) == 1
    study.close()


def test_first_trials_that_all_fail_stop_the_study(url):
    study = new_study(url, settings(trials=10))
    proxy = FakeProxy(raises=lambda *_: ValueError("no such file: cats"))
    last, _ = go(study, proxy)
    assert not last.complete and last.done == 0
    assert "3 trials in a row failed, and a known design fails on" in last.reason
    assert "no such file: cats" in last.reason
    assert len(proxy.calls) == 6  # each with its canary
    last, _ = go(study)  # mended: goes on
    assert last.done == 10
    study.close()


def test_slow_trial_is_ended_at_its_limit(sqlite_url):
    study = new_study(sqlite_url, settings(trials=1), trial_timeout_s=0.05)
    go(study, FakeProxy(seconds=0.1))
    (row,) = rows(study)
    assert (row.state, row.error) == ("timeout", "not finished within 0.05 s")
    study.close()


def test_time_limit_starts_nothing_new(sqlite_url):
    clock = FakeClock()
    study = new_study(sqlite_url, settings(trials=10), clock=clock, timeout_s=25.0)

    def later(n, *_):
        clock.time += 10

    last, _ = go(study, FakeProxy(raises=later))
    assert "time limit of 25 s" in last.reason
    assert 1 <= last.done < 10
    study.close()


def test_damaged_checkpoint_does_not_cost_the_trial(sqlite_url):
    study = new_study(sqlite_url, settings(trials=1))

    def damaged(n, *_):
        folder = next(study.checkpoints.glob("*"), None)
        if folder is not None and (folder / "bad").exists():
            return StudyError("checkpoint 'x' cannot be read")
        return None

    work = driver(study)
    task = work.next()
    folder = Path(task.checkpoint)
    folder.mkdir(parents=True)
    (folder / "bad").write_text("")
    work.release(task, "test")
    work.close()
    go(study, FakeProxy(raises=damaged))
    (row,) = rows(study)
    assert row.state == "complete"
    assert "trained from the start, since checkpoint 'x'" in row.metrics["notes"][0]
    study.close()


def test_lost_lease_in_mid_training_is_no_result(sqlite_url):
    study = new_study(sqlite_url, settings(trials=1))
    stolen = []

    def steal(n, *_):
        if not stolen:
            stolen.append(True)
            study.store.write(
                lambda s: s.execute(
                    Run.__table__.update().values(lease_owner="thief", lease_token=9)
                )
            )
            study.clock.time += 100  # the thief says nothing for longer than its lease

    last, events = go(study, FakeProxy(raises=steal))
    assert "no longer belongs" in of(Notice, events)[0].text
    assert [r.state for r in rows(study)] == ["lost", "complete"]
    assert last.done == 1
    study.close()


def test_rerun_reproduces_the_score(url):
    """R11: a trial run again alone gives the same score."""
    study = new_study(url, settings(trials=3))
    go(study)
    study.close()
    again = rerun_trial("s", url, 1, proxy=FakeProxy())
    assert again.same and again.score == again.recorded and again.outcome == "complete"
    with pytest.raises(StudyError, match="has no trial 99"):
        rerun_trial("s", url, 99, proxy=FakeProxy())


def test_rerun_of_a_pruned_trial_ends_where_it_did(sqlite_url):
    study = new_study(sqlite_url, settings(trials=12, pruner="asha"))
    go(study)
    (pruned, *_) = [r for r in rows(study) if r.state == "pruned"]
    study.close()
    again = rerun_trial("s", sqlite_url, pruned.trial_number, proxy=FakeProxy())
    assert (again.outcome, again.score, again.same) == ("pruned", pruned.score, True)


def test_objectives_are_stored_and_told(url):
    study = new_study(url, settings(trials=4, objectives=("top1", "flops"), strategy="nsga2"))
    go(study)
    for row, trial in zip(rows(study), optuna_trials(study)):
        assert trial.values == row.objectives == [row.score, trial.user_attrs["flops"]]
    study.close()


# --- names, settings, mistakes -----------------------------------------------------------------


def test_names_are_readable_and_unique(sqlite_url):
    names = []
    for _ in range(3):
        study = create_study(settings(), sqlite_url, check_data=False)
        names.append(study.name)
        study.close()
    assert names == ["grid-80-100MFLOPs", "grid-80-100MFLOPs-2", "grid-80-100MFLOPs-3"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 101])
def test_odd_name_is_refused(sqlite_url, tmp_path, name):
    with pytest.raises(StudyError, match="study name"):
        create_study(settings(), sqlite_url, name=name, check_data=False)
    assert list(tmp_path.iterdir()) == []


def test_unknown_study_names_the_nearest(sqlite_url):
    new_study(sqlite_url, settings(), name="mine").close()
    with pytest.raises(StudyError, match=r"no study 'mina'.*did you mean 'mine'"):
        open_study("mina", sqlite_url)
    with pytest.raises(StudyError, match="`studies` lists them"):
        open_study("ghost", sqlite_url)


def test_study_of_another_program_is_not_taken_over(sqlite_url, tmp_path):
    open_store(sqlite_url, create=True).close()
    optuna.create_study(study_name="theirs", storage=sqlite_url)
    with pytest.raises(StudyError, match="made by another program"):
        create_study(settings(), sqlite_url, name="theirs", check_data=False)


@pytest.fixture
def no_data(monkeypatch):
    """Let `start` make studies without looking at a data set."""
    from nas.training.data import catalog as datasets

    monkeypatch.setattr(datasets, "check_data", lambda recipe: None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 5}, "seed is 0, you ask for 5"),
        ({"strategy": "tpe"}, "strategy is evolution, you ask for tpe"),
        ({"image_size": 96}, "image size is 64, you ask for 96"),
        ({"space": CONDITIONAL}, "space 'grid' differs"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_study_made_otherwise_is_not_continued(sqlite_url, no_data, change, says):
    start("s", sqlite_url, settings()).close()
    with pytest.raises(StudyError, match=says):
        start("s", sqlite_url, settings(**change))


def test_search_continues_a_study_of_the_same_settings(sqlite_url, no_data):
    first = start("s", sqlite_url, settings(trials=3))
    go(first)
    first.close()
    again = start("s", sqlite_url, settings(trials=5))
    assert again.continued
    last, _ = go(again)
    assert last.done == 5
    again.close()


def test_search_that_states_no_number_keeps_the_number(sqlite_url, no_data):
    """The same `search --study s` again, or on a second machine, does not reset the total."""
    start("s", sqlite_url, settings(trials=20)).close()
    same = settings().to_dict() | {"budget": settings().budget, "recipe": settings().recipe}
    again = start("s", sqlite_url, Settings.of(space=settings().space, **same))
    last, _ = go(again)
    assert (again.settings.trials, last.trials, last.done) == (20, 20, 20)
    again.close()


def test_running_driver_follows_a_new_number(sqlite_url):
    study = new_study(sqlite_url, settings(trials=2))
    other = open_study("s", sqlite_url)

    def raise_it(n, *_):
        if n == 2:
            other.want(5)

    last, _ = go(study, FakeProxy(raises=raise_it))
    assert (last.done, last.trials, last.complete) == (5, 5, True)
    other.close()
    study.close()


def test_place_of_a_run_is_honoured_on_continuing(sqlite_url, no_data):
    first = start("s", sqlite_url, settings(), Place(device="cpu", timeout_s=60.0))
    first.close()
    again = start("s", sqlite_url, settings(), Place(data_dir="/there", trial_timeout_s=0.05))
    assert (again.place.timeout_s, again.place.data_dir) == (60.0, "/there")
    work = driver(again)
    task = work.next()
    assert (task.recipe["data_dir"], task.timeout_s) == ("/there", 0.05)
    work.close()
    again.close()
    assert open_study("s", sqlite_url).place.data_dir is None  # of that run alone


@pytest.mark.parametrize("stated", [{"device": "cuda"}, {"backend": "numba"}], ids=str)
def test_study_is_not_continued_on_other_hardware(sqlite_url, no_data, stated):
    start("s", sqlite_url, settings(), Place(device="cpu")).close()
    (key,) = stated
    with pytest.raises(StudyError, match=f"{key} is [a-z]+, you ask for {stated[key]}; scores of"):
        start("s", sqlite_url, settings(), Place(**stated))


def test_scores_of_other_kernels_are_not_mixed_silently(sqlite_url):
    study = new_study(sqlite_url, settings(trials=1))
    go(study)

    class Elsewhere(FakeProxy):
        def __call__(self, *args, **options):
            return replace(super().__call__(*args, **options), backend="numba")

    _, events = go(study, Elsewhere(), trials=3)
    (notice,) = of(Notice, events)
    assert "trial 1 was scored by numba on cpu, trials before it by reference on cpu" in notice.text
    study.close()


def test_equal_names_in_two_databases_have_checkpoints_of_their_own(tmp_path, clock):
    """A driver sweeps what ended trials left, and nothing of a study that it does not know."""
    first, second = (
        new_study(f"sqlite:///{tmp_path}/{name}.db", settings(trials=1), clock=clock)
        for name in "ab"
    )
    assert first.checkpoints != second.checkpoints
    live = first.checkpoints / "live"
    live.mkdir(parents=True)
    go(second)
    assert live.exists()
    again = open_study("s", f"sqlite:///{tmp_path}/a.db")
    assert again.checkpoints == first.checkpoints
    for study in (first, second, again):
        study.close()


def test_run_says_where_it_ran(url):
    study = new_study(url, settings(trials=1))
    go(study)
    (row,) = rows(study)
    assert row.node == socket.gethostname()
    assert row.scores == {"top1": row.score, "loss": 1.0}
    facts = study.store.read(lambda s: s.get_one(Environment, row.environment_id).facts)
    assert facts["host"] == row.node and facts["versions"]["torch"]
    assert row.progress_at == study.clock.now()
    study.close()


def test_confirmation_is_trained_like_any_other_and_teaches_the_strategy_nothing(url):
    """Another stage's rows have their index; their scores are not those of the search."""

    class Flattering(FakeProxy):
        def __call__(self, config, recipe, **options):
            done = super().__call__(config, recipe, **options)
            return done if recipe.epochs == EPOCHS else replace(done, score=2.0)

    mixed = new_study(url, settings(trials=4))
    go(mixed)
    best = max(rows_of(mixed), key=lambda r: r.score)
    design = mixed.store.read(lambda s: s.get_one(Architecture, best.architecture_id))
    recipe = mixed.settings.recipe.model_copy(update={"epochs": EPOCHS + 2})
    for index in range(2):
        new = NewProposal(
            index=4 + index,
            role="confirmation",
            kind="confirmation",
            fingerprint=best.fingerprint,
            config=design.config,
            flops=design.flops,
            params_count=design.params,
            convention=design.convention,
            image_size=design.image_size,
            params=best.params,
            choices=best.choices,
            seed=mixed.settings.training_seed(best.fingerprint, index),
            seed_index=index,
            recipe=recipe.to_dict(),
            recipe_id=recipe.fingerprint(),
        )
        made = mixed.store.write(
            lambda s, new=new: runs.propose(s, mixed.id, new, "nobody", 0.0, {"device": "cpu"})
        )
        mixed.store.write(lambda s, made=made: leases.release(s, runs.lease_of(made)))
    proxy = Flattering()
    last, _ = go(mixed, proxy, trials=9)
    made = [r for r in rows_of(mixed) if r.role != "replay"]
    assert [r.state for r in made] == ["complete"] * 11 and len(proxy.calls) == 7
    confirmed = [r for r in made if r.role == "confirmation"]
    assert [(r.metrics["epochs"], r.score) for r in confirmed] == [(EPOCHS + 2, 2.0)] * 2
    assert len({r.seed for r in confirmed}) == 2
    searched = [r for r in made if r.role == "candidate"]
    assert len({r.fingerprint for r in searched}) == 9 == last.done
    assert last.best_score == max(r.score for r in searched) < 1
    work = driver(mixed)
    work.next()
    known = work.proposing.planner.history.trials
    assert [t.values for t in known][: len(rows_of(mixed))] == [
        None if r.role == "confirmation" else [r.score] for r in rows_of(mixed)
    ]
    work.close()
    mixed.close()


def rows_of(study):
    mine = select(Run).where(Run.study_id == study.id).order_by(Run.proposal)
    return study.store.read(lambda s: list(s.scalars(mine)))


def test_many_machines_may_begin_one_study_at_once(url, no_data):
    """The same `search --study` on six machines: one makes the study, the others join it."""
    import threading

    found, errors = [], []

    def begin():
        try:
            study = start("s", url, settings(trials=3))
            found.append(study.id)
            study.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == 6 and len(set(found)) == 1


def test_changed_space_file_is_refused_with_the_difference(sqlite_url, tmp_path, no_data):
    """R7: a study does not go on under a space that says something else."""
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    loaded = {"space": SearchSpace.load(path), "space_source": str(path)}
    made = settings().model_copy(update=loaded)
    start("s", sqlite_url, made).close()
    open_study("s", sqlite_url).close()
    path.write_text(GRID.replace("[3, 5, 7, 9]", "[3, 5, 7]"))
    with pytest.raises(StudyError, match=r"grid\.yaml has changed since study 's' began.*kernel"):
        open_study("s", sqlite_url)
    path.unlink()  # the study holds its own copy
    open_study("s", sqlite_url).close()


def test_settings_survive_the_database(url):
    made = settings(trials=4, seed=3)
    new_study(url, made, trial_timeout_s=9.0).close()
    study = open_study("s", url)
    assert study.settings.difference(made) is None
    assert study.settings.to_dict() == made.to_dict()
    assert (study.settings.trials, study.settings.seed) == (4, 3)
    assert study.place.trial_timeout_s == 9.0
    study.close()


def test_stored_row_says_what_the_study_is(sqlite_url):
    study = new_study(sqlite_url, settings(trials=4))
    row = study.store.read(lambda s: s.scalars(select(StudyRow)).one())
    assert json.loads(json.dumps(row.settings))["budget"]["text"] == ["80-100MFLOPs"]
    assert (row.space_name, row.space_version) == ("grid", "1")
    assert "Eight times four" in row.space_text
    study.close()


def test_database_without_studies_says_so(tmp_path):
    with pytest.raises(StoreError, match="no database at"):
        open_study("s", f"sqlite:///{tmp_path}/none.db")


def test_progress_tells_the_whole_story(sqlite_url):
    study = new_study(sqlite_url, settings(trials=2))
    _, events = go(study)
    kinds = [type(e).__name__ for e in events]
    one = ["TrialStarted", *["EpochDone"] * EPOCHS, "TrialFinished"]
    assert kinds == ["StudyStarted", *one, *one, "StudyFinished"]
    assert of(TrialStarted, events)[0].epochs == EPOCHS
    assert of(EpochDone, events)[0].metrics["val_top1"] > 0
    assert of(StudyFinished, events)[0].reason == "2 of 2 candidates are done"
    assert of(TrialFinished, events)[0].outcome is Outcome.COMPLETE
    assert issubclass(LeaseLost, Exception)
    study.close()
