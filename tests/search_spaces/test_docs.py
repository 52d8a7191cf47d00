"""docs/spaces.md keeps its word."""

import re
from pathlib import Path

import pytest
from small_spaces import BAND, rng

from backbones import cost
from search_spaces import SearchSpace, list_spaces

TEXT = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_example_loads_and_fits_a_budget():
    [text] = blocks("yaml")
    space = SearchSpace.from_text(text)
    assert space.points == ("vmamba_tiny_s1l8", "quadmamba_small")
    for seed in range(10):
        config = space.build(space.sample(rng(seed)), [BAND])
        assert BAND.lo <= cost(config).flops <= BAND.hi


def test_the_python_example_runs():
    [code] = blocks("python")
    names = {}
    exec(code, names)
    again, child = (names["space"].build(names[point]) for point in ("again", "child"))
    assert again.fingerprint() == child.fingerprint()
    assert BAND.lo <= cost(names["config"]).flops <= BAND.hi


@pytest.mark.parametrize("name", list_spaces())
def test_every_shipped_space_is_described(name):
    assert f"| `{name}` |" in TEXT
