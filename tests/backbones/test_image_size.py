"""Sizes of images: read, written, and equal to what the built network does with them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import backbones
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.flop_handles import count_flops
from backbones.image_size import parse_image_size, shown, sides

PLAIN = """
schema: 1
image_size: 32x64
position: learned
num_classes: 3
stem: {kind: patchify, patch: 8}
blocks:
  m: {mixer: {kind: ssm, order: bidirectional}}
stages:
- {width: 8, depth: 1, pattern: m}
"""


@given(st.integers(32, 9999), st.integers(32, 9999))
def test_what_is_shown_is_read_again(height, width):
    size = parse_image_size(f"{height}x{width}")
    assert sides(size) == (height, width)
    assert parse_image_size(shown(size)) == size
    assert isinstance(size, int) == (height == width)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("224px", "must be a side or HEIGHTxWIDTH in pixels, e.g. 224 or 512x2048"),
        ("", "must be a side or HEIGHTxWIDTH"),
        ("1x2x3", "must be a side or HEIGHTxWIDTH"),
        ("-224", "must be a side or HEIGHTxWIDTH"),
        ("512x16", "a side must have 32 pixels or more"),
    ],
)
def test_what_is_no_size_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_image_size(text)


def test_config_for_rectangles_has_its_table_and_counts_as_it_is_built():
    config = BackboneConfig.from_yaml(PLAIN)
    assert config.image_size == (32, 64)
    assert BackboneConfig.from_yaml(config.to_yaml()) == config
    model = backbones.create(config).eval()
    assert model.pos_embed.shape == (1, 32, 8)
    counted = backbones.cost(config, image_size=(32, 64))
    assert counted.params == sum(p.numel() for p in model.parameters())
    assert counted.flops == int(count_flops(model, (32, 64)))
    assert model(torch.zeros(1, 3, 32, 64)).shape == (1, 3)
    square = config.model_copy(update={"image_size": 32})
    assert square.fingerprint() != config.fingerprint()
    same = BackboneConfig.from_yaml(PLAIN.replace("32x64", "[64, 64]"))
    assert same.image_size == 64


def test_size_of_a_config_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"image_size.*must be a side or HEIGHTxWIDTH"):
        BackboneConfig.from_yaml(PLAIN.replace("32x64", "wide"))
