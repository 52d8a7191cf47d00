"""Critical values against exact ones."""

import numpy as np
import pytest
from scipy import integrate, stats

from nas.evidence.quantiles import Family, critical, detectable, student

CLOSE = 0.01  # relative; of 200,000 draws


@pytest.mark.parametrize("count", [2, 4, 9])
@pytest.mark.parametrize("df", [4, 16, 32, 5000])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_pairs_are_tukeys(count, df, level):
    exact = stats.studentized_range.ppf(level, count, df) / 2**0.5
    assert critical(Family("pairs", count), df, level) == pytest.approx(exact, rel=2 * CLOSE)


def exact_one_sided(k, df, c):
    """P(max of k correlated t <= c), by integration (Dunnett 1955)."""

    def given(s):
        inner = integrate.quad(
            lambda z: stats.norm.pdf(z) * stats.norm.cdf(2**0.5 * c * s + z) ** k, -8, 8
        )[0]
        return inner * stats.chi.pdf(s * df**0.5, df) * df**0.5

    return integrate.quad(given, 1e-6, 4, limit=100)[0]


@pytest.mark.parametrize(("k", "df"), [(4, 10), (8, 32), (199, 60)])
def test_best_is_dunnetts_one_sided(k, df):
    assert exact_one_sided(k, df, critical(Family("best", k), df)) == pytest.approx(0.95, abs=2e-3)


def test_control_is_in_dunnetts_table():
    # Dunnett 1964, two-sided 5 %: four treatments, 20 degrees of freedom.
    assert critical(Family("control", 4), 20) == pytest.approx(2.65, abs=0.02)


def test_leader_is_dunnetts_for_one_candidate_and_grows_with_rivals():
    alone = critical(Family("leader", 1, 4), 32)
    assert alone == pytest.approx(critical(Family("control", 4), 32), rel=CLOSE)
    values = [critical(Family("leader", k, 4), 32) for k in (1, 2, 5, 12)]
    assert values == sorted(values)
    assert values[-1] < critical(Family("pairs", 16), 32)


def test_same_value_every_time():
    assert critical(Family("pairs", 3), 7.0) == critical(Family("pairs", 3), 7.0)


def test_detectable_passes_with_the_stated_power():
    gap = detectable(2.9, 12.0)
    assert stats.nct.sf(2.9, 12, gap) == pytest.approx(0.8, abs=1e-6)


def test_student_is_scipys():
    assert student(0.95, 7.5) == pytest.approx(stats.t.ppf(0.95, 7.5))
    assert np.isfinite(critical(Family("pairs", 3), 0.5))
