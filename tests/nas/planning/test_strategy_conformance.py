"""What every strategy must do; a newly registered one is tested without further ado."""

import pytest
from doubles import BUDGET, CONDITIONAL, GRID, score_of, settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nas.errors import StudyError
from nas.planning.proposals import Nothing, Planner
from nas.planning.strategies import list_strategies, make_sampler, register
from nas.study.proposals import Entry

ALL = sorted(list_strategies())


def grow(planner, steps, *, fail=(), replay=True):
    """Let a strategy search: every proposal ends at once; returns the proposals."""
    made, known = [], {}
    for _ in range(steps):
        new = planner.candidate()
        if isinstance(new, Nothing):
            break
        made.append(new)
        seen = new.fingerprint in known
        state = known.setdefault(new.fingerprint, "nan" if new.index in fail else "complete")
        score = score_of(new.fingerprint)
        planner.learn([entry(new, "replay" if seen else "candidate", state, score)])
    return made


def entry(new, role="candidate", state="complete", score=0.5):
    costs = [score, *range(1, 1)]
    return Entry(
        index=new.index,
        role=role,
        state=state,
        fingerprint=new.fingerprint,
        params=dict(new.params),
        sampler=dict(new.sampler),
        objectives=costs if state in ("complete", "pruned", "nan") else None,
        epochs=3,
    )


def planner(strategy, space=CONDITIONAL, **changes):
    return Planner("s", settings(space, strategy=strategy, **changes), None)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("space", [GRID, CONDITIONAL], ids=["grid", "conditional"])
def test_proposals_lie_in_space_and_budget(strategy, space):
    plan = planner(strategy, space)
    made = grow(plan, 40)
    assert len(made) >= 30
    for new in made:
        plan.settings.space.check(new.choices)
        assert plan.settings.budget.admits(flops=new.flops, params=new.params_count)


@pytest.mark.parametrize("strategy", ALL)
def test_same_seed_and_history_give_the_same_proposals(strategy):
    first = grow(planner(strategy), 30)
    second = grow(planner(strategy), 30)
    assert first == second


@pytest.mark.parametrize("strategy", [s for s in ALL if s != "grid"])
def test_another_seed_gives_other_proposals(strategy):
    first = grow(planner(strategy), 10)
    second = grow(planner(strategy, seed=1), 10)
    assert [n.fingerprint for n in first] != [n.fingerprint for n in second]


@pytest.mark.parametrize("strategy", ALL)
def test_continued_study_proposes_as_the_uninterrupted_one(strategy):
    """R11: proposals depend on seed and history, not on the process that made the history."""
    whole = planner(strategy)
    made = grow(whole, 30)
    again = planner(strategy)
    entries = []
    known = set()
    for new in made[:25]:
        role = "replay" if new.fingerprint in known else "candidate"
        known.add(new.fingerprint)
        entries.append(entry(new, role, score=score_of(new.fingerprint)))
    again.history.memory = dict(whole.history.memory)
    again.learn(entries)
    assert again.candidate() == made[25]


@pytest.mark.parametrize("strategy", ALL)
@given(orders=st.lists(st.permutations(range(4)), min_size=5, max_size=5))
@hypothesis_settings(max_examples=5, deadline=None)
def test_order_of_completion_does_not_matter(strategy, orders):
    """R11: in batches of four, any order in which the four end gives the same next four."""

    def proposals(orders):
        plan, made = planner(strategy), []
        for order in orders:
            batch = []
            for _ in range(4):
                new = plan.candidate()
                batch.append(new)
                plan.learn([entry(new, state="running")])
            for i in order:
                plan.learn([entry(batch[i], score=score_of(batch[i].fingerprint))])
            made += batch
        return made

    assert proposals(orders) == proposals([range(4)] * len(orders))


@pytest.mark.parametrize("strategy", ALL)
def test_failed_designs_are_survived(strategy):
    made = grow(planner(strategy), 30, fail=range(0, 30, 2))
    assert len(made) == 30


@pytest.mark.parametrize("strategy", ALL)
def test_designs_in_training_are_not_proposed(strategy):
    plan = planner(strategy, GRID)
    running = set()
    for _ in range(20):
        new = plan.candidate()
        assert new.fingerprint not in running
        running.add(new.fingerprint)
        plan.learn([entry(new, state="running")])


@pytest.mark.parametrize("strategy", ALL)
def test_whole_space_is_found_and_then_there_is_nothing(strategy):
    plan = planner(strategy, GRID)
    made = grow(plan, 2000)
    assert len({n.fingerprint for n in made}) == plan.settings.space.size == 32
    assert plan.candidate().final


@pytest.mark.parametrize("strategy", ALL)
def test_conditional_choices_exist_only_under_their_condition(strategy):
    made = grow(planner(strategy), 40)
    if strategy != "grid":  # whose first forty points have one mixer
        assert {"s" in n.choices["mixer"] for n in made} == {True, False}
    for new in made:
        assert ("d_state" in new.choices) == ("s" in new.choices["mixer"])


@pytest.mark.parametrize("strategy", [s for s in ALL if s not in ("random", "grid")])
def test_learning_beats_chance(strategy):
    """A strategy that learns finds better designs than uniform draws, on a score with structure."""

    def scored(name, seed):
        plan = planner(name, seed=seed)
        values = []
        for _ in range(60):
            new = plan.candidate()
            depth, kernel = new.choices["depth"], new.choices.get("kernel", 3)
            value = depth / 6 + kernel / 9 + new.choices["mixer"].count("g") / 3
            plan.learn([entry(new, score=value)])
            values.append(value)
        return sum(values[-20:]) / 20

    seeds = range(3)
    assert sum(scored(strategy, s) for s in seeds) > sum(scored("random", s) for s in seeds)


def test_unknown_strategy_names_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'evolution'"):
        make_sampler("evolutoin", None, 0)


def test_second_registration_of_a_name_is_refused():
    with pytest.raises(ValueError, match="'random' is registered already"):
        register("random", "x", "y")


def test_budget_of_the_tests_is_what_it_seems():
    assert settings().budget.text == (BUDGET,)
