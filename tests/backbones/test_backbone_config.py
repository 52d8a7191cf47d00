import hashlib
import itertools
import json
from pathlib import Path

import pytest
from backbone_strategies import backbones
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_models import MIXERS, with_mixer

from backbones import cost, create, list_presets, load_config
from backbones.catalog import override
from backbones.config import BackboneConfig, resolve_blocks
from backbones.errors import ConfigError
from backbones.language import spell
from backbones.official import official_names

SCHEMA_1 = Path(__file__).parent / "schema1.jsonl"

quick = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def ssm(**fields) -> BackboneConfig:
    return with_mixer({"kind": "ssm"} | fields)


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


@pytest.mark.parametrize(
    "pattern, word",
    [
        ("qs", "qsqsqs"),
        ("qs2", "qssqss"),
        ("s*g4", "ssgggg"),
        ("c2s*", "ccssss"),
        ("cs*g2", "csssgg"),
        ("s*g0", "ssssss"),
        ("cs*g9", "gggggg"),  # the end stays
        ("c4s*g3", "cccggg"),
    ],
)
def test_patterns_are_tiled_or_anchored(pattern, word):
    assert spell(pattern, 6) == word


def test_anchored_patterns_are_the_words_they_spell():
    data = with_mixer({"kind": "ssm"}).to_dict()
    data["blocks"]["b"] = {"mixer": "identity"}
    data["stages"][0].update(depth=5, pattern="a*b2")
    spelled = BackboneConfig.model_validate(data)
    data["stages"][0]["pattern"] = "aaabb"
    assert BackboneConfig.model_validate(data).fingerprint() == spelled.fingerprint()
    assert cost(BackboneConfig.model_validate(data), 32) == cost(spelled, 32)
    assert BackboneConfig.from_yaml(spelled.to_yaml()) == spelled
    for wrong, message in {
        "a*b*": r"stages.0.pattern\n.*pattern 'a\*b\*' must be letters to be tiled \(qs\)",
        "": "pattern '' must be letters",
        "a0": "pattern 'a0' counts no block; write a letter without 0",
        "a*c2": r"'a\*c2' uses 'c', which is not under blocks; declared: a, b",
    }.items():
        data["stages"][0]["pattern"] = wrong
        with pytest.raises(ValidationError, match=message):
            BackboneConfig.model_validate(data)


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
        merge: {
            ssm(order={"kind": "window", "routes": list(p)}, merge=merge).fingerprint()
            for p in itertools.permutations(routes)
        }
        for merge in ("sum", "mean", "attention")
    }
    assert [len(p) for p in prints.values()] == [1, 1, 1]
    assert len(set.union(*prints.values())) == 3


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
    plain = {"width": 16, "depth": 2, "pattern": "a"}  # "auto" is a sixteenth of the width
    named, counted = (
        BackboneConfig.model_validate(
            {"blocks": {"a": {"mixer": {"kind": "ssm", "dt_rank": rank}}}, "stages": [plain]}
        )
        for rank in ("auto", 1)
    )
    assert named.fingerprint() == counted.fingerprint()


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
    assert len(prints) == 33


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
        ({"kind": "attention", "head_dim": 5}, "width 16 is no multiple of head_dim 5"),
        ({"kind": "conv", "kernel": 4}, "kernel 4 must be odd to keep the map's size; use 5"),
        ({"split": True, "merge": "mean"}, "split puts routes side by side.*use merge sum"),
        ({"split": True, "order": "atrous"}, "an order other than atrous"),
        ({"split": True, "expand": 0.375}, "split: 6 inner channels are no multiple of 4 routes"),
        ({"cascade": True, "order": "snake"}, "cascade scans rows, then columns.*use order cross"),
        ({"cascade": True, "shift": "omni"}, "neither shift nor split"),
        ({"cascade": True, "merge": "attention"}, "whole routes, which a cascade has not"),
        ({"activation": "tanh"}, "activation\n.*'silu', 'gelu' or 'relu'"),
        ({"merge": "attention", "expand": 0.25}, "leaves 4 inner channels; this mixer needs 8"),
        ({"scan": "maybe"}, "scan\n.*valid boolean"),
        ({"scan": False, "conv": "causal"}, "scan false leaves no routes.*use conv 2d or null"),
        ({"init": "magic"}, "init\n.*'mamba', 'linear', 'random' or 'zero'"),
        ({"kind": "attention", "window": 0}, "window\n.*greater than 0"),
        ({"kind": "attention", "window": 7, "position": "rope"}, "'none' or 'relative'"),
        ({"kind": "attention", "position": "relative"}, "inside a window; set window, or none"),
    ],
)
def test_inconsistent_mixers_are_refused(mixer, message):
    with pytest.raises(ValidationError, match=message):
        ssm(**mixer)


@pytest.mark.parametrize(
    "mixer", ["gated_conv", "hilbert", "quadtree", "inverted_residual", "attention_in_windows"]
)
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


@pytest.mark.parametrize(
    "mixer, message",
    [
        ("{kind: smm}", "blocks.s.mixer: no mixer 'smm'; did you mean 'ssm'?"),
        ("{kind: 7}", "blocks.s.mixer: no mixer 7; use ssm, gated_conv, inverted_residual, "),
        ("{order: cross}", "blocks.s.mixer: a mixer needs a kind; use ssm, "),
        ("{kind: ssm, order: cros}", "blocks.s.mixer.order: no scan order 'cros'; did you mean "),
        (
            "{kind: ssm, order: {kind: quadtree, level: [2, 4]}}",
            "unknown key 'blocks.s.mixer.order.level'; did you mean 'levels'?",
        ),
        ("{kind: ssm, d_state: 99}", "blocks.s.mixer.d_state: Input should be less than or equal "),
        ("{kind: ssm, dt_rank: wide}", "blocks.s.mixer.dt_rank: Input should be "),
        (
            "{kind: ssm, raster_steps: 2}",
            "blocks.s.mixer: raster_steps is written `compat: [raster",
        ),
        (
            "{kind: gated_conv, kernal: 3}",
            "unknown key 'blocks.s.mixer.kernal'; did you mean 'kern",
        ),
    ],
)
def test_mistakes_in_a_mixer_name_the_path_as_written(mixer, message):
    stages = "stages:\n- {width: 8, depth: 1, pattern: s}\n"
    with pytest.raises(ConfigError) as error:
        BackboneConfig.from_yaml(
            f"schema: 1\nblocks:\n  s:\n    mixer: {mixer}\n{stages}", "net.yaml"
        )
    assert str(error.value).startswith(f"net.yaml:4: {message}")


def recorded() -> list[dict]:
    """Return configs as they were first written, with fingerprints and costs of that time."""
    return [json.loads(line) for line in SCHEMA_1.read_text().splitlines()]


@pytest.mark.parametrize("one", recorded(), ids=lambda one: one["from"])
def test_configs_of_schema_1_keep_fingerprint_and_cost(one):
    config = BackboneConfig.model_validate(one["config"])
    assert config.fingerprint() == one["fingerprint"]
    counted = cost(config, 64)
    assert (counted.params, counted.flops) == (one["params"], one["flops"])
    again = BackboneConfig.from_yaml(config.to_yaml())
    assert again.fingerprint() == one["fingerprint"]
    if one["from"] in list_presets():
        assert load_config(one["from"]).fingerprint() == one["fingerprint"]


def test_first_spellings_are_those_of_today():
    quirky = ssm(order="snake", raster_steps=True, double_dt_bias=True)
    assert quirky == ssm(order="snake", compat=["raster_steps", "double_dt_bias"])
    branch = with_mixer(MIXERS["atrous"], local_branch=True)
    assert branch == with_mixer(MIXERS["atrous"], beside="local_conv")
    assert branch == with_mixer(MIXERS["atrous"], beside="local_conv", local_branch=True)
    assert with_mixer(MIXERS["atrous"], local_branch=False) == with_mixer(MIXERS["atrous"])
    for block in ({"local_branch": 3}, {"local_branch": False, "beside": "local_conv"}):
        with pytest.raises(ValidationError, match="local_branch is written `beside: local_conv`"):
            with_mixer(MIXERS["atrous"], **block)
    with pytest.raises(ValidationError, match=r"written `compat: \[raster_steps\]`"):
        ssm(order="snake", raster_steps=True, compat=["double_dt_bias"])


def test_another_mixer_beside_the_first_moves_the_fingerprint():
    sides = [None, "local_conv", "gated_conv", {"kind": "gated_conv", "kernel": 3}]
    prints = {with_mixer({"kind": "ssm"}, beside=beside).fingerprint() for beside in sides}
    assert len(prints) == 4
    with pytest.raises(ValidationError, match="beside: a shift is taken from the mixer only"):
        with_mixer({"kind": "ssm"}, beside={"kind": "ssm", "shift": "omni"})


def test_fields_of_today_move_the_fingerprint_where_they_act():
    fields = [
        {},
        {"norm_at": "output"},
        {"layer_scale": 0.1},
        {"conv_position": True},
        {"mixer": {"kind": "ssm", "activation": "relu"}},
        {"mixer": {"kind": "ssm", "split": True}},
        {"mixer": {"kind": "ssm", "cascade": True}},
    ]
    prints = [with_mixer(**{"mixer": {"kind": "ssm"}, **one}).fingerprint() for one in fields]
    assert len(set(prints)) == len(fields)
    assert with_mixer({"kind": "ssm"}, layer_scale=1e-6).fingerprint() == prints[2]
    assert ssm(init="random").fingerprint() == ssm(init="zero").fingerprint() == prints[0]
    bare = {"norm": None, "ffn": None}  # without a norm it has no place
    assert (
        with_mixer({"kind": "ssm"}, norm_at="output", **bare).fingerprint()
        == with_mixer({"kind": "ssm"}, **bare).fingerprint()
    )
    alone = ssm(order="raster")
    assert ssm(order="raster", split=True).fingerprint() == alone.fingerprint()
    for block, message in {
        "norm_at": "'input' or 'output'",
        "layer_scale": "greater than 0|valid number",
        "conv_position": "valid boolean",
    }.items():
        with pytest.raises(ValidationError, match=rf"{block}\n.*({message})"):
            with_mixer({"kind": "ssm"}, **{block: "between"})


def test_readouts_are_networks_of_their_own():
    def vim(**fields):
        return BackboneConfig.model_validate(load_config("vim_tiny").to_dict() | fields)

    places = [vim(class_token=place) for place in ("middle", "head", "double")]
    pools = [vim(head={"pool": pool}) for pool in ("mean", "max")]
    assert len({config.fingerprint() for config in places + pools}) == 5
    # Of one token the norm before or after picking it is the same, of two it is not.
    later = [vim(class_token=c.class_token, head={"pool": "token"}) for c in places]
    first = [
        vim(class_token=c.class_token, head={"pool": "token", "norm_first": False}) for c in places
    ]
    same = [a.fingerprint() == b.fingerprint() for a, b in zip(later, first)]
    assert same == [True, True, False]
    one, two = (cost(c).by_component["position"][0] for c in places[1:])
    assert two - one == 2 * 192  # a row more of tokens and of the table
    with pytest.raises(
        ValidationError, match=r"class_token\n.*'none', 'middle', 'head' or 'double'"
    ):
        vim(class_token="tail")
    with pytest.raises(ConfigError, match="class_token head has no released weights; use none or"):
        official_names(places[1])


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


@pytest.mark.parametrize("name", list_presets())
def test_fingerprint_is_the_hash_of_the_canonical_form(name):
    config = load_config(name)
    text = json.dumps(config.canonical(), sort_keys=True, separators=(",", ":"))
    assert config.fingerprint() == hashlib.sha256(text.encode()).hexdigest()
