import subprocess
import sys

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models._manipulate import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from tiny_models import models

import backbones
import backbones.timm_entry  # registers the presets
from backbones import create, list_presets, load_config, load_official
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.network import Backbone
from backbones.official import official_names
from backbones.official.releases import URLS

TINY = models()
COMPILE_TOLERANCE = 1e-5

HIERARCHICAL = "scannas_vmamba_tiny_s1l8"
PLAIN = "scannas_local_vim_tiny_middle_cls_token"


def test_every_preset_is_a_timm_model():
    assert timm.list_models("scannas_*") == [f"scannas_{name}" for name in list_presets()]


@pytest.mark.parametrize(
    "code",
    [
        "import backbones.timm_entry, timm",
        "import timm, backbones.timm_entry",
    ],
)
def test_registration_works_in_either_import_order(code):
    check = "; m = timm.create_model('scannas_mambaout_femto', num_classes=2); print(type(m))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + check], capture_output=True, text=True
    )
    assert "backbones.network.Backbone" in done.stdout, done.stderr


def test_importing_the_package_is_light():
    code = (
        "import sys, backbones; backbones.cost('vmamba_tiny_s1l8'); backbones.list_presets();"
        "print([m for m in ('torch', 'timm', 'numba', 'optuna', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", list_presets())
def test_evaluation_crops_as_each_family_does(name):
    crop = timm.models.get_pretrained_cfg(f"scannas_{name}").crop_pct
    # MambaOut takes the whole image; the others cut 224 pixels out of 256.
    assert crop == (1.0 if name.startswith("mambaout") else 0.875)


def test_mambaout_names_stay_timms():
    assert not isinstance(timm.create_model("mambaout_femto"), Backbone)


def test_create_model_takes_timms_arguments():
    model = timm.create_model(
        "scannas_mambaout_femto",
        num_classes=3,
        in_chans=1,
        drop_path_rate=0.1,
        drop_rate=0.2,
        img_size=64,
    )
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    assert model.config.drop_path_rate == 0.1
    assert model.head.drop.p == 0.2
    assert resolve_data_config({}, model=model)["input_size"] == (3, 224, 224)


def test_features_only_gives_strides_and_channels():
    model = timm.create_model(HIERARCHICAL, features_only=True)
    assert model.feature_info.channels() == [96, 192, 384, 768]
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, 96, 16, 24),
        (1, 192, 8, 12),
        (1, 384, 4, 6),
        (1, 768, 2, 3),
    ]


def test_features_only_takes_out_indices():
    model = timm.create_model(HIERARCHICAL, features_only=True, out_indices=(1, 2))
    assert model.feature_info.channels() == [192, 384]
    full = backbones.create("vmamba_tiny_s1l8")
    count = sum(p.numel() for p in full.stages[3].parameters())
    assert (
        sum(p.numel() for p in model.parameters())
        < sum(p.numel() for p in full.parameters()) - count
    )
    assert [m.shape[1] for m in model(torch.randn(1, 3, 64, 64))] == [192, 384]


def test_features_of_a_plain_network_leave_the_class_token_out():
    model = timm.create_model(PLAIN, features_only=True)
    assert model.feature_info.reduction() == [16] * 4
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 80))
    assert [tuple(m.shape) for m in maps] == [(1, 192, 4, 5)] * 4


def test_overlapping_patches_have_their_own_stride():
    data = load_config("vim_tiny").to_dict()  # the fine-tuned Vims take patches every 8 pixels
    data["stem"]["stride"] = 8
    model = create(BackboneConfig.model_validate(data))
    assert model.feature_info[0]["reduction"] == 8
    assert model.pos_embed.shape == (1, 27 * 27 + 1, 192)


@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vim_tiny", "mambaout_femto"])
def test_forward_is_features_then_head(name):
    model = create(name, num_classes=4).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(image)
        assert torch.equal(model(image), model.forward_head(features))
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        final, maps = model.forward_intermediates(image)
        assert torch.equal(final, features)
        assert maps[-1].shape[1] == model.num_features
        only = model.forward_intermediates(image, indices=[0], stop_early=True, norm=True)[1]
        assert torch.equal(only[0], maps[0])


@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vim_tiny", "mambaout_femto"])
def test_reset_classifier(name):
    model = create(name).eval()
    image = torch.randn(1, 3, 64, 64)
    model.reset_classifier(11)
    assert model(image).shape == (1, 11)
    assert model.get_classifier().out_features == 11 == model.num_classes
    model.reset_classifier(0)
    assert model(image).shape == (1, model.head_hidden_size)
    with pytest.raises(ValueError, match="global_pool 'catavgmax' is unknown"):
        model.reset_classifier(3, global_pool="catavgmax")


def test_reset_classifier_without_pooling_keeps_the_map():
    model = create("vmamba_tiny_s1l8").eval()
    model.reset_classifier(0, global_pool="")
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 2, 2, 768)


def test_averaged_tokens_can_replace_the_class_token():
    model = create("vim_tiny", num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    model.reset_classifier(3, global_pool="avg")
    with torch.no_grad():
        tokens = model.forward_features(image)  # normed: the norm acts at every token
        expected = model.head.fc(tokens[:, 1:].mean(1))  # as in timm, of the map alone
        assert (model(image) - expected).abs().max() < 1e-6
        by_token = model.head.fc(tokens[:, 0])
    assert (model(image) - by_token).abs().max() > 1e-3


def test_no_weight_decay_names_exist_and_are_respected():
    model = create("plainmamba_l1")
    names = {name for name, _ in model.named_parameters()}
    kept = model.no_weight_decay()
    assert kept - {"cls_token"} <= names
    assert "stages.0.blocks.0.mixer.A_log" in kept
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=kept)
    free = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert all(id(dict(model.named_parameters())[n]) in free for n in kept & names)


@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vim_tiny"])
def test_group_matcher_orders_layers(name):
    model = create(name)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    depth = sum(len(s.blocks) for s in model.stages)
    assert len({g["lr_scale"] for g in groups}) >= depth
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    together = len(model.stages) if len(model.stages) > 1 else depth
    assert len(set(coarse.values())) == together + 2  # the stem before them, the head after
    assert coarse["stem." + next(iter(dict(model.stem.named_parameters())))] == 0


def test_position_table_is_resized_as_timm_does():
    from timm.layers import resample_abs_pos_embed

    model = create("plainmamba_l1").eval()
    expected = resample_abs_pos_embed(
        model.pos_embed, [10, 8], old_size=[14, 14], num_prefix_tokens=0
    )
    assert torch.equal(model.position_table((10, 8)), expected)
    assert model(torch.randn(1, 3, 160, 128)).shape == (1, 1000)


# --- weights through timm, from files in the official layouts ---


def official(preset):
    """Return a released file's weights, drawn at random, and our model that holds them."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in create(preset).state_dict().items()}
    state = {
        key: 0.02 * torch.randn(source.expected(shapes[ours]), generator=generator)
        for ours, source in official_names(load_config(preset)).sources.items()
        for key in source.keys
    }
    return state, load_official(preset, state)


@pytest.fixture(scope="module")
def femto(tmp_path_factory):
    state, model = official("mambaout_femto")
    path = tmp_path_factory.mktemp("released") / "mambaout_femto.pth"
    torch.save({"state_dict": state}, path)
    return path, model


def same(model, other):
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(model.eval()(image), other.eval()(image))


def test_released_weights_load_by_pretrained_and_by_checkpoint_path(femto):
    path, expected = femto
    overlaid = timm.create_model(
        "scannas_mambaout_femto", pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    )
    assert same(overlaid, expected)
    assert "state_dict" not in overlaid.pretrained_cfg
    assert same(timm.create_model("scannas_mambaout_femto", checkpoint_path=str(path)), expected)


def test_pretrained_takes_the_url_of_the_release(femto, monkeypatch):
    asked = []

    def give(url, **kwargs):
        asked.append(url)
        return str(femto[0])

    monkeypatch.setattr(backbones.timm_entry, "download_cached_file", give)
    model = timm.create_model("scannas_mambaout_femto", pretrained=True)
    assert same(model, femto[1])
    [url] = asked
    assert url == "https://github.com/yuweihao/MambaOut/releases/download/model/mambaout_femto.pth"


def test_pretrained_weights_adapt_to_classes_channels_and_features(femto):
    path, full = femto
    give = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    few = timm.create_model("scannas_mambaout_femto", num_classes=3, in_chans=1, **give)
    assert few.head.fc.out_features == 3
    summed = full.stem.conv1.weight.sum(1, keepdim=True)
    torch.testing.assert_close(few.stem.conv1.weight, summed)
    none = timm.create_model("scannas_mambaout_femto", num_classes=0, global_pool="", **give)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(none.eval()(image), full.forward_features(image))
        maps = timm.create_model("scannas_mambaout_femto", features_only=True, **give).eval()(image)
        expected = full.forward_intermediates(image)[1]
    assert all(torch.equal(a, b) for a, b in zip(maps, expected))


def test_vim_takes_the_raw_weights_and_resizes_its_positions(tmp_path):
    state, full = official("vim_tiny")
    averaged = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"model": state, "model_ema": averaged}, tmp_path / "vim.pth")
    model = timm.create_model(
        "scannas_vim_tiny",
        pretrained=True,
        img_size=64,
        pretrained_cfg_overlay={"file": str(tmp_path / "vim.pth")},
    )
    assert model.pos_embed.shape == (1, 17, 192)
    assert same(model, full)  # as the 224-pixel model, which resizes its table on the way


def test_weights_that_fit_nothing_are_listed(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"do not fit mambaout_femto.*left over: a\)"):
        timm.create_model(
            "scannas_mambaout_femto",
            pretrained=True,
            pretrained_cfg_overlay={"file": str(tmp_path / "a.pth")},
        )


def test_a_preset_without_released_weights_says_so():
    with pytest.raises(ConfigError, match="no released weights of scannas_quadmamba_lite"):
        timm.create_model("scannas_quadmamba_lite", pretrained=True)


def test_releases_name_presets_and_their_licenses():
    assert set(URLS) <= set(list_presets())
    vmamba, vim = (
        timm.models.get_pretrained_cfg(f"scannas_{n}") for n in ("vmamba_v0_tiny", "vim_tiny")
    )
    assert (vmamba.license, vmamba.paper_ids) == ("mit", "arXiv:2401.10166")
    assert (vim.license, vim.origin_url) == ("apache-2.0", "https://github.com/hustvl/Vim")


def test_any_design_is_a_timm_model(tmp_path):
    config = TINY["mixer:routes"]
    (tmp_path / "best.yaml").write_text(config.to_yaml())
    for arch in (str(tmp_path / "best.yaml"), config.to_dict()):
        model = timm.create_model("scannas", arch=arch, num_classes=7)
        assert model.config.stages == config.stages
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert resolve_data_config({}, model=model)["input_size"] == (3, 32, 32)
    with pytest.raises(ConfigError, match="scannas needs a design; pass arch="):
        timm.create_model("scannas")


def test_class_tokens_stand_first_in_features():
    model = create(TINY["readout:double"]).eval()
    assert model.num_prefix_tokens == 2
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        tokens = model.forward_features(image)
        [(grid, first)] = model.forward_intermediates(
            image, indices=1, intermediates_only=True, return_prefix_tokens=True
        )
    assert torch.equal(tokens[:, :2], first)
    assert torch.equal(tokens[:, 2:], grid.flatten(2).transpose(1, 2))


def test_set_input_size_keeps_what_the_model_computes():
    model = create(TINY["preset:vim_base"]).eval()
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        before = model(image)
        model.set_input_size((48, 64))
        assert torch.equal(model(image), before)
    assert model.pos_embed.shape[1] == 12 * 16 + 1


def test_drop_path_follows_its_schedule():
    def rates(schedule):
        model = timm.create_model(
            "scannas_mambaout_femto", drop_path_rate=0.3, drop_path_schedule=schedule
        )
        blocks = [block for stage in model.stages for block in stage.blocks]
        return [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]

    linear = rates("linear")
    assert linear == pytest.approx([0.3 * i / 17 for i in range(18)])
    assert rates("stagewise") == pytest.approx([0.0] * 3 + [0.1] * 3 + [0.2] * 9 + [0.3] * 3)
    assert rates("constant") == pytest.approx([0.3] * 18)
    with pytest.raises(ConfigError, match="drop_path_schedule 'cosine' is unknown; use one of lin"):
        rates("cosine")


def test_stages_may_have_norms_of_their_own():
    model = timm.create_model(
        "scannas", arch=TINY["mixer:hilbert"].to_dict(), features_only=True, stage_norms=True
    )
    maps = model(torch.randn(2, 3, 32, 32))
    assert [tuple(m.shape[:2]) for m in maps] == [(2, 16), (2, 24)]
    for each in maps:
        torch.testing.assert_close(each.mean(1), torch.zeros_like(each[:, 0]), atol=1e-5, rtol=0)


EXPORTED = [
    "preset:vmamba_base_s1l20",
    "preset:quadmamba_base",
    "preset:vim_base",
    "preset:mambaout_base",
    "preset:local_vim_small",
    "preset:local_vssm_small",
    "preset:plainmamba_l1",
    "preset:efficient_vmamba_base",
    "mixer:quadtree_deep",
    "mixer:hilbert",
    "mixer:attention_in_windows",
    "mixer:routes",
]


QUICK_TO_COMPILE = ("preset:vim_base", "preset:plainmamba_l1")


@pytest.mark.parametrize("name", EXPORTED)
def test_export_gives_the_same_logits(name):
    torch.manual_seed(0)
    model = create(TINY[name]).eval()
    image = torch.randn(2, 3, 32, 32)
    program = torch.export.export(model, (image,))
    with torch.no_grad():
        assert torch.equal(program.module()(image), model(image))


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK_TO_COMPILE else pytest.param(n, marks=pytest.mark.slow) for n in EXPORTED],
)
def test_compile_has_no_graph_breaks(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = create(TINY[name]).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for size in ((32, 32), (37, 45)):
            image = torch.randn(2, 3, *size)
            assert (compiled(image) - model(image)).abs().max() < COMPILE_TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", ["preset:vmamba_base_s1l20", "preset:quadmamba_base", "preset:local_vim_small"]
)
def test_inductor_compiles_forward_and_backward(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = create(TINY[name]).eval()
    image = torch.randn(2, 3, 32, 32)

    def gradients(logits):
        model.zero_grad()
        logits.sum().backward()
        return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}

    expected = model(image)
    plain = gradients(expected)
    got = torch.compile(model)(image)
    compiled = gradients(got)
    assert (got - expected).abs().max() < COMPILE_TOLERANCE
    assert compiled.keys() == plain.keys()
    for key, gradient in plain.items():
        assert torch.allclose(compiled[key], gradient, atol=1e-4, rtol=1e-3), key


def test_presets_know_their_names():
    assert all(load_config(name).name == name for name in list_presets())
