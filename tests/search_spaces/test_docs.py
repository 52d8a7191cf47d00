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
    text, _ = blocks("yaml")
    space = SearchSpace.from_text(text)
    assert space.points == ("vmamba_tiny_s1l8", "quadmamba_small")
    for seed in range(10):
        config = space.build(space.sample(rng(seed)), [BAND])
        assert BAND.lo <= cost(config).flops <= BAND.hi


def test_the_example_of_twins_varies_them_together():
    space = SearchSpace.from_text(blocks("yaml")[1])
    mixers = {"mixer_1": "s", "mixer_2": "n", "mixer_3": "t", "mixer_4": "nt"}
    config = space.build(mixers | {"ffn": 4})
    kinds = [
        [(b.mixer.kind, getattr(b.mixer, "scan", None), b.ffn.ratio) for b in stage]
        for stage in ([config.blocks[x] for x in s.letters[:2]] for s in config.stages)
    ]
    s, n, t = ("ssm", True, 4.0), ("ssm", False, 4.0), ("attention", None, 4.0)
    assert kinds == [[s, s], [n, n], [t, t], [n, t]]


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
