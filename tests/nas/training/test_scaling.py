"""Scaling keeps the searched choices, and says where they cannot act."""

import numpy as np
import pytest

from backbones import cost, list_presets, load_config
from backbones.config import BackboneConfig
from nas.study.recipe import Recipe
from nas.training.scaling import proxy_config
from search_spaces.fit import Band, fit_widths

RECIPE = Recipe(image_size=32, stem_stride=2, flops_ratio=1.4e-3, width_step=4, depth_ratio=1.0)
PRESETS = sorted(list_presets())


def quadtree_net(levels=(2, 4), depths=(2, 2, 4, 2), pattern="q", shift=None, order=None):
    kind = {"kind": "quadtree", "levels": list(levels)} if order is None else order
    mixer = {"kind": "ssm", "order": kind}
    if shift is not None:
        mixer["shift"] = shift
    stages = [
        {"width": 96 * 2**i, "depth": d, "pattern": pattern}
        | ({"downsample": "conv3x3"} if i else {})
        for i, d in enumerate(depths)
    ]
    blocks = {"q": {"mixer": mixer}, "g": {"mixer": {"kind": "gated_conv"}}}
    return BackboneConfig.model_validate({"blocks": blocks, "stages": stages})


def scale(config, recipe=RECIPE, **changes):
    return proxy_config(config, recipe.model_copy(update=changes), 10, 3)


def orders(config):
    """Return the scan order of the first block of each stage."""
    return [config.blocks[s.letters[0]].mixer.order for s in config.stages]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_scales_to_a_small_valid_network(name):
    config = load_config(name)
    scaled, _ = scale(config)
    assert (scaled.num_classes, scaled.in_chans, scaled.image_size) == (10, 3, 32)
    assert len(scaled.stages) == len(config.stages)
    assert [s.depth for s in scaled.stages] == [s.depth for s in config.stages]
    assert BackboneConfig.from_yaml(scaled.to_yaml()) == scaled


@pytest.mark.parametrize("name", PRESETS)
def test_share_of_the_operations_is_met(name):
    config = load_config(name)
    scaled, notes = scale(config)
    whole = cost(config.model_copy(update={"num_classes": 0})).flops
    share = cost(scaled, image_size=32).flops / (RECIPE.flops_ratio * whole)
    assert 0.7 <= share <= 1.0 or any("no width meets" in n for n in notes)


def test_candidates_of_equal_cost_get_networks_of_equal_cost():
    budget = [Band("flops", 4.3e9, 4.5e9)]
    designs = [quadtree_net(), quadtree_net(depths=(2, 2, 9, 2)), quadtree_net(pattern="g")]
    full = [fit_widths(d, budget) for d in designs]
    small = [cost(scale(d)[0], image_size=32).flops for d in full]
    assert max(small) / min(small) < 1.1


def test_stages_keep_their_proportions():
    scaled, _ = scale(quadtree_net(), flops_ratio=0.02)
    first, *later = [s.width for s in scaled.stages]
    assert [w / first for w in later] == pytest.approx([2, 4, 8], rel=0.15)


def test_what_no_width_reaches_is_trained_narrow_and_noted():
    scaled, notes = scale(quadtree_net(), flops_ratio=1e-7)
    assert [s.width for s in scaled.stages] == [4, 8, 16, 32]
    assert any("no width meets it" in n for n in notes)


def test_quadtree_acts_in_two_stages_of_a_16_grid():
    scaled, notes = scale(quadtree_net())
    assert [getattr(o, "levels", None) for o in orders(scaled)][:2] == [(2, 4), (2, 4)]
    assert not [n for n in notes if n.startswith(("stage 1", "stage 2"))]
    assert any(n.startswith("stage 3 (4 x 4") and "cannot act" in n for n in notes)
    # On 2 x 2 tokens there is nothing to subdivide.
    assert orders(scaled)[3].kind == "bidirectional"


def test_levels_are_cut_to_the_map():
    scaled, notes = scale(quadtree_net(levels=(2, 4, 8)), stem_stride=4)
    assert orders(scaled)[1].levels == (2, 4)
    assert any("[2, 4, 8] are cut to [2, 4]" in n for n in notes)
    assert any(n.startswith("stage 1 (8 x 8") and "level 8 cannot act" in n for n in notes)


@pytest.mark.parametrize("side", [4, 6, 8, 12, 16])
@pytest.mark.parametrize("levels", [(2, 4), (4, 8), (2, 8), (2, 4, 8)])
def test_note_on_an_idle_level_is_right(side, levels):
    """A level is noted as idle exactly when subdividing every window changes no order."""
    recipe = RECIPE.model_copy(update={"image_size": 2 * side})
    scaled, notes = proxy_config(quadtree_net(levels, depths=(1,)), recipe, 10, 3)
    used = getattr(orders(scaled)[0], "levels", ())
    if not used:
        assert any("no room" in n for n in notes)
        return
    grid = _grid_side(scaled)
    idle = [
        level
        for i, level in enumerate(used)
        if i and np.array_equal(subdivided(used, i, grid), subdivided(used, i + 1, grid))
    ]
    noted = [level for level in used[1:] if any(f"level {level} cannot act" in n for n in notes)]
    assert noted == idle


def subdivided(levels, count, side):
    """Return the order of tokens when every window is subdivided `count` levels deep."""
    cell = -(-side // levels[-1])  # windows are cut from the map padded to the finest level
    rows, cols = np.divmod(np.arange(side**2), side)
    keys = []
    for level in levels[:count]:
        width = cell * (levels[-1] // level)
        keys += [rows // width, cols // width]
    return np.lexsort([cols, rows, *keys[::-1]])


def _grid_side(config):
    return config.stem.grid((config.image_size, config.image_size))[0]


def test_distinct_resolutions_stay_distinct_networks():
    seen = {scale(quadtree_net(levels))[0].fingerprint() for levels in ((2, 4), (2, 8), (4, 8))}
    assert len(seen) == 3


def test_shift_acts_wherever_there_are_two_tokens():
    scaled, notes = scale(quadtree_net(shift="omni"), stem_stride=4)
    fractions = [scaled.blocks[s.letters[0]].mixer.shift.fraction for s in scaled.stages]
    assert fractions[:3] == [8, 4, 2]
    assert sum("is no token" in n for n in notes) == 2


def test_shift_of_odd_blocks_survives_any_depth_ratio():
    plain, shifted = (
        scale(quadtree_net(shift=s, depths=(2, 2, 2, 2)), depth_ratio=0.1)[0]
        for s in (None, "omni")
    )
    assert [s.depth for s in shifted.stages] == [2, 2, 2, 2]
    assert plain.fingerprint() != shifted.fingerprint()


def test_depth_scales_and_keeps_the_mixture():
    scaled, _ = scale(quadtree_net(depths=(1, 2, 8, 3), pattern="qg"), depth_ratio=0.5)
    assert [s.depth for s in scaled.stages] == [1, 2, 4, 2]
    assert scaled.stages[2].letters == "qgqg"
    config = quadtree_net(depths=(8,), pattern="qqqqgggg")
    assert scale(config, depth_ratio=0.5)[0].stages[0].letters == "qqgg"


def test_anchored_patterns_are_thinned_evenly():
    full, _ = scale(quadtree_net(depths=(8,), pattern="q*g4"), depth_ratio=1.0)
    half, _ = scale(quadtree_net(depths=(8,), pattern="q*g4"), depth_ratio=0.5)
    assert full.stages[0].letters == "qqqqgggg"
    assert half.stages[0].letters == "qqgg"


def test_lost_letter_is_noted():
    _, notes = scale(quadtree_net(depths=(4,), pattern="gqqq"), depth_ratio=0.5)
    assert any("block g does not occur" in n for n in notes), notes


def test_windows_as_large_as_the_map_are_noted():
    order = {"kind": "window", "routes": ["h", "h_flip", "w7", "w2"]}
    _, notes = scale(quadtree_net(order=order), stem_stride=4)
    assert not any("w7" in n for n in notes if n.startswith("stage 1"))
    assert any("w7" in n for n in notes if n.startswith("stage 2 (4 x 4"))


def test_plain_backbones_get_a_grid_of_eight():
    for name in ("vim_tiny", "plainmamba_l1"):
        scaled, _ = scale(load_config(name))
        assert _grid_side(scaled) == 8
        large, _ = scale(load_config(name), image_size=224, stem_stride=4)
        assert _grid_side(large) == 14


def test_notes_are_few_and_distinct():
    _, notes = scale(load_config("quadmamba_small"))
    assert len(notes) == len(set(notes)) <= 4
