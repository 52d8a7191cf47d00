import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import BAND, rng, seeds, space

from backbones import cost, list_presets, load_config
from search_spaces import Band, SearchSpace, SpaceError, UnreachableError, fit_widths, list_spaces
from search_spaces.fit import amount, check_bands, with_widths

RATIO_SLACK = 0.18
"""Largest relative bend of a width ratio: a step of 8 on the narrowest stage, here 48."""


def band(limit, metric="flops"):
    return Band(metric, 0.95 * limit, limit)


@pytest.mark.parametrize("name", list_spaces())
@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_every_sample_lands_in_the_band(name, seed):
    config = space(name).build(space(name).sample(rng(seed)), [BAND])
    assert BAND.lo <= cost(config).flops <= BAND.hi
    step = 4 if name == "vim" else 8
    assert all(stage.width % step == 0 for stage in config.stages)


# Heads of 64 channels leave a ViT widths too far apart for some bands.
FINE = [n for n in list_presets() if all(b.width_step <= 8 for b in load_config(n).blocks.values())]


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(FINE), limit=st.floats(1.5e9, 12e9))
def test_every_preset_lands_in_any_band(name, limit):
    config = fit_widths(load_config(name), [band(limit)])
    assert 0.95 * limit <= cost(config).flops <= limit
    assert with_widths(config, [s.width for s in load_config(name).stages]) == load_config(name)


@settings(deadline=None, max_examples=25)
@given(limit=st.floats(1.5e9, 12e9))
def test_ratios_stay_near_the_configs_own(limit):
    base = load_config("vmamba_tiny_s1l8")
    fitted = fit_widths(base, [band(limit)])
    scales = [f.width / b.width for f, b in zip(fitted.stages, base.stages)]
    assert max(scales) / min(scales) < 1 + RATIO_SLACK


def test_fit_lands_higher_than_the_ladder_of_equal_ratios():
    base = load_config("vmamba_tiny_s1l8")
    fitted = cost(fit_widths(base, [BAND])).flops
    rungs = (cost(base, widths=[8 * k * m for m in (1, 2, 4, 8)]).flops for k in range(4, 14))
    best_rung = max(f for f in rungs if f <= BAND.hi)
    assert BAND.hi * 0.99 < fitted
    assert fitted > best_rung


def test_fit_is_the_identity_where_nothing_is_asked():
    base = load_config("vim_tiny")
    assert fit_widths(base, []) is base


@pytest.mark.parametrize("convention", ["fvcore", "macs"])
def test_fit_counts_by_the_convention_and_the_image_size(convention):
    config = load_config("vmamba_tiny_s1l8")
    wanted = band(2e9)
    fitted = fit_widths(config, [wanted], image_size=160, convention=convention)
    assert wanted.lo <= cost(fitted, 160, convention).flops <= wanted.hi


@pytest.mark.parametrize(("limit", "wider"), [(18e6, "early"), (40e6, "late")])
def test_two_bands_tilt_the_ratios_as_needed(limit, wider):
    base = load_config("vmamba_tiny_s1l8")
    bands = [BAND, band(limit, "params")]
    fitted = fit_widths(base, bands)
    found = cost(fitted)
    assert all(b.lo <= getattr(found, b.metric) <= b.hi for b in bands)
    first, last = (fitted.stages[i].width / base.stages[i].width for i in (0, -1))
    assert (first > last) == (wider == "early")


def test_params_alone_are_a_band_too():
    fitted = fit_widths(load_config("mambaout_femto"), [band(10e6, "params")])
    assert 9.5e6 <= cost(fitted).params <= 10e6


def test_one_stage_that_leaps_over_the_band_gets_a_finer_step():
    base = load_config("vim_tiny")
    coarse = [cost(base, widths=[w]).flops for w in range(8, 400, 8)]
    gap = next((a, b) for a, b in pairwise(coarse) if 1.06 < b / a < 1.15 and a > 5e8)
    wanted = Band("flops", gap[0] * 1.005, gap[1] * 0.995)
    fitted = fit_widths(base, [wanted], step=8)
    assert wanted.lo <= cost(fitted).flops <= wanted.hi
    assert fitted.stages[0].width % 8


def test_unreachable_band_names_the_nearest_cost():
    with pytest.raises(UnreachableError) as caught:
        fit_widths(load_config("vmamba_tiny_s1l8"), [band(1e6)])
    assert str(caught.value) == (
        "no width reaches 0.95-1MFLOPs (fvcore, 224 px): its narrowest form, widths 8, 8, 8, 8, "
        f"costs {amount(caught.value.spent)} flops; raise the budget or make the design smaller"
    )
    assert caught.value.too_large
    assert caught.value.spent == cost("vmamba_tiny_s1l8", widths=[8, 8, 8, 8]).flops


def test_band_too_narrow_for_any_width_says_so():
    exact = cost("vim_tiny").flops
    with pytest.raises(
        UnreachableError, match=r"the nearest, widths 192, costs .*; widen the band"
    ):
        fit_widths(load_config("vim_tiny"), [Band("flops", exact + 1, exact + 2)])


def test_bands_that_exclude_each_other_are_unreachable():
    with pytest.raises(UnreachableError, match=r"4\.275-4\.5GFLOPs and 285-300Mparams"):
        fit_widths(load_config("vim_tiny"), [BAND, band(300e6, "params")])


def test_unreachable_design_names_the_choices_that_bind():
    vmamba = space("vmamba")
    point = vmamba.sample(rng(0))
    limit = cost(vmamba.build(point), widths=[8] * 4).flops * 0.5
    with pytest.raises(UnreachableError) as caught:
        vmamba.build(point, [Band("flops", 0.3 * limit, limit)])
    named = str(caught.value).split("what binds: ")[1].split(", ")
    assert 1 <= len(named) <= 3
    for text in named:
        name, value = text.split(" = ")
        assert str(point[name]) == value


def test_space_without_fit_refuses_what_lies_outside():
    shifted = space("shifted")
    point = shifted.sample(rng(1))
    design = shifted.build(point)
    inside = cost(design).flops
    assert shifted.build(point, [Band("flops", inside, inside)]) == design
    with pytest.raises(UnreachableError, match="this space does not fit widths"):
        shifted.build(point, [band(inside / 2)])
    with pytest.raises(UnreachableError, match="outside 1-2MFLOPs"):
        check_bands(design, [Band("flops", 1e6, 2e6)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("energy", 1, 2),
            "band metric 'energy' is unknown; use flops or params or latency or memory",
        ),
        (("flops", 2, 1), "band 2 to 1 flops is empty; give 0 <= lo <= hi"),
        (("flops", -1, 1), "band -1 to 1 flops is empty; give 0 <= lo <= hi"),
        (("params", 0, 0), "band 0 to 0 params is empty; give 0 <= lo <= hi"),
        (("flops", math.nan, 1), "band nan to 1 flops is empty; give 0 <= lo <= hi"),
    ],
)
def test_band_refuses_what_holds_nothing(arguments, message):
    with pytest.raises(SpaceError) as caught:
        Band(*arguments)
    assert str(caught.value) == message


UNFIT = {
    name: SearchSpace.from_text(space(name).source_text.split("fit:")[0])
    for name in ("mambaout", "vmamba", "vim")
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", UNFIT)
def test_repair_lands_in_the_band_where_widths_are_not_solved_for(name, seed):
    free, draw = UNFIT[name], rng(seed)
    member = cost(free.build(free.sample(rng(seed + 100)))).flops
    wanted = [band(member * 1.02)]
    far = free.sample(draw)
    near = free.repair(far, wanted, draw)
    free.build(near, wanted)
    assert free.repair(near, wanted, draw) == near


def test_repair_finds_every_band_that_has_a_member():
    shifted = space("shifted")
    for seed in range(8):
        start = shifted.sample(rng(seed))
        for point in list(shifted.solver.points())[::7]:
            exact = cost(shifted.build(point)).flops
            wanted = [Band("flops", exact, exact)]
            shifted.build(shifted.repair(start, wanted, rng(seed)), wanted)


def test_repair_keeps_what_fits_and_returns_the_nearest_of_what_does_not():
    shifted, start = space("shifted"), space("shifted").sample(rng(0))
    assert space("vmamba").repair(space("vmamba").sample(rng(0)), [BAND], rng(0)) == (
        space("vmamba").sample(rng(0))
    )
    least = min(cost(shifted.build(p)).flops for p in shifted.solver.points())
    nearest = shifted.repair(start, [Band("flops", 1, 2)], rng(0))
    assert cost(shifted.build(nearest)).flops == least
