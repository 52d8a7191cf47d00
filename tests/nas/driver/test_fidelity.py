"""A search's ranking against longer trainings, and what its choices do, from real rows."""

from dataclasses import replace
from random import Random

import pytest
from doubles import GRID, FakeProxy, new_study, score_of, settings

from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.driver.sampling import fidelity_of
from nas.errors import StudyError
from nas.evidence.findings import Fidelities
from nas.executors.inline import InlineExecutor
from nas.report.analyses import analyze_study, stages_of
from nas.report.comparisons import comparisons_view
from nas.report.html.facts import gather
from nas.store import comparisons, queries
from search_spaces import SearchSpace

DESIGNS = 6
TRIALS = 10


def searched(url, proxy=None, trials=TRIALS, **changes):
    study = new_study(url, settings(GRID, trials=trials, **changes), clock=SystemClock())
    run(study, InlineExecutor(proxy or FakeProxy()))
    return study


def ask(study, **more):
    options = {"designs": DESIGNS, "times": (4.0,)} | more
    asked = fidelity_of(study.store, study.id, study.settings.recipe, **options)
    study.compare(asked)
    return asked


def found(study, proxy):
    run(study, InlineExecutor(proxy))
    (held,) = queries.summary("s", str(study.store.url))["comparisons"]
    assert held["done"]
    return Fidelities.model_validate(held["found"])


class Turned(FakeProxy):
    """A longer training turns the ranking around."""

    def __call__(self, config, recipe, **facts):
        done = super().__call__(config, recipe, **facts)
        score = 1 - score_of(config.fingerprint()) if recipe.epochs > 3 else done.score
        return replace(done, score=score)


def test_sample_is_of_all_strata_and_trains_longer_with_the_searches_seed(sqlite_url):
    study = searched(sqlite_url)
    asked = ask(study)
    (one,) = found(study, FakeProxy()).longer
    assert (one.tau.value, one.regret.value, one.times_longer) == (1.0, 0.0, 4.0)
    assert (one.designs, one.epochs, one.settled) == (DESIGNS, 3, 1)
    rows = study.store.read(lambda s: comparisons.trained(s, study.id, "fidelity"))
    assert {r.recipe["epochs"] for r in rows} == {12} and {r.seed_index for r in rows} == {0}
    assert {r.fingerprint for r in rows} == {d.fingerprint for d in asked.designs}
    ranks = sorted((score_of(d.fingerprint) for d in asked.designs), reverse=True)
    assert ranks == [score_of(d.fingerprint) for d in asked.designs], "best stratum first"
    assert queries.summary("s", sqlite_url)["study"]["counts"]["complete"] == TRIALS + DESIGNS


def test_proxy_that_ranks_the_other_way_is_warned_about(sqlite_url):
    study = searched(sqlite_url)
    ask(study)
    (one,) = found(study, Turned()).longer
    assert one.tau.value == -1.0 and one.low and one.regret.value > 0
    said = comparisons_view(queries.summary("s", sqlite_url))
    assert any("may hardly rank at all" in str(part) for part in said)
    assert any("may hardly rank at all" in line for line in gather("s", sqlite_url).fidelity)


def test_too_few_candidates_have_no_ranking(sqlite_url):
    study = searched(sqlite_url, trials=3)
    with pytest.raises(StudyError, match=r"3 candidates .* 5 are needed: raise --designs"):
        ask(study)


def test_times_that_are_not_longer_are_refused(sqlite_url):
    study = searched(sqlite_url)
    with pytest.raises(StudyError, match="1 times 3 epochs are not longer"):
        ask(study, times=(1.0,))


class Planted(FakeProxy):
    """A kernel of 9 is worth five points; nothing else matters."""

    def __call__(self, config, recipe, **facts):
        done = super().__call__(config, recipe, **facts)
        noise = Random(config.fingerprint()).gauss(0, 0.005)
        kernel = next(iter(config.blocks.values())).mixer.kernel
        return replace(done, score=0.5 + 0.05 * (kernel == 9) + noise)


def test_planted_effect_is_found_in_a_studys_rows(sqlite_url):
    searched(sqlite_url, Planted(), trials=28, strategy="random")
    data = analyze_study("s", sqlite_url)
    factors = {f["factor"]: f for f in data["factors"]}
    assert factors["kernel"]["p_holm"] < 0.01 < factors["expand"]["p_holm"]
    effects = {e["level"]: e for e in factors["kernel"]["levels"]}
    nine = effects.get("9")
    if nine is not None:  # else it is the most frequent level, which the others are against
        assert nine["low"] < 0.05 < nine["high"]


def test_choices_of_one_stage_are_known():
    stages = stages_of(SearchSpace.load("vmamba"))
    assert stages["depth_1"] == 1 and stages["depth_3"] == 3 and "scan" not in stages
