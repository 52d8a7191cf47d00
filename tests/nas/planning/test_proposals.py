"""Proposals where not every design fits: nas/planning/proposals.py."""

import pytest
from doubles import settings
from test_strategy_conformance import entry

from backbones import cost
from nas.errors import BudgetError
from nas.planning.proposals import OWN_TRIES, Nothing, Planner
from nas.planning.strategies import list_strategies
from nas.study.budget import parse_budget
from search_spaces import SearchSpace, SpaceError

SEEDS = range(8)
UNFIT = """
schema: 1
name: unfit
base:
  blocks:
    g: {mixer: {kind: gated_conv, expand: 2.0, kernel: 7}}
    s: {mixer: {kind: ssm, order: cross}}
  stages:
  - {width: 32, depth: 2, pattern: g}
  - {width: 64, depth: 2, pattern: s, downsample: conv3x3}
choices:
  depth_1: {range: [1, 6], sets: stages.0.depth}
  depth_2: {range: [1, 9], sets: stages.1.depth}
  width_1: {options: [16, 24, 32, 48, 64], sets: stages.0.width}
  width_2: {options: [32, 64, 96, 128, 192], sets: stages.1.width}
  kernel: {options: [3, 5, 7, 9], sets: blocks.g.mixer.kernel}
  expand: {options: [1.0, 1.5, 2.0, 3.0], sets: blocks.g.mixer.expand}
  scan: {options: [raster, bidirectional, cross, snake, hilbert], sets: blocks.s.mixer.order}
  states: {options: [1, 2, 4, 8, 16], sets: blocks.s.mixer.d_state}
"""


def plan(budget, **changes):
    made = settings(UNFIT, budget=parse_budget([budget]), image_size=64, **changes)
    return Planner("s", made, None)


@pytest.mark.parametrize("strategy", sorted(set(list_strategies()) - {"grid"}))
@pytest.mark.parametrize("seed", SEEDS)
def test_spaces_without_fit_are_not_refused_and_not_stuck(strategy, seed):
    planner = plan("60MFLOPs", strategy=strategy, seed=seed)
    for index in range(12):
        new = planner.candidate()
        assert not isinstance(new, Nothing)
        assert planner.settings.budget.admits(flops=new.flops, params=new.params_count)
        planner.settings.space.check(new.choices)
        planner.learn([entry(planner, new, score=1 / (index + 1))])


SMALLEST = {"depth_1": 1, "depth_2": 1, "width_1": 16, "width_2": 32, "kernel": 3, "expand": 1.0,
            "scan": "raster", "states": 1}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_with_few_members_is_reached(seed):
    least = cost(SearchSpace.from_text(UNFIT).build(SMALLEST), 64).flops
    new = plan(f"{least * 1.0001 / 1e6:.6f}MFLOPs", strategy="random", seed=seed).candidate()
    assert new.flops <= least * 1.0001


def test_a_budget_without_members_says_how_far_the_nearest_is():
    with pytest.raises((SpaceError, BudgetError), match="outside"):
        plan("1MFLOPs").candidate()


def test_tries_after_the_strategys_own_are_others_each_time(monkeypatch):
    asked = []

    def refuse(self, strategy, tries, seed):
        asked.append(seed)
        raise SpaceError("no child")

    monkeypatch.setattr(Planner, "_ask", refuse)
    for _ in range(2):
        with pytest.raises(SpaceError, match="no child"):
            Planner("s", settings(), None).candidate()
    first, second = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert first[:OWN_TRIES] == second[:OWN_TRIES]
    assert not set(first[OWN_TRIES:]) & set(second[OWN_TRIES:])


def test_a_strategy_that_fails_once_is_asked_again(monkeypatch):
    ask = Planner._ask

    def fail_first(self, strategy, tries, seed):
        if tries == 0:
            raise SpaceError("no child")
        return ask(self, strategy, tries, seed)

    monkeypatch.setattr(Planner, "_ask", fail_first)
    assert plan("60MFLOPs").candidate().choices


def test_stored_spaces_load_though_a_new_one_like_them_is_refused():
    sick = UNFIT.replace("scan: {options: [raster,", "merge: {options: [sum, attention], sets: "
                         "blocks.s.mixer.merge}\n  scan: {options: [atrous,")  # fmt: skip
    with pytest.raises(SpaceError, match="add the constraint"):
        SearchSpace.from_text(sick)
    assert SearchSpace.from_text(sick, proven=True).size
