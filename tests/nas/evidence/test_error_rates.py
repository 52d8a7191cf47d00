"""Verdicts are wrong as seldom as they say: simulated searches through the functions that ship.

The bars are those of 5,000 simulations a setting, which `benchmarks/verdicts.py` measures and
whose committed result is checked here; a few hundred are repeated in every run of the tests.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import verdicts

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
MOST_FALSE, MOST_FALSE_BOUND = 0.05, 0.06
COVERED = (0.92, 0.98)
POWER = 0.80
SIMS = 300
LUCK = 3 * math.sqrt(MOST_FALSE * (1 - MOST_FALSE) / SIMS)  # of a few hundred simulations


def upper_bound(share, count):
    """One-sided 95 % bound of a share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    hits = round(share * count)
    return float(beta.ppf(0.95, hits + 1, count - hits))


@pytest.fixture(scope="module")
def committed():
    newest = sorted(RESULTS.glob("verdict_simulation_*.json"))[-1]
    return {row["setting"]: row for row in json.loads(newest.read_text())["settings"]}


def test_committed_result_has_all_settings(committed):
    assert set(committed) == {name for name, _, _ in verdicts.settings(1)}
    assert {r["simulations"] for r in committed.values()} == {500, 5000}


@pytest.mark.parametrize("count", [12, 40, 200])
def test_better_is_seldom_said_of_equal_designs(committed, count):
    row = committed[f"equal, {count} candidates, 5x5"]
    assert row["false_better"] <= MOST_FALSE
    assert upper_bound(row["false_better"], row["simulations"]) < MOST_FALSE_BOUND
    assert COVERED[0] <= row["covered"] <= COVERED[1]


def test_error_rates_hold_where_the_model_does_not(committed):
    for name, row in committed.items():
        if "false_better" in row:
            assert upper_bound(row["false_better"], row["simulations"]) < MOST_FALSE_BOUND, name
            assert row["false_worse"] < 0.03, name


def test_intervals_cover_as_they_say(committed):
    plain = [r for n, r in committed.items() if "covered" in r and "noisy" not in n]
    for row in plain:
        bent = "t with" in row["setting"] or "diverge" in row["setting"]  # then they are too wide
        assert COVERED[0] <= row["covered"], row["setting"]
        assert bent or row["covered"] <= COVERED[1], row["setting"]


def test_a_design_three_above_is_named_better_than_every_baseline(committed):
    assert committed["one 3 above, 40 candidates, 5x5"]["beats_all"] >= POWER
    assert committed["one 3 above, 40 candidates, 5x5 raced"]["beats_all"] >= POWER


def test_the_best_is_listed_and_seldom_dropped(committed):
    for name, row in committed.items():
        if "raced" in name:
            assert row["best_dropped"] <= 0.03, name
            assert row["best_listed"] >= 0.93, name


def test_ablations_err_within_their_bounds(committed):
    for name, row in committed.items():
        if "ablate, 4 levels, equal" in name:
            assert upper_bound(row["matters"], row["simulations"]) < MOST_FALSE_BOUND, name
            assert row["best_listed"] >= 0.95, name
        if "apart by the margin" in name:
            bound = upper_bound(row["does_not_matter"], row["simulations"])
            assert bound < MOST_FALSE_BOUND, name
    assert committed["ablate, 4 levels, 2 apart, margin 1, 30 seeds"]["matters"] >= 0.95


def test_analysis_covers_as_it_says(committed):
    for name, row in committed.items():
        if name.startswith("analyze"):
            assert row["simulations"] == 500
            assert COVERED[0] <= row["covered"] <= COVERED[1], name
            assert row["false_interaction"] <= 0.075, name


@pytest.mark.parametrize("race", [False, True])
def test_equal_designs_again(race):
    found = verdicts.measure(lambda r: verdicts.search(r, np.zeros(44), race=race), SIMS, seed=1)
    assert found["false_better"] <= MOST_FALSE + LUCK
    assert found["covered"] >= 1 - MOST_FALSE - LUCK
    assert found["best_listed"] >= 1 - MOST_FALSE - LUCK


def test_a_clear_winner_again():
    truth = np.r_[3.0, np.zeros(43)]
    found = verdicts.measure(lambda r: verdicts.search(r, truth), SIMS, seed=1)
    assert found["beats_all"] >= POWER - 3 * math.sqrt(POWER * (1 - POWER) / SIMS)


def test_analysis_again():
    found = verdicts.measure(lambda r: verdicts.study(r, 40, evolving=True), 60, seed=1)
    assert COVERED[0] <= found["covered"] <= COVERED[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [n for n, _, _ in verdicts.settings(1)])
def test_committed_figures_come_out_again(committed, name):
    _, one, sims = next(s for s in verdicts.settings(5000) if s[0] == name)
    found = verdicts.measure(one, sims)
    row = {k: v for k, v in committed[name].items() if k in found}
    assert found == pytest.approx(row, abs=2e-3)
