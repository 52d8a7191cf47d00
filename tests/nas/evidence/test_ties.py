"""Of candidates that one run each cannot tell apart, the cheapest is taken, and it is said so."""

import pytest

from nas.evidence.finalists import Noise
from nas.evidence.ties import prefer


def row(trial, score, params, latency_ms=None):
    return {"trial": trial, "score": score, "params": params, "latency_ms": latency_ms}


ROWS = [row(0, 0.80, 30), row(1, 0.79, 20), row(2, 0.60, 5)]
NOISE = Noise(0.01, 22)


def test_cheapest_of_those_within_the_noise_is_taken_and_said():
    taken = prefer(ROWS, NOISE)
    assert (taken.trial, taken.best, taken.tied, taken.by) == (1, 0, 1, "parameters")
    said = taken.sentence("percent")
    assert said.startswith("one run each cannot tell 1 other candidate from the best score (below ")
    assert said.endswith("by parameters is taken, trial 1 in place of trial 0, the best score")


def test_best_score_is_taken_where_it_is_the_cheapest_of_the_tied():
    taken = prefer([row(0, 0.80, 10), row(1, 0.79, 20)], NOISE)
    assert taken.trial == taken.best == 0
    assert taken.sentence("percent").endswith("by parameters is taken, trial 0")


def test_latency_decides_where_all_of_the_tied_have_one():
    timed = [row(0, 0.80, 20, 3.0), row(1, 0.79, 30, 2.0), row(2, 0.60, 5)]
    assert (prefer(timed, NOISE).trial, prefer(timed, NOISE).by) == (1, "latency")
    some = [timed[0], row(1, 0.79, 30), timed[2]]
    assert (prefer(some, NOISE).trial, prefer(some, NOISE).by) == (0, "parameters")


def test_without_a_known_noise_only_equal_scores_are_ties():
    assert prefer(ROWS, None).trial == 0 and prefer(ROWS, None).sentence("plain") is None
    taken = prefer([row(0, 0.8, 30), row(1, 0.8, 20), row(2, 0.79, 10)], None)
    assert taken.trial == 1
    assert taken.sentence("plain") == (
        "one run each cannot tell 1 other candidate from the best score: the cheapest of them by "
        "parameters is taken, trial 1"
    )


@pytest.mark.parametrize("noise", [None, NOISE])
def test_one_candidate_is_taken_and_none_is_none(noise):
    assert prefer([row(3, 0.5, 1)], noise).trial == 3
    assert prefer([], noise) is None
