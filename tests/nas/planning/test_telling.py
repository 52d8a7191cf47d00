"""What strategies are told of failures: nas/planning/telling.py."""

from itertools import permutations

import pytest
from doubles import GRID
from optuna.trial import TrialState
from test_strategy_conformance import TWO, planner

from nas.study.proposals import Entry


def told(plan, index):
    return plan.history.trials[index]


def entry(index, state, objectives=None, canary=None):
    return Entry(index, "candidate", state, f"f{index}", {"kernel": 3, "expand": 1.0}, {},
                 objectives, 3, canary=canary)  # fmt: skip


ROWS = [
    entry(0, "complete", [0.5, 100.0]),
    entry(1, "nan"),
    entry(2, "complete", [0.9, 300.0]),
    entry(3, "error", canary=True),
]


def test_failures_are_worse_than_all_that_was_measured_in_every_objective():
    plan = planner("random", GRID, objectives=TWO)
    plan.learn(ROWS)
    for index in (1, 3):
        assert told(plan, index).state is TrialState.COMPLETE
        top1, flops = told(plan, index).values
        assert 0.4 < top1 < 0.5 and 300 < flops < 330


def test_failures_are_told_anew_when_something_worse_is_measured():
    plan = planner("random", GRID)
    plan.learn([entry(0, "timeout")])
    assert told(plan, 0).values == [0.0]
    plan.learn([entry(1, "complete", [-3.0])])
    assert told(plan, 0).values[0] < -3


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_order_in_which_results_come_does_not_matter(order):
    plan = planner("random", GRID, objectives=TWO)
    plan.learn([entry(i, "running") for i in range(4)])
    for index in order:
        plan.learn([ROWS[index]])
    whole = planner("random", GRID, objectives=TWO)
    whole.learn(ROWS)
    assert [t.values for t in plan.history.trials] == [t.values for t in whole.history.trials]


@pytest.mark.parametrize(
    ("state", "canary", "teaches"),
    [("oom", None, True), ("timeout", None, True), ("error", True, True), ("stalled", True, True),
     ("error", False, False), ("stalled", None, False), ("lost", None, False)],
)  # fmt: skip
def test_what_is_not_the_designs_fault_says_nothing_of_it(state, canary, teaches):
    plan = planner("random", GRID)
    plan.learn([entry(0, "complete", [0.5]), entry(1, state, canary=canary)])
    assert (told(plan, 1).state is TrialState.COMPLETE) is teaches
    assert (told(plan, 1).values is not None) is teaches
