"""Successive halving: who stops, and how it is recorded."""

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, settings
from sqlalchemy import select

from nas.driver.running import run
from nas.errors import StudyError
from nas.executors.inline import InlineExecutor
from nas.planning.pruning import Pruner, rungs
from nas.store.tables import Run


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch():
    assert rungs(1) == ()
    assert rungs(3) == (1,)
    assert rungs(10) == (1, 3, 9)


def test_only_the_best_third_goes_on():
    pruner = Pruner(10)
    assert not pruner.stops(1, 1, 0.1)  # too few to judge
    assert not pruner.stops(2, 1, 0.2)
    assert not pruner.stops(3, 1, 0.3)
    assert pruner.stops(4, 1, 0.05)
    assert not pruner.stops(5, 1, 0.9)
    assert not pruner.stops(5, 2, 0.0)  # no rung
    assert not pruner.stops(5, 3, 0.0)  # first at its rung


def test_pruned_trials_are_pruned_and_baselines_never(url, clock):
    made = settings(CONDITIONAL, trials=15, pruner="asha", warm_start="presets")
    study = new_study(url, made, clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    rows = study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal))))
    pruned = [r for r in rows if r.state == "pruned"]
    assert 5 <= len(pruned) < 15
    assert all(r.metrics["epochs"] == 1 and r.score < 1 for r in pruned)
    assert all(r.state == "complete" for r in rows if r.role == "baseline")
    import optuna

    url = study.store.url.render_as_string(hide_password=False)
    trials = optuna.load_study(study_name="s", storage=url).get_trials()
    states = [t.state.name.lower() for t in trials]
    assert states == [r.state for r in rows]
    study.close()


def test_continued_study_prunes_like_the_uninterrupted_one(tmp_path, clock):
    histories = []
    for name, steps in (("a", (14,)), ("b", (5, 9, 14))):
        made = settings(CONDITIONAL, trials=14, pruner="asha")
        study = new_study(f"sqlite:///{tmp_path}/{name}.db", made, clock=clock)
        for trials in steps:
            run(study, InlineExecutor(FakeProxy()), trials=trials)
        rows = study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal))))
        histories.append([(r.fingerprint, r.state, r.score) for r in rows])
        study.close()
    assert histories[0] == histories[1]


def test_unknown_pruner_is_refused():
    with pytest.raises(StudyError, match="pruner 'median': Input should be 'asha' or 'none'"):
        settings(pruner="median")
