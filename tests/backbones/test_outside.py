"""Networks of timm by name: backbones/outside.py."""

import pytest
import timm
import torch

import backbones
from backbones.errors import ConfigError
from backbones.outside import TimmConfig, read_design

SIZE = 64


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext", "timm:test_byobnet"])
def test_a_name_alone_makes_the_network_and_its_cost(name):
    config = TimmConfig.load(name)
    assert read_design(config.to_dict()) == config
    model = backbones.create(name, num_classes=5, in_chans=1, image_size=SIZE).eval()
    assert model(torch.randn(2, 1, SIZE, SIZE)).shape == (2, 5)
    cost = config.cost(SIZE)
    theirs = timm.create_model(name.removeprefix("timm:"))
    if hasattr(theirs, "set_input_size"):
        theirs.set_input_size(img_size=(SIZE, SIZE))
    assert cost.params == sum(p.numel() for p in theirs.parameters())
    assert cost.flops > config.cost(SIZE, "macs").flops > 0


def test_attention_is_counted():
    config = TimmConfig.load("timm:vit_small_patch16_224")
    assert config.cost(224, "macs").flops == backbones.cost("vit_small", 224, "macs").flops
    # Theirs norms every token, ours the class token that is read out.
    assert config.cost(224).flops - backbones.cost("vit_small", 224).flops == 5 * 384 * 196


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:convnext_ato", "is no model of timm; did you mean 'convnext_atto'"),
        ("timm:", "'timm:' is no model of timm"),
        ("convnext_atto", "must begin with 'timm:', e.g. timm:convnext_atto"),
    ],
)
def test_an_unknown_network_is_said(name, reason):
    with pytest.raises(ConfigError, match=reason):
        TimmConfig.load(name)


def test_a_size_that_timm_refuses_is_said(monkeypatch):
    class Refusing:
        def set_input_size(self, img_size):
            raise AssertionError("windows do not divide it")

    with monkeypatch.context() as patched:
        patched.setattr(timm, "create_model", lambda *_, **__: Refusing())
        with pytest.raises(ConfigError, match="test_vit does not take images of 65 pixels: windo"):
            backbones.create("timm:test_vit", image_size=65)
    with pytest.raises(ConfigError, match="unknown override 'widths'"):
        backbones.create("timm:test_vit", widths=3)


def test_designs_of_both_kinds_are_told_apart():
    ours = backbones.load_config("mambaout_femto")
    assert read_design(ours.to_dict()).fingerprint() == ours.fingerprint()
    prints = {TimmConfig(timm=name).fingerprint() for name in ("test_vit", "test_convnext")}
    assert len(prints) == 2
