import itertools

import pytest
from backbone_strategies import backbones
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_models import MIXERS, with_mixer

from backbones import create, list_presets, load_config
from backbones.catalog import override
from backbones.config import BackboneConfig, resolve_blocks
from backbones.errors import ConfigError

quick = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def ssm(**fields) -> BackboneConfig:
    return with_mixer({"kind": "ssm", **fields})


@given(backbones())
@quick
def test_loading_a_dump_is_the_identity(config):
    again = BackboneConfig.from_yaml(config.to_yaml())
    assert again == config
    assert again.to_yaml() == config.to_yaml()
    assert again.fingerprint() == config.fingerprint()


@given(backbones(), st.sampled_from("xyz"))
@quick
def test_names_do_not_move_the_fingerprint(config, letter):
    data = config.to_dict()
    first = sorted(config.blocks)[0]
    data["name"] = "renamed"
    data["blocks"] = {letter if k == first else k: v for k, v in data["blocks"].items()}
    for stage in data["stages"]:
        stage["pattern"] = stage["pattern"].replace(first, letter)
    assert BackboneConfig.model_validate(data).fingerprint() == config.fingerprint()


@given(backbones())
@quick
def test_spelled_out_patterns_do_not_move_the_fingerprint(config):
    data = config.to_dict()
    for stage, resolved in zip(data["stages"], config.stages):
        stage["pattern"] = resolved.letters
    data["drop_path_rate"] = 0.3
    assert BackboneConfig.model_validate(data).fingerprint() == config.fingerprint()


@given(backbones())
@quick
def test_an_unused_block_does_not_move_the_fingerprint(config):
    data = config.to_dict()
    data["blocks"]["z"] = {"mixer": {"kind": "gated_conv"}}
    assert BackboneConfig.model_validate(data).fingerprint() == config.fingerprint()


@given(backbones(), st.integers(1, 3))
@quick
def test_depth_moves_the_fingerprint(config, more):
    data = config.to_dict()
    data["stages"][0]["depth"] += more
    assert BackboneConfig.model_validate(data).fingerprint() != config.fingerprint()


def test_order_of_summed_routes_is_forgotten():
    routes = ["h", "v_flip", "w2", "w7"]
    prints = {
        ssm(order={"kind": "window", "routes": list(p)}, merge=merge).fingerprint()
        for merge in ("sum",)
        for p in itertools.permutations(routes)
    }
    assert len(prints) == 1


def test_spellings_of_one_order_hash_alike():
    cross = ssm(order="cross")
    window = ssm(order={"kind": "window", "routes": ["v_flip", "h", "v", "h_flip"]})
    assert cross.fingerprint() == window.fingerprint()
    assert ssm(order="snake").fingerprint() != cross.fingerprint()


def test_ratios_of_equal_channel_counts_hash_alike():
    one = with_mixer({"kind": "gated_conv", "expand": 1.5})
    other = with_mixer({"kind": "gated_conv", "expand": 1.5 + 1e-9})
    assert one.fingerprint() == other.fingerprint()
    assert ssm(dt_rank=1).fingerprint() != ssm(dt_rank=3).fingerprint()
    assert ssm(dt_rank="auto").fingerprint() == ssm(dt_rank="auto", merge="sum").fingerprint()


def test_fields_without_effect_are_forgotten():
    raster = ssm(order="raster")
    assert raster.fingerprint() == ssm(order="raster", merge="mean").fingerprint()
    assert raster.fingerprint() == ssm(order="raster", shared=True).fingerprint()
    assert ssm(order="cross").fingerprint() != ssm(order="cross", shared=True).fingerprint()


def test_merge_of_an_atrous_order_is_placement_however_named():
    prints = {ssm(order="atrous", merge=m).fingerprint() for m in ("sum", "mean")}
    assert len(prints) == 1


def test_image_size_matters_only_with_a_positional_table():
    for preset, matters in (("vmamba_tiny_s1l8", False), ("vim_tiny", True)):
        config = load_config(preset)
        changed = override(config, image_size=256)
        assert (changed.fingerprint() != config.fingerprint()) == matters


def test_presets_have_distinct_fingerprints():
    prints = {load_config(name).fingerprint() for name in list_presets()}
    assert len(prints) == 32


@pytest.mark.parametrize("name", list_presets())
def test_presets_open_with_a_lab_note(name):
    from backbones.catalog import PRESETS

    note = (PRESETS / f"{name}.yaml").read_text().split("schema:")[0]
    for word in ("arXiv", "Code:", "Published:", "Recipe:", "top-1"):
        assert word in note
    assert all(line.startswith("#") for line in note.splitlines())


@pytest.mark.parametrize(
    "mixer, message",
    [
        ({"order": "cross", "direction_bias": True}, "direction_bias needs order snake"),
        ({"order": "cross", "raster_steps": True}, "raster_steps needs order snake"),
        ({"order": "atrous", "shift": "omni"}, "shift has no meaning for order atrous"),
        ({"order": "quadtree", "conv": "causal"}, "a causal conv follows fixed routes"),
        ({"order": "atrous", "merge": "attention"}, "merge attention needs whole routes"),
        ({"conv": {"kernel": 4}}, "kernel 4 must be odd to keep the map's size; use 5"),
        ({"order": {"kind": "window", "routes": ["d"]}}, "unknown route 'd'"),
        ({"order": {"kind": "quadtree", "levels": [4, 6]}}, "6 must be a larger multiple of 4"),
        ({"order": {"kind": "quadtree", "refine": 9}}, "refine 9 exceeds the 4 windows"),
        ({"expand": 0.01}, "leaves 0 inner channels; this mixer needs 1"),
        ({"order": "quadtree", "expand": 0.1}, "leaves 1 inner channels; this mixer needs 4"),
        ({"merge": "attention", "expand": 0.25}, "leaves 4 inner channels; this mixer needs 8"),
    ],
)
def test_inconsistent_mixers_are_refused(mixer, message):
    with pytest.raises(ValidationError, match=message):
        ssm(**mixer)


@pytest.mark.parametrize("mixer", ["gated_conv", "hilbert", "quadtree", "inverted_residual"])
def test_a_class_token_needs_mixers_that_take_it(mixer):
    data = load_config("vim_tiny").to_dict()
    data["blocks"]["m"]["mixer"] = MIXERS[mixer]
    with pytest.raises(ValidationError, match="a class token is no part of the map"):
        BackboneConfig.model_validate(data)


def test_mistakes_in_a_file_name_line_field_and_remedy():
    text = "schema: 1\nblocks:\n  s:\n    mixr: ssm\nstages:\n- {width: 8, depth: 1, pattern: s}\n"
    with pytest.raises(ConfigError) as error:
        BackboneConfig.from_yaml(text, "net.yaml")
    assert str(error.value) == ("net.yaml:4: unknown key 'blocks.s.mixr'; did you mean 'mixer'?")
    with pytest.raises(ConfigError, match=r"net.yaml:3: .*'q'.*declared: s"):
        BackboneConfig.from_yaml(
            "schema: 1\nblocks: {s: {}}\nstages: [{width: 8, depth: 1, pattern: q}]\n", "net.yaml"
        )


def test_unknown_names_and_overrides_are_refused():
    with pytest.raises(ConfigError, match="neither a preset nor a file; did you mean 'vim_tiny'"):
        load_config("vim_tinny")
    with pytest.raises(ConfigError, match="unknown override 'classes'; use num_classes"):
        create("vim_tiny", classes=3)
    with pytest.raises(ConfigError, match="num_classes"):
        create("vim_tiny", num_classes=-1)


def test_create_takes_a_path(tmp_path):
    config = with_mixer({"kind": "gated_conv"})
    (tmp_path / "net.yaml").write_text(config.to_yaml())
    assert create(tmp_path / "net.yaml").config == config
    assert create(str(tmp_path / "net.yaml"), num_classes=9).num_classes == 9


def test_shift_cycles_through_the_diagonals():
    config = ssm(shift={"direction": "omni", "blocks": "all"})
    signs = [b.shift for stage in resolve_blocks(config) for b in stage]
    assert signs == [(1, 1), (-1, -1), (1, -1), (-1, 1)]
    odd = ssm(shift="omni")
    signs = [b.shift for stage in resolve_blocks(odd) for b in stage]
    assert signs == [None, (1, 1), None, (-1, -1)]  # QuadMamba: by half the global block index
