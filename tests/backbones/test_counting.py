import warnings

import numpy as np
import pytest
import torch
from backbone_strategies import IMAGE_SIZES, backbones
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbones import cost, create, list_presets, load_config
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.flop_handles import count_flops
from backbones.network import Backbone
from backbones.registry import MIXERS, Registry
from search_spaces import SearchSpace, list_spaces

# What the papers, READMEs and logs print, and in which convention (presets/*.yaml say more).
PUBLISHED = {
    "vmamba_tiny_s1l8": (30_249_064, "fvcore", "4.9"),
    "vmamba_tiny_s2l5": (30_705_832, "fvcore", "4.9"),
    "vmamba_small_s2l15": (50_147_752, "fvcore", "8.7"),
    "vmamba_small_s1l20": (49_012_840, "fvcore", "8.6"),
    "vmamba_base_s2l15": (88_557_800, "fvcore", "15.4"),
    "vmamba_base_s1l20": (86_614_504, "fvcore", "15.2"),
    "vmamba_v0_tiny": (22_893_448, "fvcore", "5.6"),
    "vmamba_v0_small": (44_417_416, "fvcore", "11.2"),
    "vmamba_v0_base": (76_254_056, "fvcore", "18.0"),
    "quadmamba_lite": (5_470_200, "fvcore", "0.8"),
    "quadmamba_tiny": (10_322_648, "fvcore", "2.1"),  # printed 2.07
    "quadmamba_small": (31_252_176, "fvcore", "5.5"),
    "quadmamba_base": (50_694_096, "fvcore", "9.4"),  # printed 9.3: 9.376 cut off, not rounded
    "mambaout_femto": (7_304_536, "macs", "1.1"),  # printed 1.2: 1.148 rounded up
    "mambaout_kobe": (9_141_208, "macs", "1.5"),
    "mambaout_tiny": (26_545_096, "macs", "4.5"),
    "mambaout_small": (48_488_072, "macs", "8.9"),  # printed 9.0: 8.936 rounded up
    "mambaout_base": (84_813_092, "macs", "15.8"),
    "local_vssm_tiny": (25_527_160, "fvcore", "5.7"),
    "local_vssm_small": (49_748_536, "fvcore", "11.4"),
    "plainmamba_l1": (7_551_656, "fvcore", "3.0"),
    "plainmamba_l2": (26_145_832, "fvcore", "8.1"),
    "plainmamba_l3": (50_956_456, "fvcore", "14.5"),  # printed 14.4: 14.454 cut off
    "efficient_vmamba_tiny": (6_493_660, "fvcore", "0.8"),
    "efficient_vmamba_small": (11_273_688, "fvcore", "1.3"),
    "efficient_vmamba_base": (33_717_136, "fvcore", "4.0"),
    "vim_tiny": (7_148_008, "macs", "1.5"),
    # LocalMamba's table prints 5.1 for Vim-S: between linear layers alone and all multiply-adds.
    "vim_small": (25_796_584, "macs", "5.3"),
    "vim_base": (97_598_440, "macs", "19.7"),
    # LocalMamba's counter prints 1.5, 1.5 and 4.8: it counts one route's projections of four.
    "local_vim_tiny": (7_994_152, "macs", "1.7"),
    "local_vim_tiny_middle_cls_token": (7_994_536, "macs", "1.7"),
    "local_vim_small": (27_783_784, "macs", "5.4"),
    "vit_small": (22_050_664, "macs", "4.6"),
}


def test_every_preset_is_published():
    assert sorted(PUBLISHED) == list_presets()
    assert len(PUBLISHED) == 33


@pytest.mark.parametrize("preset", sorted(PUBLISHED))
def test_cost_reproduces_published_figures(preset):
    params, convention, giga = PUBLISHED[preset]
    counted = cost(preset, convention=convention)
    assert counted.params == params
    assert f"{counted.flops / 1e9:.1f}" == giga


def local_vim_repository_count(preset: str) -> int:
    """LocalMamba's counter: conv and projections of one route in four, 5 D L N + 2 D L a scan."""
    config = load_config(preset)
    stage = config.stages[0]
    extra = config.class_token != "none"
    tokens, width, inner = 196 + extra, stage.width, 2 * stage.width
    rank, state = width // 16, 16
    block = tokens * width * 2 * inner + tokens * inner * width  # in and out projections
    block += tokens * (4 * inner + inner * (rank + 2 * state) + rank * inner)  # one route's
    block += 4 * (5 * inner * tokens * state + 2 * inner * tokens)  # four scans
    block += 4 * 2 * inner * (inner // 8)  # the channel attention
    return 196 * 3 * 16 * 16 * width + stage.depth * block + 1000 * width


@pytest.mark.parametrize(
    "preset, giga",
    [
        ("local_vim_tiny", 1.482),
        ("local_vim_tiny_middle_cls_token", 1.489),
        ("local_vim_small", 4.771),
    ],
)
def test_local_vim_published_flops_are_an_undercount(preset, giga):
    count = local_vim_repository_count(preset)
    assert count / 1e9 == pytest.approx(giga, rel=2e-3)
    assert cost(preset, convention="macs").flops > 1.1 * count


@pytest.mark.parametrize("preset", sorted(PUBLISHED))
def test_cost_equals_built_model(preset):
    config = load_config(preset)
    with torch.device("meta"):
        model = Backbone(config)
    assert cost(config).params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", [224, (160, 200)])
@pytest.mark.parametrize(
    "preset",
    ["vmamba_tiny_s1l8", "vim_tiny", "quadmamba_lite", "local_vim_tiny", "efficient_vmamba_tiny"],
)
def test_cost_equals_fvcore_on_presets(preset, size):
    assert count_flops(shell(load_config(preset)), size) == cost(preset, size).flops


def shell(config: BackboneConfig) -> Backbone:
    """Build a model without drawing its weights: a count needs shapes only."""
    with torch.device("meta"):
        model = Backbone(config)
    return model.to_empty(device="cpu")


@pytest.mark.parametrize("space", list_spaces())
@given(seed=st.integers(0, 2**31), size=st.sampled_from([64, (75, 96)]))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_cost_equals_fvcore_on_configs_of_every_space(space, seed, size):
    space = SearchSpace.load(space)
    config = space.build(space.sample(np.random.default_rng(seed)))
    model = shell(config)
    counted = cost(config, size)
    assert counted.params == sum(p.numel() for p in model.parameters())
    assert counted.flops == count_flops(model, size)


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PUBLISHED))
def test_cost_equals_fvcore_on_every_preset(preset):
    model = shell(load_config(preset))
    for convention in ("fvcore", "macs"):
        assert count_flops(model, 224, convention) == cost(preset, 224, convention).flops


@given(config=backbones(), size=IMAGE_SIZES)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_cost_equals_fvcore_and_parameters_on_random_configs(config, size):
    model = create(config)
    counted = cost(config, size)
    assert counted.params == sum(p.numel() for p in model.parameters())
    assert counted.flops == count_flops(model, size)
    assert cost(config, size, "macs").flops == count_flops(model, size, "macs")


@given(config=backbones(), size=IMAGE_SIZES)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_cost_parts_sum_to_totals(config, size):
    counted = cost(config, size)
    for table in (counted.by_component, counted.by_stage):
        assert sum(params for params, _ in table.values()) == counted.params
        assert sum(flops for _, flops in table.values()) == counted.flops


def test_cost_with_widths_equals_cost_of_rebuilt_config():
    config = load_config("quadmamba_small")
    widths = (64, 120, 200, 328)
    stages = tuple(s.model_copy(update={"width": w}) for s, w in zip(config.stages, widths))
    rebuilt = BackboneConfig.model_validate(config.model_copy(update={"stages": stages}).to_dict())
    assert cost(config, widths=widths) == cost(rebuilt)
    assert cost(config, widths=widths) != cost(config)


def test_cost_counts_without_touching_training_mode():
    model = create("mambaout_femto").train()
    count_flops(model, 64)
    assert model.training


def test_cost_names_small_images_and_unknown_conventions():
    with pytest.raises(ConfigError, match=r"3 x 3 leaves a map of 0 x 0; use a larger image"):
        cost("vim_tiny", 3)
    with pytest.raises(ConfigError, match=r"'flops' is unknown; use fvcore or macs"):
        cost("vim_tiny", convention="flops")


def test_component_without_cost_rule_is_refused():
    lacking = Registry("mixer", {"bare": "backbones.mixers.base:MixerConfig"})
    with pytest.raises(ConfigError, match=r"'bare' .* has no canonical, cost; add what is missing"):
        lacking.read("bare")


def test_component_registered_twice_is_refused():
    with pytest.raises(ConfigError, match=r"'gated_conv' is already .*:GatedConvConfig"):
        MIXERS.register("gated_conv", "nowhere:Nothing")


def test_counting_a_model_raises_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        count_flops(create("mambaout_femto", num_classes=3), 64)
