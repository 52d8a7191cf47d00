import pytest
from small_spaces import rng, space

from backbones import BackboneConfig, load_config
from search_spaces import Band, SpaceError, fit_widths

QUAD = {"depth_1": 2, "mixer_1": "q", "levels_1": [2, 4], "depth_2": 2, "mixer_2": "q",
        "levels_2": [2, 4], "depth_3": 5, "mixer_3": "s", "depth_4": 2, "mixer_4": "s",
        "refine": 1, "shift": "omni", "shift_blocks": "odd", "scan": "cross", "d_state": 1,
        "expand": 2.0, "ffn": 4}  # fmt: skip
VMAMBA = {"depth_1": 2, "mixer_1": "s", "depth_2": 2, "mixer_2": "s", "depth_3": 8, "mixer_3": "s",
          "depth_4": 2, "mixer_4": "s", "scan": "cross", "d_state": 1, "expand": 1.0,
          "ffn": 4}  # fmt: skip


def changed(preset, **changes):
    """Return a preset with dotted paths changed; `__` stands for a dot."""
    data = load_config(preset).model_dump(mode="json", by_alias=True)
    for path, value in changes.items():
        *above, last = path.split("__")
        node = data
        for key in above:
            node = node[int(key) if key.isdigit() else key]
        node[int(last) if last.isdigit() else last] = value
    return BackboneConfig.model_validate(data)


def test_quadmamba_with_the_quadtree_of_its_paper_is_a_point():
    assert space("quadtree").choices_of(space("quadtree").point("quadmamba_small")) == QUAD


def test_vmamba_is_a_point():
    assert space("quadtree").choices_of(load_config("vmamba_tiny_s1l8")) == VMAMBA


def test_refitted_widths_stay_members_where_the_space_fits():
    narrow = fit_widths(load_config("vmamba_tiny_s1l8"), [Band("flops", 0.95e9, 1e9)])
    assert space("quadtree").choices_of(narrow) == VMAMBA


def test_other_spellings_of_one_design_are_members():
    spelled = changed(
        "vmamba_tiny_s1l8",
        blocks__s__mixer__order={"kind": "window", "routes": ["v_flip", "h", "v", "h_flip"]},
        stages__0__pattern="ss",
        name="another name",
        drop_path_rate=0.4,
    )
    assert space("quadtree").choices_of(spelled) == VMAMBA


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks__s__mixer__d_state": 3},
         "stages.0, block 0, mixer.d_state: 3; no choice leads there"),
        ({"blocks__s__mixer__order": {"kind": "window", "routes": ["h", "w3"]}},
         'stages.0, block 0, mixer.order: {"kind": "window", "routes": ["h", "w3"]}; no choice '
         "leads there"),
        ({"blocks__s__mixer__gate": "output"},
         "stages.0, block 0, mixer.gate: output; no choice leads there"),
        ({"stages__2__depth": 30}, "stages.2.depth: 30; no choice leads there"),
        ({"head__norm_first": False}, "head.norm_first: false; no choice leads there"),
        ({"stages__1__downsample": {"kind": "conv2x2"}},
         "stages.1.downsample.kind: conv2x2; no choice leads there"),
        ({"num_classes": 10}, "num_classes: 10; no choice leads there"),
    ],
)  # fmt: skip
def test_first_field_outside_is_named(changes, message):
    with pytest.raises(SpaceError) as caught:
        space("quadtree").choices_of(changed("vmamba_tiny_s1l8", **changes))
    assert str(caught.value) == f"not in space quadtree: {message}"


def test_other_numbers_of_stages_are_outside():
    with pytest.raises(SpaceError, match="stages: 1 of them, the space has 4"):
        space("quadtree").choices_of(load_config("vim_tiny"))


def test_values_shared_by_all_blocks_must_agree():
    mixed = space("quadtree").point("quadmamba_small")
    data = mixed.model_dump(mode="json", by_alias=True)
    data["blocks"]["s"]["mixer"]["d_state"] = 16
    with pytest.raises(SpaceError) as caught:
        space("quadtree").choices_of(BackboneConfig.model_validate(data))
    assert str(caught.value) == (
        "not in space quadtree: each field is possible, but not all together; one value must suit "
        "all blocks, and the constraints be kept"
    )


def test_constraints_hold_for_members_too():
    deep = changed("vmamba_tiny_s1l8", stages__2__depth=12, stages__3__depth=8)
    with pytest.raises(SpaceError, match="not all together; one value must"):
        space("quadtree").choices_of(deep)


def test_widths_matter_where_the_space_does_not_fit():
    shifted = space("shifted")
    design = shifted.build(shifted.sample(rng(0)))
    wider = fit_widths(design, [Band("flops", 9e9, 10e9)])
    with pytest.raises(SpaceError, match=r"not in space shifted: stages.0.width: \d+; no choice"):
        shifted.choices_of(wider)


@pytest.mark.parametrize("depths", [(2, 2, 5, 2), (2, 6, 2, 2), (2, 8, 2, 2), (2, 2, 2, 8)])
def test_published_depths_are_in_the_quadtree_space(depths):
    quad = space("quadtree").point("quadmamba_small").model_dump(mode="json", by_alias=True)
    for stage, depth in zip(quad["stages"], depths):
        stage["depth"] = depth
    found = space("quadtree").choices_of(BackboneConfig.model_validate(quad))
    assert tuple(found[f"depth_{i}"] for i in range(1, 5)) == depths


def test_points_are_members_or_baselines():
    assert space("quadtree").points == (
        "vmamba_tiny_s1l8", "quadmamba_small", "mambaout_femto", "vim_tiny",
    )  # fmt: skip
    assert space("quadtree").members == ("vmamba_tiny_s1l8", "quadmamba_small")
    assert space("vmamba").members == ("vmamba_tiny_s1l8", "vmamba_tiny_s2l5")
    assert space("mambaout").members == ("mambaout_tiny", "mambaout_kobe")
    assert space("vim").members == ("vim_tiny",)
    assert space("local").members == ("local_vssm_tiny", "vmamba_v0_tiny")
    assert space("hybrid").members == ("vmamba_tiny_s1l8", "quadmamba_small")


def test_local_routes_are_read_as_sets():
    point = space("local").choices_of(load_config("vmamba_v0_tiny"))
    assert point["merge"] == "sum"
    assert all(point[f"routes_{i}"] == ["h", "h_flip", "v", "v_flip"] for i in range(1, 16))


def test_vim_reads_its_class_token():
    assert space("vim").choices_of(load_config("vim_tiny")) == {
        "depth": 24, "scan": "bidirectional", "merge": "mean", "d_state": 16, "expand": 2.0,
        "conv": 4, "gate": "scan", "ffn": "none", "readout": "token",
    }  # fmt: skip
