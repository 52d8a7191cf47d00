import argparse
import pickle
import sys
import types

import pytest
import torch
from golden_files import golden, image, weights
from timm import create_model
from tiny_models import MIXERS, with_mixer

import backbones
from backbones import convert_checkpoint, create, list_presets, load_config, load_official
from backbones.checkpoints import read_checkpoint, unwrap
from backbones.errors import ConfigError
from backbones.network import Backbone
from backbones.official import official_names

MAMBAOUT_TOLERANCE = 1e-6

MAMBAOUT_TO_TIMM = (
    ("downsample_layers.0.", "stem."),
    ("downsample_layers.{s}.", "stages.{s}.downsample."),
    ("head.fc1.", "head.pre_logits.fc."),
    ("head.norm.", "head.pre_logits.norm."),
    ("head.fc2.", "head.fc."),
    ("norm.", "head.norm."),
)


def official_state(preset: str, make=torch.zeros) -> dict[str, torch.Tensor]:
    """Return a state dict with the official keys and shapes of a preset."""
    config = load_config(preset)
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in Backbone(config).state_dict().items()}
    return {
        key: make(source.expected(shapes[ours]))
        for ours, source in official_names(config).sources.items()
        for key in source.keys
    }


@pytest.fixture(scope="module")
def femto() -> dict[str, torch.Tensor]:
    return weights("mambaout_femto")


@pytest.mark.parametrize("name", list_presets())
def test_official_keys_cover_every_tensor(name):
    config = load_config(name)
    with torch.device("meta"):
        ours = set(Backbone(config).state_dict())
    names = official_names(config)
    assert set(names.sources) == ours
    theirs = [key for source in names.sources.values() for key in source.keys]
    assert len(theirs) == len(set(theirs))


@pytest.mark.parametrize("name", ["vim_tiny", "local_vim_tiny", "plainmamba_l1", "vmamba_v0_tiny"])
def test_official_keys_are_those_of_the_official_code(name):
    theirs = {
        key: tuple(shape) for key, shape, _ in golden(name)["keys"] if not key.startswith("rope.")
    }
    assert {key: tuple(v.shape) for key, v in official_state(name).items()} == theirs


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"state_dict": s},
        lambda s: {"model_ema": s, "model": {k: torch.zeros_like(v) for k, v in s.items()}},
        lambda s: {"state_dict": {f"module.module.{k}": v for k, v in s.items()}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
    ],
    ids=["model", "state_dict", "model_ema", "module twice", "module"],
)
def test_wrappers_of_released_files_are_opened(wrap, femto):
    assert unwrap(wrap(femto)).keys() == femto.keys()
    loaded = load_official("mambaout_femto", wrap(femto))
    assert torch.equal(loaded.head.fc.weight, femto["head.fc2.weight"])


def test_plain_weights_can_be_preferred_to_averaged_ones(femto):
    both = {"model": femto, "model_ema": {k: torch.zeros_like(v) for k, v in femto.items()}}
    assert load_official("mambaout_femto", both).head.fc.weight.abs().max() == 0
    plain = load_official("mambaout_femto", both, ema=False)
    assert torch.equal(plain.head.fc.weight, femto["head.fc2.weight"])


def test_older_vmamba_keys_load():
    state = weights("vmamba_v0_tiny")
    older = {}
    for key, value in state.items():
        for new, old in (
            ("patch_embed.0.", "patch_embed.proj."),
            ("patch_embed.2.", "patch_embed.norm."),
            (".op.", ".self_attention."),
            ("classifier.norm.", "norm."),
            ("classifier.head.", "head."),
        ):
            key = key.replace(new, old)
        if ".blocks." in key and "self_attention" not in key:
            key = key.replace(".norm.", ".ln_1.")
        older[key] = value
    assert not set(older) & {k for k in state if "downsample" not in k}
    today, before = (load_official("vmamba_v0_tiny", s) for s in (state, older))
    assert all(torch.equal(a, b) for a, b in zip(today.parameters(), before.parameters()))


def test_linear_weights_stored_as_convolutions_load():
    state = weights("vmamba_tiny_s1l8")
    convs = {
        k: v[:, :, None, None] if v.dim() == 2 and ("_proj.w" in k or "mlp" in k) else v
        for k, v in state.items()
    }
    assert any(v.dim() == 4 and "mlp" in k for k, v in convs.items())
    one, other = (load_official("vmamba_tiny_s1l8", s) for s in (state, convs))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_error_lists_missing_leftover_and_misshapen_keys(femto):
    broken = {k: v for k, v in femto.items() if k != "norm.bias"}
    broken["extra.weight"] = torch.zeros(3)
    broken["head.fc2.bias"] = torch.zeros(7)
    with pytest.raises(ConfigError) as error:
        load_official("mambaout_femto", broken)
    text = str(error.value)
    assert "1 missing: norm.bias" in text
    assert "1 left over: extra.weight" in text
    assert "1 misshapen: head.fc2.bias (7,), expected (1000,)" in text
    assert len(text.splitlines()) == 1


def test_weights_of_another_preset_are_refused(femto):
    with pytest.raises(ConfigError, match="do not fit vim_tiny"):
        load_official("vim_tiny", femto)


def test_a_model_with_other_classes_loads_in_place(femto):
    model = create("mambaout_femto", num_classes=7)
    state = {**femto, "head.fc2.weight": torch.ones(7, 1152), "head.fc2.bias": torch.ones(7)}
    assert load_official(model, state) is model
    assert model.get_classifier().weight.shape == (7, 1152)
    assert not model.training


def test_loading_copies_and_leaves_the_state_dict_alone(femto):
    before = femto["norm.weight"].clone()
    model = load_official("mambaout_femto", femto)
    with torch.no_grad():
        model.head.norm.weight.zero_()
    assert torch.equal(femto["norm.weight"], before)


def declared(preset: str, family: str | None) -> Backbone:
    """Return a preset's network whose config declares another family."""
    with torch.device("meta"):
        return Backbone(load_config(preset).model_copy(update={"family": family}))


def test_configs_without_a_family_are_refused():
    with pytest.raises(ConfigError, match="declares no family, so it has no official checkpoints"):
        load_official(declared("vim_tiny", None), {"a": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"declares family 'wim'.*families are vmamba, vim"):
        load_official(declared("vim_tiny", "wim"), {"a": torch.zeros(1)})


def test_the_declared_family_decides_not_the_name(femto):
    config = load_config("mambaout_femto").model_copy(update={"name": "vim_like"})
    loaded = load_official(Backbone(config), femto)
    assert torch.equal(loaded.head.fc.weight, femto["head.fc2.weight"])


@pytest.mark.parametrize(
    "preset, family, message",
    [
        ("vmamba_tiny_s1l8", "mambaout", "declares family mambaout, but .* do not match"),
        ("mambaout_femto", "vmamba", "VMamba's lineage was released with ssm or inverted_residual"),
        ("vim_tiny", "plainmamba", "PlainMamba was released with conv, not patchify"),
        ("mambaout_femto", "local_vim", "LocalVim was released with ssm, not gated_conv"),
    ],
)
def test_a_family_that_does_not_fit_the_network_is_refused(preset, family, message):
    with pytest.raises(ConfigError, match=message):
        load_official(declared(preset, family), {"a": torch.zeros(1)})


def test_plainmamba_files_with_buffers_of_their_averaging_hook_load():
    state = weights("plainmamba_l1")
    raw = {f"ema_{k.replace('.', '_')}": torch.zeros_like(v) for k, v in state.items()}
    loaded = load_official("plainmamba_l1", {"state_dict": {**state, **raw}})
    assert torch.equal(loaded.head.fc.weight, state["head.fc.weight"])


def test_each_family_takes_the_weights_that_it_published():
    state = weights("vim_tiny")
    none = {k: torch.zeros_like(v) for k, v in state.items()}
    both = {"model": state, "model_ema": none}
    assert torch.equal(load_official("vim_tiny", both).head.fc.weight, state["head.weight"])
    assert not load_official("vim_tiny", both, ema=True).head.fc.weight.any()


def test_averaged_weights_of_localmambas_trainer_are_found(femto):
    none = {k: torch.zeros_like(v) for k, v in femto.items()}
    loaded = load_official("mambaout_femto", {"model": none, "ema_model": femto})
    assert torch.equal(loaded.head.fc.weight, femto["head.fc2.weight"])


def test_plainmambas_second_stem_convolution_has_its_official_keys():
    one, two = official_state("plainmamba_l1"), official_state("plainmamba_l2")
    stem = {k: tuple(v.shape) for k, v in two.items() if k.startswith("backbone.patch_embed.")}
    second = {k: v for k, v in stem.items() if k.startswith("backbone.patch_embed.convs.3.")}
    assert second == {"backbone.patch_embed.convs.3.weight": (64, 64, 3, 3)}
    norm = {k.rsplit(".", 1)[1] for k in stem if k.startswith("backbone.patch_embed.convs.4.")}
    assert norm == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert not any(k.startswith("backbone.patch_embed.convs.3.") for k in one)


@pytest.mark.parametrize(
    "mixer, block", [("gated_conv", {"beside": "local_conv"}), ("quadtree", {})]
)
def test_weights_stored_under_first_names_load(mixer, block):
    torch.manual_seed(0)
    config = with_mixer(MIXERS[mixer], **block)
    model, other = create(config), create(config)
    first = (
        (".beside.attention.", ".local_branch.attention."),
        (".beside.mixer.", ".local_branch."),
        (".mixer.layout.", ".mixer.quadtree."),
    )
    stored = {}
    for key, value in model.state_dict().items():
        for now, then in first:
            key = key.replace(now, then)
        stored[key] = value
    assert stored.keys() != model.state_dict().keys()
    other.load_state_dict(stored)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


def test_content_without_weights_is_refused():
    with pytest.raises(ConfigError, match="holds no weights: its keys are epoch"):
        load_official("vim_tiny", {"epoch": 1})


def test_torch_files_with_recipe_objects_are_read(tmp_path, femto, monkeypatch):
    module = types.ModuleType("yacs.config")

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    node = CfgNode(lr=0.1)
    node.__dict__["__immutable__"] = True
    content = {"model": femto, "config": node, "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "file.pth")
    monkeypatch.delitem(sys.modules, "yacs.config")
    loaded = load_official("mambaout_femto", read_checkpoint(tmp_path / "file.pth"))
    assert torch.equal(loaded.head.fc.weight, femto["head.fc2.weight"])


class _Malicious:
    def __reduce__(self):
        return (print, ("run",))


def test_files_that_need_code_are_refused(tmp_path, capsys):
    torch.save({"model": _Malicious()}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Malicious()))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(ConfigError, match="without running code from it"):
            read_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="no file"):
        read_checkpoint(tmp_path / "absent.pth")


def test_convert_writes_safetensors_that_load(tmp_path, femto):
    from safetensors import safe_open
    from safetensors.torch import load_file

    torch.save({"model": femto}, tmp_path / "femto.pth")
    convert_checkpoint(tmp_path / "femto.pth", "mambaout_femto", tmp_path / "out.safetensors")
    model = create("mambaout_femto").eval()
    model.load_state_dict(load_file(tmp_path / "out.safetensors"))
    direct = load_official("mambaout_femto", femto)
    with torch.no_grad():
        assert torch.equal(model(image(64, 64)), direct(image(64, 64)))
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata()["preset"] == "mambaout_femto"
        assert file.metadata()["fingerprint"] == model.config.fingerprint()
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        convert_checkpoint(tmp_path / "femto.pth", "mambaout_femto", tmp_path / "out.bin")


def test_vim_class_token_position_moves_last():
    state = weights("vim_tiny")
    model = load_official("vim_tiny", state)
    assert torch.equal(model.pos_embed[:, -1], state["pos_embed"][:, 98])
    assert torch.equal(model.pos_embed[:, 98], state["pos_embed"][:, 99])


def to_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename official MambaOut keys as timm does."""
    out = {}
    for key, value in state.items():
        for old, new in MAMBAOUT_TO_TIMM:
            for s in range(1, 4):
                if key.startswith(old.format(s=s)):
                    out[new.format(s=s) + key[len(old.format(s=s)) :]] = value
                    break
            else:
                continue
            break
        else:
            stage, block, rest = key.removeprefix("stages.").split(".", 2)
            out[f"stages.{stage}.blocks.{block}.{rest}"] = value
    return out


def unfilled(name: str) -> torch.nn.Module:
    """Return timm's model without drawing weights that are replaced, or only counted."""
    with torch.device("meta"):
        return create_model(name)


@pytest.mark.parametrize("size", ["femto", "kobe", "tiny", "small", "base"])
def test_mambaout_equals_timm(size):
    torch.manual_seed(0)
    name = f"mambaout_{size}"
    state = official_state(name, make=lambda shape: 0.05 * torch.randn(shape))
    ours = load_official(name, state)
    theirs = unfilled(name).eval()
    theirs.load_state_dict(to_timm(state), assign=True)
    with torch.no_grad():
        difference = ours(image(64, 96)) - theirs(image(64, 96))
    assert difference.abs().max() < MAMBAOUT_TOLERANCE


@pytest.mark.parametrize("size", ["femto", "kobe", "tiny", "small", "base"])
def test_timms_own_mambaout_weights_load(size):
    state = official_state(f"mambaout_{size}", make=torch.randn)
    renamed = to_timm(state)
    assert {k: tuple(v.shape) for k, v in renamed.items()} == {
        k: tuple(v.shape) for k, v in unfilled(f"mambaout_{size}").state_dict().items()
    }
    one, other = (load_official(f"mambaout_{size}", s) for s in (state, renamed))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_package_exposes_loading():
    assert backbones.load_official is load_official


def test_vit_computes_what_timms_does():
    size = 64
    theirs = create_model("vit_small_patch16_224", img_size=size, depth=2, num_classes=7).eval()
    torch.manual_seed(0)
    for parameter in theirs.parameters():  # biases and the class token start at nothing
        torch.nn.init.normal_(parameter, std=0.05)
    config = load_config("vit_small")
    stage = config.stages[0].model_copy(update={"depth": 2})
    small = {"stages": (stage,), "image_size": size, "num_classes": 7}
    ours = load_official(Backbone(config.model_copy(update=small)), theirs.state_dict())
    image = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=1e-4)


def test_vit_without_its_class_token_has_no_released_weights():
    config = load_config("vit_small").model_copy(update={"class_token": "middle"})
    with pytest.raises(ConfigError, match="class_token middle is no ViT's"):
        official_names(config)
