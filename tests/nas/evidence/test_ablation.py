"""Whether a choice matters: decisions, stopping, words."""

import numpy as np
import pytest
from scipy import stats
from score_tables import designs

from nas.errors import StudyError
from nas.evidence.ablation import ERROR, FIRST_LOOK, plan
from nas.evidence.findings import Ablation, ablation_sentences
from nas.evidence.paired import Scores
from nas.evidence.sequential import look_errors

SEEDS = tuple(range(20))


def course(gaps, margin, controls=1, seeds=SEEDS, failed=(), noise=0.01):
    of = designs(len(gaps), 0, controls)
    means = [*gaps, *[min(gaps) - 1] * controls]
    done, steps = [], 0
    while True:
        table = Scores.of(of, done)
        step = plan(table, choice="scan", unit="percent", margin=margin, seeds=seeds)
        if not step.runs:
            return step.found, done, steps
        steps += 1
        for name, seed in step.runs:
            i = [d.name for d in of].index(name)
            rng = np.random.default_rng([seed, i])
            score = means[i] + noise * rng.normal() + 0.01 * seed
            done.append((name, seed, None if (name, seed) in failed else score))


def test_a_large_effect_matters_and_stops_at_once():
    found, done, _ = course([0.5, 0.0, 0.0], margin=0.01)
    assert found.outcome == "matters"
    assert (found.best, found.may_be_best, found.chosen) == ("c0", ("c0",), "c0")
    assert len(done) == 4 * FIRST_LOOK
    assert ablation_sentences(found)[0] == "scan matters here: c0 is better than c1, c2" or (
        ablation_sentences(found)[0] == "scan matters here: c0 is better than c2, c1"
    )


def test_equal_levels_do_not_matter_and_the_cheapest_is_taken():
    found, _, _ = course([0.0, 0.0, 0.0], margin=0.1)
    assert found.outcome == "does not matter"
    assert found.within <= 0.1
    assert found.chosen == "c0"
    assert ablation_sentences(found)[0] == (
        "scan does not matter beyond 10.00 points here; take the cheapest, c0"
    )


def test_what_stays_open_says_how_many_seeds_more():
    found, done, _ = course([0.0, 0.004], margin=0.004, seeds=SEEDS[:4], noise=0.006)
    assert found.outcome == "not resolved"
    assert found.more_seeds is not None and found.more_seeds > 0
    assert len(done) == 4 * 3
    head = ablation_sentences(found)[0]
    assert head.startswith("scan: not resolved by 4 seeds; the levels differ by at most")
    assert head.endswith("would resolve it")


def test_a_task_that_sees_no_control_says_so():
    of = designs(2, 0, 1)
    runs = [
        (d.name, s, 0.01 * np.random.default_rng([s, i]).normal())
        for i, d in enumerate(of)
        for s in range(3)
    ]
    found = plan(
        Scores.of(of, runs), choice="scan", unit="plain", margin=0.1, seeds=(0, 1, 2)
    ).found
    assert found.sees is False
    assert "no control is worse" in ablation_sentences(found)[-1]


def test_controls_are_told_from_the_levels():
    found, _, _ = course([0.0, 0.0], margin=0.1)
    assert found.sees is True
    assert [c.other for c in found.controls] == ["x0"]


def test_a_level_with_a_failed_run_is_left_out():
    found, _, _ = course([0.0, 0.0, 0.5], margin=0.1, failed={("c2", 1)})
    assert found.failed == ("c2",)
    assert "c2: a run failed, so it is left out" in ablation_sentences(found)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_looks_are_no_stricter_than_bonferroni_and_together_err_as_said(levels):
    errors = look_errors(levels, FIRST_LOOK, 18, ERROR)
    steps = np.diff(np.linspace(0, 1, 19) ** 2) * ERROR
    assert (np.array(errors) >= steps - 1e-12).all()
    assert max(errors) < ERROR < sum(errors)
    rng = np.random.default_rng(7)  # other paths than those that the levels were found with
    runs = rng.standard_normal((40_000, levels, FIRST_LOOK + 17))
    sums = runs.cumsum(2)[:, :, FIRST_LOOK - 1 :] / np.arange(FIRST_LOOK, FIRST_LOOK + 18) ** 0.5
    if levels == 1:
        over = sums[:, 0] > stats.norm.isf(errors)
    else:
        over = np.ptp(sums, axis=1) > stats.studentized_range.isf(errors, levels, np.inf)
    assert over.any(1).mean() == pytest.approx(ERROR, abs=0.005)


def test_a_finding_survives_storage():
    found, _, _ = course([0.5, 0.0], margin=0.01)
    assert Ablation.model_validate_json(found.model_dump_json(by_alias=True)) == found


@pytest.mark.parametrize(
    ("count", "margin", "seeds", "said"),
    [
        (2, 0.0, SEEDS, "margin 0.0 must be positive"),
        (1, 0.1, SEEDS, "needs at least two levels"),
        (2, 0.1, SEEDS[:2], "2 seeds are too few"),
    ],
)
def test_impossible_questions_are_refused(count, margin, seeds, said):
    with pytest.raises(StudyError, match=said):
        plan(Scores.of(designs(count), []), choice="scan", unit="plain", margin=margin, seeds=seeds)
