"""What every strategy must do; a newly registered one is tested without further ado."""

import inspect
import sys
from dataclasses import replace

import numpy as np
import pytest
from contributing import code
from doubles import CONDITIONAL, GRID, score_of, settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nas.errors import StudyError
from nas.planning import strategies
from nas.planning.proposals import Nothing, Planner
from nas.planning.strategies import list_strategies, make_sampler, register
from nas.study.outcomes import Outcome
from nas.study.proposals import Entry

ALL = sorted(list_strategies())
LEARNING = [name for name in ALL if name not in ("random", "grid")]  # these are blind to results
ONE, TWO = ("top1",), ("top1", "flops")
OBJECTIVES = pytest.mark.parametrize("objectives", [ONE, TWO], ids=["top1", "top1_flops"])


def grow(planner, steps, *, fail=None):
    """Let a strategy search: every proposal ends at once; returns the proposals.

    fail: index of a proposal -> outcome, of those that fail.
    """
    made, known = [], {}
    for _ in range(steps):
        new = planner.candidate()
        if isinstance(new, Nothing):
            break
        made.append(new)
        seen = new.fingerprint in known
        state = known.setdefault(new.fingerprint, (fail or {}).get(new.index, "complete"))
        score = score_of(new.fingerprint)
        planner.learn([entry(planner, new, "replay" if seen else "candidate", state, score)])
    return made


def entry(plan, new, role="candidate", state="complete", score=0.5):
    values = [score, new.flops][: len(plan.settings.objectives)]
    return Entry(
        index=new.index,
        role=role,
        state=state,
        fingerprint=new.fingerprint,
        params=dict(new.params),
        sampler=dict(new.sampler),
        objectives=values if state in ("complete", "pruned") else None,
        epochs=3,
        canary=True if state in ("error", "stalled") else None,
    )


def planner(strategy, space=CONDITIONAL, **changes):
    return Planner("s", settings(space, strategy=strategy, **changes), None)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("space", [GRID, CONDITIONAL], ids=["grid", "conditional"])
@OBJECTIVES
def test_proposals_lie_in_space_and_budget(strategy, space, objectives):
    plan = planner(strategy, space, objectives=objectives)
    made = grow(plan, 40)
    assert len(made) >= 30
    for new in made:
        plan.settings.space.check(new.choices)
        assert plan.settings.budget.admits(flops=new.flops, params=new.params_count)


@pytest.mark.parametrize("strategy", ALL)
@OBJECTIVES
def test_same_seed_and_history_give_the_same_proposals(strategy, objectives):
    first = grow(planner(strategy, objectives=objectives), 30)
    second = grow(planner(strategy, objectives=objectives), 30)
    assert first == second


@pytest.mark.parametrize("strategy", [s for s in ALL if s != "grid"])
def test_another_seed_gives_other_proposals(strategy):
    first = grow(planner(strategy), 10)
    second = grow(planner(strategy, seed=1), 10)
    assert [n.fingerprint for n in first] != [n.fingerprint for n in second]


@pytest.mark.parametrize("strategy", ALL)
@OBJECTIVES
def test_continued_study_proposes_as_the_uninterrupted_one(strategy, objectives):
    """R11: proposals depend on seed and history, not on the process that made the history."""
    whole = planner(strategy, objectives=objectives)
    made = grow(whole, 30)
    again = planner(strategy, objectives=objectives)
    entries = []
    known = set()
    for new in made[:25]:
        role = "replay" if new.fingerprint in known else "candidate"
        known.add(new.fingerprint)
        entries.append(entry(again, new, role, score=score_of(new.fingerprint)))
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
                plan.learn([entry(plan, new, state="running")])
            for i in order:
                plan.learn([entry(plan, batch[i], score=score_of(batch[i].fingerprint))])
            made += batch
        return made

    assert proposals(orders) == proposals([range(4)] * len(orders))


@pytest.mark.parametrize("strategy", ALL)
@OBJECTIVES
def test_failed_designs_are_survived(strategy, objectives):
    """Every second design fails, each class of outcome in its turn."""
    classes = [o.value for o in Outcome if o is not Outcome.COMPLETE]
    fail = {2 * i: classes[i % len(classes)] for i in range(14)}
    made = grow(planner(strategy, objectives=objectives), 28, fail=fail)
    assert len(made) == 28


@pytest.mark.parametrize("strategy", LEARNING)
@OBJECTIVES
def test_failures_teach(strategy, objectives):
    """Where all designs with one mixer fail, fewer of them are tried than by chance."""

    def failed(name, seed):
        plan, late = planner(name, seed=seed, objectives=objectives), 0
        for step in range(60):  # two generations of NSGA-II, and what it learned of them
            new = plan.candidate()
            fails = "s" in new.choices["mixer"]
            late += fails and step >= 30
            # What fails is the cheapest there is: on a front it would look good.
            known = entry(plan, new, state="oom" if fails else "complete")
            values = [0.5, 1e9][: len(objectives)]
            plan.learn([known if fails else replace(known, objectives=values)])
        return late

    assert sum(failed(strategy, s) for s in range(2)) < sum(failed("random", s) for s in range(2))


@pytest.mark.parametrize("strategy", ALL)
def test_no_design_is_trained_twice_by_eight_workers(strategy):
    """Over 300 proposals of 8 x 4 designs: all are found, and none is in training twice."""
    plan, running, trained = planner(strategy, GRID), [], {}
    rng = np.random.default_rng(0)
    for _ in range(300):
        new = plan.candidate()
        if isinstance(new, Nothing) and new.final:
            break
        if not isinstance(new, Nothing):
            seen = trained.get(new.fingerprint)
            assert seen != "running"
            plan.learn([entry(plan, new, "replay" if seen else "candidate", seen or "running")])
            running += [] if seen else [new]
            trained[new.fingerprint] = seen or "running"
        if len(running) == 8 or isinstance(new, Nothing):
            ended = running.pop(int(rng.integers(len(running))))
            trained[ended.fingerprint] = "complete"
            plan.learn([entry(plan, ended, score=score_of(ended.fingerprint))])
    assert len(trained) == plan.settings.space.size == 32


@pytest.mark.parametrize("strategy", ALL)
def test_designs_in_training_are_not_proposed(strategy):
    plan = planner(strategy, GRID)
    running = set()
    for _ in range(20):
        new = plan.candidate()
        assert new.fingerprint not in running
        running.add(new.fingerprint)
        plan.learn([entry(plan, new, state="running")])


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


@pytest.mark.parametrize("strategy", LEARNING)
def test_learning_beats_chance(strategy):
    """A strategy that learns finds better designs than uniform draws, on a score with structure."""

    def scored(name, seed):
        plan = planner(name, seed=seed)
        values = []
        for _ in range(60):
            new = plan.candidate()
            depth, kernel = new.choices["depth"], new.choices.get("kernel", 3)
            value = depth / 6 + kernel / 9 + new.choices["mixer"].count("g") / 3
            plan.learn([entry(plan, new, score=value)])
            values.append(value)
        return sum(values[-20:]) / 20

    seeds = range(3)
    assert sum(scored(strategy, s) for s in seeds) > sum(scored("random", s) for s in seeds)


@pytest.mark.parametrize("strategy", LEARNING)
def test_second_objective_is_heard(strategy):
    """Of designs that score alike, those that cost less are found more often than by chance."""

    def cost(name, seed):
        made = []
        plan = planner(name, seed=seed, objectives=TWO)
        for _ in range(70):
            new = plan.candidate()
            made.append(new.choices["depth"])
            # The band is narrow: a cost that leaves no doubt stands for the true one.
            known = entry(plan, new)
            plan.learn([replace(known, objectives=[0.5, float(made[-1])])])
        return sum(made[-25:]) / 25

    seeds = range(3)
    assert sum(cost(strategy, s) for s in seeds) < sum(cost("random", s) for s in seeds)


def test_unknown_strategy_names_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'evolution'"):
        make_sampler("evolutoin", None, 0)


def test_second_registration_of_a_name_is_refused():
    with pytest.raises(ValueError, match="'random' is registered already"):
        register("random", "x", "y")


# --- the exercise of CONTRIBUTING.md -----------------------------------------------------------

CONFORMANCE = [
    test
    for name, test in list(globals().items())
    if name.startswith("test_") and "strategy" in inspect.signature(test).parameters
]


@pytest.fixture
def climb(tmp_path, monkeypatch):
    """Carry out the exercise, the module as its author wrote it; return its name."""

    def add(change=lambda text: text):
        module, registration = code("Add a strategy")
        (tmp_path / "climb_exercise.py").write_text(change(module))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "climb_exercise", raising=False)
        monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))
        line = registration.replace("nas.planning.strategies.climb", "climb_exercise")
        exec(line, {"register": register})
        return list_strategies()[-1]

    return add


def passes(test, strategy):
    """Run a test of this file for a strategy, under one or two objectives and in any space."""
    wanted = inspect.signature(test).parameters
    given = {"objectives": TWO, "space": CONDITIONAL}
    test(strategy=strategy, **{name: given[name] for name in wanted if name in given})


@pytest.mark.parametrize("test", CONFORMANCE, ids=lambda test: test.__name__)
def test_strategy_of_the_exercise_conforms(climb, test):
    passes(test, climb())


@pytest.mark.parametrize(
    ("right", "wrong", "test"),
    [
        ("self.rng)\n", "np.random.default_rng())\n", "test_same_seed_and_history"),
        (
            "if not done:",
            "if True:\n            self.rng = np.random.default_rng(1)\n        if not done:",
            "test_another_seed",
        ),
        (".argmax()", ".argmin()", "test_learning_beats_chance"),
    ],
    ids=["unseeded", "one_seed", "learns_the_wrong_way"],
)
def test_wrong_strategy_is_caught(climb, right, wrong, test):
    strategy = climb(lambda text: "import numpy as np\n" + text.replace(right, wrong))
    [suite] = [t for t in CONFORMANCE if t.__name__.startswith(test)]
    with pytest.raises(AssertionError):
        passes(suite, strategy)
