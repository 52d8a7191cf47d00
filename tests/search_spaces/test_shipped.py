"""The spaces that ship: their designs exist, and act where they say."""

import json
from pathlib import Path

import pytest
from small_spaces import BAND, rng, space

from backbones.mixers.ssm import SSMConfig
from backbones.orders.quadtree import QuadtreeOrder
from search_spaces import SearchSpace, list_spaces
from search_spaces.fit import with_widths
from search_spaces.space import SHIPPED

DESIGNS = json.loads((Path(__file__).parent / "shipped_designs.json").read_text())
"""Points, members and samples of version 1 of every shipped space, with their fingerprints and
their widths at 4.275 to 4.5 GFLOPs. Later versions may hold more designs, and all of these."""
SIZES = {
    "hybrid": 2934542497289285460,
    "local": 85456107178974000000000000000,
    "mambaout": 2700000000,
    "quadtree": 301387240645952,
    "vim": 126720,
    "vmamba": 7844480,
}
IMAGE = 64
"""Pixels a side: the first map of a pyramid is 16 x 16, a plain backbone's 4 x 4."""
BUILDS = 6


def test_six_spaces_ship():
    assert list_spaces() == ["hybrid", "local", "mambaout", "quadtree", "vim", "vmamba"]


@pytest.mark.parametrize("name", list_spaces())
def test_shipped_spaces_are_proved_as_a_users_own_is(name):
    """Loading one by its name builds no options; a path does."""
    path = SHIPPED / f"{name}.yaml"
    assert SearchSpace.load(path).fingerprint == SearchSpace.load(name).fingerprint


@pytest.mark.parametrize("name", list_spaces())
def test_shipped_spaces_say_what_they_are(name):
    assert space(name).name == name
    assert space(name).description
    assert all(row["about"] for row in space(name).explain())
    assert space(name).points


@pytest.mark.parametrize("name", list_spaces())
def test_designs_of_the_first_versions_are_the_same_still(name):
    first = DESIGNS[name]
    assert {p: space(name).point(p).fingerprint() for p in space(name).points} == first["points"]
    assert list(space(name).members) == first["members"]
    for sample in first["samples"]:
        assert space(name).build(sample["choices"]).fingerprint() == sample["fingerprint"]
        fitted = space(name).build(sample["choices"], [BAND])
        assert [stage.width for stage in fitted.stages] == sample["widths"]
    assert space(name).size == SIZES[name]


@pytest.mark.parametrize("name", list_spaces())
@pytest.mark.parametrize("seed", range(BUILDS))
def test_designs_build_and_classify(name, seed):
    import torch

    import backbones
    from kernels import use_backend

    config = space(name).build(space(name).sample(rng(seed)))
    narrow = with_widths(
        config, [8 * stage.width // config.stages[0].width for stage in config.stages]
    )
    torch.manual_seed(0)
    model = backbones.create(narrow, num_classes=3).eval()
    assert (
        sum(p.numel() for p in model.parameters())
        == backbones.cost(narrow.model_copy(update={"num_classes": 3})).params
    )
    with torch.no_grad(), use_backend("reference"):
        assert model(torch.randn(1, 3, IMAGE, IMAGE)).shape == (1, 3)


def test_quadtree_choices_exist_exactly_where_a_block_uses_them():
    quadtree = space("quadtree")
    for seed in range(60):
        point = quadtree.sample(rng(seed))
        config = quadtree.build(point)
        mixers = [[config.blocks[x].mixer for x in stage.letters] for stage in config.stages]
        used = {
            "scan": any(_is_ssm(m) and m.order.kind != "quadtree" for s in mixers for m in s),
            "refine": any(_is_quad(m) for s in mixers for m in s),
            "d_state": any(_is_ssm(m) for s in mixers for m in s),
            "conv_kernel": any(not _is_ssm(m) for s in mixers for m in s),
            **{f"levels_{i + 1}": any(map(_is_quad, mixers[i])) for i in range(3)},
        }
        assert {name: name in point for name in used} == used


def test_quadtree_resolutions_reach_the_blocks_of_their_stage():
    quadtree = space("quadtree")
    point = quadtree.point("quadmamba_small")
    choices = {**quadtree.choices_of(point), "levels_1": [2, 4, 8], "levels_2": [4, 8], "refine": 3}
    config = quadtree.build(choices)
    orders = [config.blocks[stage.pattern].mixer.order for stage in config.stages[:2]]
    assert [o.levels for o in orders] == [(2, 4, 8), (4, 8)]
    assert [o.refine for o in orders] == [3, 3]


def _is_ssm(mixer):
    return isinstance(mixer, SSMConfig)


def _is_quad(mixer):
    return _is_ssm(mixer) and isinstance(mixer.order, QuadtreeOrder)
