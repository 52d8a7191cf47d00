"""Any Optuna sampler as a strategy: nas/planning/strategies/outside.py."""

import optuna
import pytest
from doubles import GRID
from test_strategy_conformance import ONE, TWO, grow, planner

from nas.errors import StudyError
from nas.planning.strategies import check_strategy, make_sampler
from nas.planning.strategies.outside import name_of

OUTSIDE = [
    "optuna.samplers:NSGAIIISampler",
    "optuna.samplers:BruteForceSampler",
    "optuna.samplers:QMCSampler",
    pytest.param("optuna.samplers:GPSampler", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("strategy", OUTSIDE)
@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["top1", "top1_flops"])
def test_optunas_samplers_search_reproducibly(strategy, objectives):
    fail = {2: "nan", 5: "oom"}
    first = grow(planner(strategy, GRID, objectives=objectives), 13, fail=fail)
    assert len(first) == 13
    assert len({n.fingerprint for n in first}) > 6
    assert first == grow(planner(strategy, GRID, objectives=objectives), 13, fail=fail)
    assert all(len(n.kind) <= 40 for n in first)


def fixed(space, seed):
    """A strategy of a user's own: the space is given too."""
    assert space.choices
    return optuna.samplers.RandomSampler(seed=seed)


def test_function_of_space_and_seed_is_a_strategy():
    assert len(grow(planner(f"{__name__}:fixed", GRID), 4)) == 4


def test_class_is_stored_by_its_name():
    name = name_of(optuna.samplers.GPSampler)
    assert name == "optuna.samplers:GPSampler"
    assert name_of(fixed) == f"{__name__}:fixed"
    assert isinstance(make_sampler(name, None, 3), optuna.samplers.GPSampler)
    assert name_of("tpe") == "tpe"


def test_class_of_a_session_is_refused():
    with pytest.raises(StudyError, match="could not import it; give module:Class"):
        name_of(lambda seed: optuna.samplers.RandomSampler(seed=seed))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("optuna.samplers:GPSampel", "did you mean 'GPSampler'\\?; give module:Class"),
        ("no_such_module:X", "No module named 'no_such_module'; give module:Class"),
        (":X", "Empty module name"),
        ("optuna.samplers:GridSampler", "asks for 'search_space', so a study could not make it"),
        ("optuna:create_trial", "takes no seed"),
        ("optuna.version:__version__", "is a str; give module:Class"),
    ],
)
def test_what_is_no_sampler_is_refused_before_a_study_exists(name, said):
    with pytest.raises(StudyError, match=said):
        check_strategy(name)


def test_what_makes_no_sampler_is_refused():
    with pytest.raises(StudyError, match="makes a Random; give module:Class"):
        make_sampler(f"{__name__}:no", None, 0)


def no(seed):
    import random

    return random.Random(seed)


def test_objectives_that_a_sampler_cannot_handle_are_refused():
    with pytest.raises(StudyError, match="refuses: one_objective alone; use another one"):
        planner(f"{__name__}:OneObjective", GRID, objectives=TWO).candidate()


class OneObjective(optuna.samplers.RandomSampler):
    """As Optuna's CmaEsSampler, which is no dependency here."""

    def sample_relative(self, study, trial, search_space):
        if len(study.directions) > 1:
            raise ValueError("one_objective alone.")
        return {}
