"""Studies as things one keeps: renamed, deleted, written as tables, fed with designs."""

import json
from dataclasses import replace

import optuna
import pandas
import pytest
from doubles import CONDITIONAL, FakeProxy, driver, new_study, settings
from sqlalchemy import func, select

from backbones.errors import ConfigError
from nas.driver.clock import SystemClock
from nas.driver.enqueueing import enqueue, wishes
from nas.driver.keeping import contents, delete_study, rename_study
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StudyError
from nas.evidence.plateau import settled
from nas.executors.inline import InlineExecutor
from nas.report.tables import write_table
from nas.store import queries
from nas.store.tables import Architecture, Epoch, Run, Study
from nas.study.recipe import Recipe
from search_spaces.errors import SpaceError


def rows(study):
    mine = select(Run).where(Run.study_id == study.id).order_by(Run.proposal, Run.id)
    return study.store.read(lambda s: list(s.scalars(mine)))


def size_of(study, table):
    return study.store.read(lambda s: s.scalar(select(func.count()).select_from(table)))


def test_deleted_study_leaves_the_others_whole(url):
    """Designs that both have stay; Optuna's copy and the checkpoints go as well."""
    one, two = (new_study(url, settings(trials=3), name=n, clock=SystemClock()) for n in "ab")
    for study in (one, two):
        run(study, InlineExecutor(FakeProxy()))
    run(one, InlineExecutor(FakeProxy()), trials=5)
    (one.checkpoints / "left").mkdir(parents=True)
    held = contents("a", url)
    assert (held["trials"], held["ended"], held["epochs"]) == (5, 5, 15)
    assert held["best_score"] == max(r.score for r in rows(one))
    delete_study("a", url)
    assert not one.checkpoints.exists()
    assert len(rows(two)) == 3 and rows(one) == []
    assert (size_of(two, Study), size_of(two, Epoch), size_of(two, Architecture)) == (1, 9, 3)
    storage = two.store.url.render_as_string(hide_password=False)
    assert optuna.get_all_study_names(storage) == ["b"]
    with pytest.raises(StudyError, match="no study 'a'"):
        contents("a", url)
    for study in (one, two):
        study.close()


def test_study_that_is_trained_is_neither_deleted_nor_renamed(url):
    study = new_study(url, settings(trials=3), clock=SystemClock())
    work = driver(study)
    work.next()
    for forbidden in (lambda: delete_study("s", url), lambda: rename_study("s", "t", url)):
        with pytest.raises(StudyError, match=r"is being trained on .* stop that driver first"):
            forbidden()
    assert len(rows(study)) == 1
    work.close()
    study.close()


def test_renamed_study_goes_on_as_it_would_have(url):
    study = new_study(url, settings(trials=4), clock=SystemClock())
    run(study, InlineExecutor(FakeProxy()), trials=2)
    (study.checkpoints / "left").mkdir(parents=True)
    rename_study("s", "t", url)
    again = open_study("t", url)
    assert (again.checkpoints / "left").is_dir() and not study.checkpoints.exists()
    storage = study.store.url.render_as_string(hide_password=False)
    assert optuna.get_all_study_names(storage) == ["t"]
    assert len(optuna.load_study(study_name="t", storage=storage).trials) == 2
    run(again, InlineExecutor(FakeProxy()), trials=4)
    other = new_study(url, settings(trials=4), name="u", clock=SystemClock())
    run(other, InlineExecutor(FakeProxy()))
    assert [r.fingerprint for r in rows(study)] == [r.fingerprint for r in rows(other)]
    with pytest.raises(StudyError, match="study 'u' exists in this database"):
        rename_study("t", "u", url)
    with pytest.raises(StudyError, match="study name 'a b' must be up to 100 letters"):
        rename_study("t", "a b", url)
    for opened in (study, again, other):
        opened.close()


def test_enqueued_designs_are_trained_next(url, clock, tmp_path):
    """In a full study as well; what was tried before is named and not queued."""
    study = new_study(url, settings(CONDITIONAL, trials=3), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    design = tmp_path / "mine.yaml"
    other = new_study(url, settings(CONDITIONAL, trials=1, seed=7), name="o", clock=clock)
    run(other, InlineExecutor(FakeProxy()))
    config = other.store.read(lambda s: s.get_one(Architecture, rows(other)[-1].architecture_id))
    design.write_text(json.dumps(config.config))
    wide = tmp_path / "wide.yaml"
    stages = [{**stage, "width": 4 * stage["width"]} for stage in config.config["stages"]]
    letters = {"g": {"mixer": {"kind": "gated_conv", "expand": 1.0, "kernel": 3}}}
    stages = [{**stage, "pattern": "g"} for stage in stages]
    wide.write_text(json.dumps({**config.config, "blocks": letters, "stages": stages}))
    wanted = wishes([str(design), str(wide)], study.settings)
    first, fitted = enqueue(study, wanted)
    assert (first.trial, first.new, first.refitted) == (3, True, False)
    assert (fitted.trial, fitted.new, fitted.refitted) == (4, True, True)
    assert [r.state for r in rows(study)][3:] == ["waiting"] * 2
    last = run(open_study("s", url, clock=clock), InlineExecutor(FakeProxy()))
    assert last.complete and last.done == 5
    mine = rows(study)
    assert [(r.kind, r.state) for r in mine][3:] == [("enqueued", "complete")] * 2
    assert mine[3].fingerprint == config.fingerprint
    (again,) = enqueue(study, wanted[:1])
    assert (again.trial, again.new, again.state, again.score) == (
        3,
        False,
        "complete",
        mine[3].score,
    )
    for opened in (study, other):
        opened.close()


def test_wish_outside_of_the_space_is_refused_before_anything(sqlite_url, clock):
    study = new_study(sqlite_url, settings(CONDITIONAL), clock=clock)
    with pytest.raises(SpaceError, match="not in space conditional: stages: 4 of them"):
        wishes(["mambaout_femto"], study.settings)
    with pytest.raises(ConfigError, match=r"'mambout_femto' is neither .* 'mambaout_femto'"):
        wishes(["mambout_femto"], study.settings)
    study.close()


def test_table_of_a_study_holds_every_trial_and_starts_another(url, clock, tmp_path):
    study = new_study(url, settings(CONDITIONAL, trials=6), clock=clock)
    bad = FakeProxy(raises=lambda n, *_: TimeoutError("slow") if n == 2 else None)
    run(study, InlineExecutor(bad))
    trials = queries.trials("s", url)
    paths = {kind: tmp_path / f"t.{kind}" for kind in ("csv", "json", "parquet")}
    for kind, path in paths.items():
        write_table("s", trials, kind, path)
    tables = [pandas.read_csv(paths["csv"]), pandas.read_parquet(paths["parquet"])]
    for table in tables:
        assert list(table["trial"]) == list(range(len(trials)))
        assert table["score"].isna().sum() == 1 and table["state"][1] == "timeout"
        depths = [t["choices"]["depth"] for t in trials]
        assert list(table["choices.depth"]) == depths
    found = wishes([str(paths["json"])], study.settings)
    best = max((t for t in trials if t["score"] is not None), key=lambda t: t["score"])
    assert len(found) == 5
    more = new_study(url, settings(CONDITIONAL, trials=2), name="next", clock=clock)
    queued = enqueue(more, found)
    assert [one.new for one in queued] == [True] * 5
    run(more, InlineExecutor(FakeProxy()))
    ran = rows(more)
    assert ran[0].fingerprint == best["fingerprint"] and len(ran) == 5
    with pytest.raises(StudyError, match="unknown format 'xml' \\(known: csv, json, parquet\\)"):
        write_table("s", trials, "xml", None)
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "odd.json").write_text('[{"trial": 1}]')
    for name, says in (("bad", "holds no design"), ("odd", "is no table of designs")):
        with pytest.raises(StudyError, match=says):
            wishes([str(tmp_path / f"{name}.json")], study.settings)
    for opened in (study, more):
        opened.close()


def test_search_ends_when_the_best_moves_no_more_than_noise(url, clock):
    """Scores rise by what counting 1,000 images can tell, then by less: three in a row end it."""
    recipe = Recipe(dataset="digits", epochs=3, val_size=1000)
    study = new_study(url, settings(trials=30, recipe=recipe), clock=clock)
    scores = [0.30, 0.50, 0.70, *[0.70 + 0.001 * i for i in range(40)]]

    class Rising(FakeProxy):
        def __call__(self, config, recipe, **options):
            done = super().__call__(config, recipe, **options)
            return replace(done, score=scores[len(self.calls) - 1])

    place = study.place.model_copy(update={"patience": 3})
    last = run(replace(study, place=place), InlineExecutor(Rising()))
    assert last.complete and last.done == 6
    assert last.reason == (
        "the best score has not moved by 1.45 points, what 1000 validation images tell at best, "
        "for 3 candidates"
    )
    study.close()


def test_failures_count_as_trials_that_moved_nothing():
    recipe = Recipe(dataset="digits", epochs=3)
    assert settled([0.5, None, None], 2, recipe) is not None
    assert settled([None, None, None], 2, recipe) is None
    assert settled([0.5, None], 2, recipe) is None
    assert settled([0.5, None, 0.6], 2, recipe) is None
