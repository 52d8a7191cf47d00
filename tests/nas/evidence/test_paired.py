"""The table of scores, the two-way fit, and variances that are drawn together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_tables import designs, table

from nas.errors import StudyError
from nas.evidence.paired import Design, Scores, cheapest_first, fit, moderate


def test_two_designs_are_the_paired_t_test():
    x = np.array([[0.81, 0.84, 0.80, 0.86], [0.79, 0.83, 0.80, 0.82]])
    fitted = fit(table(designs(2), x))
    gaps = x[0] - x[1]
    assert fitted.means[0] - fitted.means[1] == pytest.approx(gaps.mean())
    assert fitted.se()[0, 1] == pytest.approx(gaps.std(ddof=1) / 2)
    assert fitted.df == 3


def test_complete_table_is_the_two_way_analysis():
    x = np.random.default_rng(0).normal(size=(9, 5))
    fitted = fit(table(designs(5, 4), x))
    rest = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    assert fitted.noise**2 == pytest.approx((rest**2).sum() / 32)
    assert fitted.means == pytest.approx(x.mean(1))


def test_missing_runs_are_fitted_by_least_squares():
    import pandas as pd
    from statsmodels.formula.api import ols

    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 5)) + np.arange(4)[:, None]
    missing = {("c1", 0), ("c3", 4), ("c3", 3)}
    fitted = fit(table(designs(4), x, missing=missing))
    rows = [(f"c{i}", j, x[i, j]) for i in range(4) for j in range(5)]
    frame = pd.DataFrame([r for r in rows if r[:2] not in missing], columns=["d", "s", "y"])
    model = ols("y ~ C(d) + C(s)", frame).fit()
    assert fitted.means[3] - fitted.means[0] == pytest.approx(model.params["C(d)[T.c3]"])
    assert fitted.noise**2 == pytest.approx(model.scale)
    if fitted.df == model.df_resid:  # the designs agree in their noise
        assert fitted.se()[3, 0] == pytest.approx(model.bse["C(d)[T.c3]"])


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=5), st.integers(0, 1000))
def test_what_a_seed_does_to_all_is_taken_out(shifts, seed):
    x = np.random.default_rng(seed).normal(size=(4, 5))
    plain, shifted = fit(table(designs(4), x)), fit(table(designs(4), x + np.array(shifts)))
    assert np.diff(shifted.means) == pytest.approx(np.diff(plain.means), abs=1e-8)
    assert shifted.se() == pytest.approx(plain.se(), abs=1e-6)


def test_designs_that_agree_share_one_variance():
    free = np.full(6, 4.0)
    sums = np.array([4.0, 3.5, 4.5, 4.2, 3.9, 3.9])
    variances, degrees = moderate(sums, free, 20.0)
    assert variances == pytest.approx(sums.sum() / 20)
    assert (degrees == 20).all()


def test_a_clearly_noisier_design_keeps_its_variance_and_few_degrees_of_freedom():
    free = np.full(6, 4.0)
    sums = np.array([4.0, 3.5, 4.5, 4.2, 3.9, 120.0])
    variances, degrees = moderate(sums, free, 20.0)
    assert variances[-1] == pytest.approx(30)
    assert degrees[-1] == 4
    assert (variances[:-1] < 30).all()


def test_order_of_runs_does_not_matter():
    x = np.random.default_rng(2).normal(size=(3, 4))
    runs = [(f"c{i}", j, x[i, j]) for i in range(3) for j in range(4)]
    one, other = (fit(Scores.of(designs(3), r)) for r in (runs, runs[::-1]))
    assert other.means == pytest.approx(one.means)
    assert other.se() == pytest.approx(one.se())


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([("c0", 0, 1.0), ("c1", 0, 2.0)], "leave nothing to tell noise from"),
        ([("c0", 0, 1.0), ("c0", 1, 1.0), ("c1", 2, 2.0), ("c1", 3, 1.0)], "share no seed"),
        ([("c0", 0, 1.0), ("c1", 0, None)], "design 'c1' has no score"),
    ],
)
def test_too_little_to_compare_is_said(runs, said):
    with pytest.raises(StudyError, match=said):
        fit(Scores.of(designs(2), runs))


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([("c7", 0, 1.0)], "run of 'c7': no such design among c0, c1"),
        ([("c0", 0, 1.0), ("c0", 0, 1.0)], "run of 'c0' with seed 0 is given twice"),
        ([("c0", 0, float("nan"))], "score nan of 'c0', seed 0: give None for a failure"),
    ],
)
def test_a_malformed_run_is_named(runs, said):
    with pytest.raises(StudyError, match=said):
        Scores.of(designs(2), runs)


def test_designs_of_one_name_are_refused():
    with pytest.raises(StudyError, match="design 'c0' is listed twice"):
        Scores.of([*designs(1), *designs(1)], [])


def test_latency_decides_only_where_all_have_one():
    fast = Design(name="fast", latency_ms=1.0, params=9)
    slow = Design(name="slow", latency_ms=2.0, params=1)
    unmeasured = Design(name="unmeasured", params=5)
    assert [d.name for d in cheapest_first([slow, fast])] == ["fast", "slow"]
    names = [d.name for d in cheapest_first([slow, fast, unmeasured])]
    assert names == ["slow", "unmeasured", "fast"]
