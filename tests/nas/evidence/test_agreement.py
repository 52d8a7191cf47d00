"""Intraclass correlation, Kendall's tau, regret, and when a ranking has settled."""

import numpy as np
import pytest
from scipy import stats

from nas.errors import StudyError
from nas.evidence.agreement import (
    fidelity,
    icc,
    icc_same_seed,
    regret,
    settled,
    tau,
    tau_with_interval,
)
from nas.evidence.findings import Fidelity, fidelity_sentences

# Shrout and Fleiss 1979, table 2: six targets, four judges.
TABLE = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_icc_gives_the_published_example():
    found = icc(TABLE)  # ICC(1,1) = 0.17
    assert found.value == pytest.approx(0.166, abs=5e-4)
    assert (found.low, found.high) == pytest.approx((-0.133, 0.723), abs=5e-4)


def test_icc_of_one_seed_gives_the_published_example():
    found = icc_same_seed(TABLE)  # ICC(3,1) = 0.71
    assert found.value == pytest.approx(0.715, abs=5e-4)
    assert (found.low, found.high) == pytest.approx((0.342, 0.946), abs=5e-4)


def test_icc_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, inside = 0.7, 0
    for _ in range(400):
        means = rng.normal(0, truth**0.5, (12, 1))
        found = icc(means + rng.normal(0, (1 - truth) ** 0.5, (12, 3)))
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_tau_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 5, (2, 15))
        assert tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_tau_interval_holds_the_truth_as_often_as_it_says(rho):
    rng = np.random.default_rng(1)
    truth, inside = 2 / np.pi * np.arcsin(rho), 0
    for _ in range(300):
        x = rng.normal(size=24)
        y = rho * x + (1 - rho**2) ** 0.5 * rng.normal(size=24)
        found = tau_with_interval(x, y)
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 300 <= 0.985


def test_a_constant_ranking_is_refused():
    with pytest.raises(StudyError, match="no ranking to compare"):
        tau_with_interval([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])


def test_regret_is_what_the_top_k_misses():
    proxy, longer = [5, 4, 3, 2, 1], [0.70, 0.80, 0.60, 0.95, 0.50]
    assert regret(proxy, longer, 2).value == pytest.approx(0.15)
    assert regret(proxy, longer, 4).value == 0
    with pytest.raises(StudyError, match="top 6 of 5 designs"):
        regret(proxy, longer, 6)


def test_the_epoch_at_which_the_ranking_settled_is_found():
    last = np.arange(10.0)
    shuffled = np.random.default_rng(0).permutation(last)
    curves = np.stack([shuffled, last, shuffled, last + 1, last * 2], axis=1)
    epoch, taus = settled(curves)
    assert epoch == 4
    assert taus[1] == taus[-1] == 1
    assert settled(np.stack([shuffled, last], axis=1))[0] is None


def test_fidelity_says_what_it_found_and_warns_when_low():
    rng = np.random.default_rng(0)
    longer = rng.normal(0.8, 0.02, 24)
    curves = longer[:, None] + rng.normal(0, [0.1, 0.05, 0.002], (24, 3))
    good = fidelity(curves[:, -1], longer, curves, times_longer=10, unit="percent")
    assert good.tau.value > 0.8 and not good.low
    assert Fidelity.model_validate_json(good.model_dump_json(by_alias=True)) == good
    assert "still changing at the last of 3 epochs" in fidelity_sentences(good)[1]
    bad = fidelity(rng.normal(size=24), longer, curves, times_longer=10, unit="percent")
    assert bad.low
    assert "may hardly rank at all" in fidelity_sentences(bad)[-1]
    with pytest.raises(StudyError, match="2 proxy scores and 24 longer ones do not pair"):
        fidelity([1, 2], longer, curves, times_longer=4, unit="percent")
