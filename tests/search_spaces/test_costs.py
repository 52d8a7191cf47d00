"""Costs as functions of widths equal `backbones.cost`, and the fit finds what it always found."""

import pytest
import reference_fit
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import rng, seeds, space

from backbones import cost, list_presets, load_config
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from search_spaces import Band, UnreachableError, fit_widths, list_spaces
from search_spaces.costs import WidthCosts

CONVENTIONS = st.sampled_from(["fvcore", "macs"])


@settings(deadline=None, max_examples=120)
@given(
    name=st.sampled_from(list_presets()),
    widths=st.lists(st.integers(4, 900), min_size=4, max_size=4),
    even=st.booleans(),
    convention=CONVENTIONS,
    size=st.sampled_from([160, 224, (224, 288)]),
)
def test_costs_of_presets_at_any_widths_are_exact(name, widths, even, convention, size):
    config = load_config(name)
    widths = [8 * w if even else w for w in widths[: len(config.stages)]]
    found = cost(config, size, convention, widths=widths)
    assert WidthCosts(config, size, convention)(widths) == (found.params, found.flops)


@pytest.mark.parametrize("name", list_spaces())
@settings(deadline=None, max_examples=25)
@given(seed=seeds, width=st.integers(1, 60), convention=CONVENTIONS)
def test_costs_of_samples_are_exact(name, seed, width, convention):
    config = space(name).build(space(name).sample(rng(seed)))
    widths = [8 * (width + i * i) for i in range(len(config.stages))]
    found = cost(config, 224, convention, widths=widths)
    assert WidthCosts(config, 224, convention)(widths) == (found.params, found.flops)


@pytest.mark.parametrize(
    "block",
    [{"layer_scale": 0.1}, {"conv_position": True}, {"mixer": {"kind": "ssm", "split": True}}],
    ids=str,
)
@pytest.mark.parametrize("widths", [(64, 128), (72, 184)])
def test_costs_of_block_fields_are_exact(block, widths):
    stages = [
        {"width": 16, "depth": 3, "pattern": "a"},
        {"width": 16, "depth": 2, "pattern": "a", "downsample": "conv3x3"},
    ]
    net = {"blocks": {"a": {"ffn": {}, **block}}, "stages": stages}
    config = BackboneConfig.model_validate(net)
    found = cost(config, 64, widths=widths)
    assert WidthCosts(config, 64, "fvcore")(widths) == (found.params, found.flops)


def widths_or_error(fit, *args, **kwargs):
    try:
        return [stage.width for stage in fit(*args, **kwargs).stages]
    except UnreachableError as error:
        return str(error), error.spent, error.too_large


@pytest.mark.parametrize("name", list_spaces())
@settings(deadline=None, max_examples=30)
@given(
    seed=seeds,
    limit=st.floats(2e8, 1.2e10),
    share=st.sampled_from([0.0, 0.9, 0.95, 0.99]),
    second=st.one_of(st.none(), st.floats(0.6, 1.6)),
    step=st.sampled_from([4, 8, 16]),
    convention=CONVENTIONS,
    size=st.sampled_from([160, 224, 256]),
)
def test_the_fit_finds_the_widths_of_the_reference(
    name, seed, limit, share, second, step, convention, size
):
    config = space(name).build(space(name).sample(rng(seed)))
    bands = [Band("flops", share * limit, limit)]
    if second is not None:
        found = cost(config, size, convention)
        params = second * found.params * limit / found.flops
        bands.insert(seed % 2, Band("params", 0.95 * params, params))
    asked = {"image_size": size, "convention": convention, "step": step}
    assert widths_or_error(fit_widths, config, bands, **asked) == widths_or_error(
        reference_fit.fit_widths, config, bands, **asked
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"convention": "flops"}, "convention 'flops' is unknown"),
        ({"image_size": 8}, "leaves a map of 0 x 0; use a larger image"),
    ],
)
def test_what_no_network_can_be_counted_by_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        fit_widths(load_config("vim_tiny"), [Band("flops", 1e9, 2e9)], **changes)
