"""The planner of a confirmation and the choice of finalists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_tables import designs

from nas.errors import StudyError
from nas.evidence.finalists import Noise, choose_finalists
from nas.evidence.paired import Design, Scores
from nas.evidence.racing import FIRST_LOOK, plan

SEEDS = tuple(range(100, 112))


def course(of, score, runs, order=lambda pending: pending, at_once=None):
    """Carry out a race; return its last step and all runs in the order in which they ended."""
    done = []
    while True:
        step = plan(Scores.of(of, done), seeds=SEEDS, runs=runs)
        if step.over:
            return step, done
        for name, seed in order(list(step.runs))[:at_once]:
            done.append((name, seed, score(name, seed)))


def noisy(gaps):
    def score(name, seed):
        rng = np.random.default_rng([seed, *name.encode()])
        return gaps.get(name, 0.0) + 0.01 * rng.normal() + 0.001 * seed

    return score


def test_who_is_clearly_behind_is_dropped_and_the_rest_gets_the_runs():
    of = designs(4, 2)
    step, done = course(of, noisy({"c2": -1, "c3": -1}), runs=6 * 5)
    assert set(step.dropped) == {"c2", "c3"}
    count = {d.name: sum(r[0] == d.name for r in done) for d in of}
    assert count["c2"] == FIRST_LOOK
    assert count["c0"] > 5
    assert count["c0"] == count["b0"]


def test_equal_designs_all_get_their_share():
    of = designs(3, 2)
    step, done = course(of, noisy({}), runs=5 * 4)
    assert step.dropped == ()
    assert len(done) == 20


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(10, 60))
def test_the_course_does_not_depend_on_order_or_interruptions(seed, at_once, runs):
    of = designs(3, 2)
    gaps = dict(zip([d.name for d in of], np.random.default_rng(seed).normal(0, 0.02, 5)))
    rng = np.random.default_rng(seed)

    def shuffled(pending):
        return [pending[i] for i in rng.permutation(len(pending))]

    step, done = course(of, noisy(gaps), runs)
    other, again = course(of, noisy(gaps), runs, shuffled, at_once)
    assert (other.alive, other.dropped) == (step.alive, step.dropped)
    assert sorted(done) == sorted(again)
    assert len(done) <= runs
    assert len(set(r[:2] for r in done)) == len(done)


def test_a_failed_run_is_not_asked_for_again():
    of = designs(2, 1)

    def score(name, seed):
        return None if (name, seed) == ("c1", 101) else noisy({})(name, seed)

    _, done = course(of, score, runs=9)
    assert [r for r in done if r[2] is None] == [("c1", 101, None)]


def test_a_finalist_of_which_all_runs_failed_is_dropped():
    step, _ = course(designs(3, 1), lambda n, s: None if n == "c1" else noisy({})(n, s), runs=16)
    assert step.dropped == ("c1",)


def test_too_few_runs_is_an_error():
    with pytest.raises(StudyError, match=r"5 runs with 12 seeds are too few for 3 designs"):
        plan(Scores.of(designs(2, 1), []), seeds=SEEDS, runs=5)


def test_finalists_are_all_that_may_be_best_at_most_k():
    noise = Noise(0.03, 22)
    scores = {"a": 0.90, "b": 0.89, "c": 0.88, "d": 0.20, "e": 0.87}
    chosen = choose_finalists(scores, noise, 3)
    assert chosen.names == ("a", "b", "c")
    assert (chosen.within, chosen.left_out) == (4, 1)
    assert choose_finalists(scores, noise, 9).names == ("a", "b", "c", "e")


def test_without_noise_only_the_best_is_a_finalist():
    assert choose_finalists({"a": 0.9, "b": 0.8}, Noise(0.0, 5), 5).names == ("a",)


def test_of_equal_scores_the_cheaper_goes_first():
    costs = [Design(name="a", params=9), Design(name="b", params=1)]
    chosen = choose_finalists({"a": 0.9, "b": 0.9}, Noise(0.01, 5), 1, designs=costs)
    assert chosen.names == ("b",)


def test_the_best_is_among_the_finalists_as_often_as_said():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        x = rng.normal(size=20)
        held += "0" in choose_finalists(dict(zip(map(str, range(20)), x)), Noise(1, 1e6), 20).names
    assert 0.93 <= held / 1000 <= 0.97  # all equal, so that design "0" is a best one


@pytest.mark.parametrize(("scores", "most"), [({}, 3), ({"a": 1.0}, 0)])
def test_nothing_to_confirm_is_an_error(scores, most):
    with pytest.raises(StudyError, match="confirm"):
        choose_finalists(scores, Noise(1.0, 1), most)


def test_noise_must_be_an_estimate():
    with pytest.raises(StudyError, match="is no estimate"):
        Noise(float("nan"), 3)
