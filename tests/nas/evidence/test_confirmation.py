"""From confirmed scores to a verdict, and what it says."""

import json
import subprocess
import sys

import numpy as np
import pytest
from score_tables import designs, table

from nas.errors import StudyError
from nas.evidence.ablation import decide
from nas.evidence.confirmation import judge
from nas.evidence.intervals import holm, may_be_best, smallest_detectable
from nas.evidence.paired import Design, fit
from nas.evidence.quantiles import Family
from nas.evidence.verdict import Verdict, sentences


def confirmed(lift=0.0, seed=0, candidates=3, baselines=2, **given):
    of = designs(candidates, baselines)
    x = 0.85 + 0.03 * np.random.default_rng(seed).normal(size=(len(of), 5))
    x[0] += lift
    return table(of, x, **given)


def test_a_clear_winner_is_better_than_all_and_exported():
    v = judge(confirmed(lift=0.5), unit="percent")
    assert (v.leader, v.chosen, v.may_be_best) == ("c0", "c0", ("c0",))
    assert [c.other for c in v.comparisons][:2] == ["b0", "b1"]
    assert v.beats_all
    assert sentences(v)[-1] == "the search found a design better than b0 and b1"
    assert v.contender("c0").gap_low == 0  # Hsu's bound: it is the best


def test_equal_designs_are_not_told_apart_and_the_cheapest_is_exported():
    v = judge(confirmed(seed=3), unit="percent")
    assert {c.word for c in v.comparisons} == {"not distinguishable"}
    assert v.may_be_best == ("b0", "b1", "c0", "c1", "c2")
    assert v.chosen == "b0"
    assert not v.beats_all
    assert sentences(v)[-1] == "the search did not beat the published designs"


def test_a_search_that_lost_says_so():
    of = designs(2, 2)
    x = 0.8 + 0.01 * np.random.default_rng(0).normal(size=(4, 5))
    x[2] += 0.2
    v = judge(table(of, x), unit="percent")
    assert v.comparisons[0].word == "worse"
    assert v.chosen == "b0"
    assert sentences(v)[-1].startswith("the search did not beat the published designs; c")
    assert sentences(v)[-1].endswith("is worse than b0")


def test_the_cheaper_of_two_that_may_be_best_is_compared_as_well():
    of = [
        Design(name="dear", params=9),
        Design(name="cheap", params=1),
        Design(name="old", role="baseline", params=5),
    ]
    noise = 0.01 * np.random.default_rng(1).normal(size=(3, 5))
    v = judge(table(of, np.array([[0.902], [0.90], [0.7]]) + noise), unit="percent")
    assert (v.leader, v.chosen) == ("dear", "cheap")
    assert [(c.design, c.other, c.word) for c in v.chosen_comparisons] == [
        ("cheap", "old", "better")
    ]


def test_a_design_with_a_failed_run_is_compared_but_never_the_best():
    v = judge(confirmed(lift=0.5, failed={("c0", 2)}), unit="percent")
    assert v.leader != "c0"
    assert "c0" not in v.may_be_best
    assert "c0: 1 of 5 runs failed, so it is not called the best" in sentences(v)


def test_a_baseline_of_which_all_runs_failed_is_not_compared():
    failed = {("b0", s) for s in range(5)}
    v = judge(confirmed(failed=failed), unit="percent")
    assert [c.other for c in v.against_baselines()] == ["b1"]
    assert v.contender("b0").mean is None


def test_no_sound_candidate_is_an_error():
    failed = {(f"c{i}", 0) for i in range(3)}
    with pytest.raises(StudyError, match="no candidate came through its confirmation"):
        judge(confirmed(failed=failed), unit="percent")


def test_one_candidate_alone_is_an_error():
    with pytest.raises(StudyError):
        judge(confirmed(candidates=1, baselines=0), unit="percent")


def test_dropped_finalists_are_out_and_named():
    missing = {("c2", s) for s in (2, 3, 4)}
    v = judge(confirmed(missing=missing), unit="percent", dropped=["c2"])
    assert not v.contender("c2").may_be_best
    assert "clearly behind and dropped on the way: c2" in sentences(v)


def test_what_could_not_be_compared_is_said():
    v = judge(confirmed(), unit="percent", not_represented=[("vim_tiny", "28 k parameters")])
    assert "vim_tiny was not compared: 28 k parameters" in sentences(v)


def test_a_verdict_survives_storage():
    v = judge(confirmed(lift=0.04), unit="percent")
    stored = json.dumps(v.model_dump(mode="json", by_alias=True))
    assert Verdict.model_validate(json.loads(stored)) == v


def test_more_seeds_would_decide_and_do():
    v = judge(confirmed(lift=0.03, seed=5), unit="percent")
    undecided = [c for c in v.comparisons if c.more_seeds is not None]
    assert undecided
    c = undecided[0]
    family = Family("leader", 3, 2)
    enough = 5 + c.more_seeds
    pair = v.noise * 2**0.5
    assert smallest_detectable(pair, enough, 5, family) == pytest.approx(abs(c.estimate), rel=0.25)
    assert any("more seed" in line and "would decide" in line for line in sentences(v))


def test_the_seeds_wanted_are_those_of_the_hardest_baseline():
    v = judge(confirmed(lift=0.03, seed=5), unit="percent")
    open_ones = [c for c in v.against_baselines() if c.word == "not distinguishable"]
    assert v.more_seeds == max(c.more_seeds for c in open_ones)
    assert judge(confirmed(lift=0.5), unit="percent").more_seeds is None


def test_sentences_of_a_comparison_are_exact():
    v = judge(confirmed(lift=0.5), unit="percent")
    c = v.comparisons[0]
    assert sentences(v)[1] == (
        f"c0 against b0: better, {100 * c.estimate:+.2f} points (95 % interval "
        f"{100 * c.low:+.2f} to {100 * c.high:+.2f})"
    )
    assert c.reversed().word == "worse"
    assert c.reversed().low == -c.high


def test_the_list_of_the_best_holds_hsus_bounds():
    fitted = fit(confirmed(lift=0.1))
    able, lower, upper = may_be_best(fitted)
    assert able[int(np.argmax(fitted.means))]
    assert (lower <= 0).all() and (upper >= 0).all()
    assert (able == (upper > 0)).all()


def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = (0.01, 0.04, 0.03, 0.005, 0.5)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_the_bound_of_two_designs_is_statsmodels_equivalence():
    from statsmodels.stats.weightstats import DescrStatsW

    x = np.random.default_rng(0).normal(0.1, 1, (2, 30))
    found = decide(table(designs(2), x), choice="scan", unit="plain", margin=9.0)
    p = DescrStatsW(x[0] - x[1]).ttost_mean(-found.within, found.within)[0]
    assert p == pytest.approx(0.05)


def test_a_stored_verdict_is_read_without_numpy_or_scipy():
    code = (
        "import sys, nas.evidence.verdict, nas.evidence.findings;"
        "print([m for m in ('numpy', 'scipy', 'statsmodels', 'torch', 'sklearn')"
        " if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
