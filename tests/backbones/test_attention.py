"""Attention equals its definition, and tokens see those that they should."""

import pytest
import torch

from backbones.mixers.attention import AttentionConfig


def build(width=8, **fields):
    torch.manual_seed(0)
    return AttentionConfig(head_dim=4, **fields).build(width).eval()


def by_hand(mixer, x, visible, bias=0.0):
    """Softmax attention of 2 heads, token by token. visible (L, L): who sees whom."""
    bias = torch.as_tensor(bias).expand(*visible.shape, 2)
    out = torch.zeros_like(x)
    q, k, v = mixer.qkv(x).chunk(3, -1)
    for head in (slice(0, 4), slice(4, 8)):
        scores = q[..., head] @ k[..., head].transpose(1, 2) / 2 + bias[..., head.start // 4]
        out[..., head] = scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v[..., head]
    return mixer.proj(out)


@pytest.mark.parametrize("window", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (1, 6)])
def test_tokens_attend_to_their_window(window, grid):
    mixer, (height, width) = build(window=window), grid
    x = torch.randn(2, height * width, 8, generator=torch.Generator().manual_seed(1))
    rows, cols = torch.arange(height * width) // width, torch.arange(height * width) % width
    place = rows * 0 if window is None else rows // window * 100 + cols // window
    with torch.no_grad():
        expected = by_hand(mixer, x, place[:, None] == place)
        assert torch.allclose(mixer(x, grid), expected, atol=1e-6)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("grid", [(4, 4), (5, 3)])
def test_relative_positions_are_a_bias_of_each_offset(window, grid):
    mixer, (height, width) = build(window=window, position="relative"), grid
    assert mixer.bias.shape == ((2 * window - 1) ** 2, 2)
    x = torch.randn(2, height * width, 8, generator=torch.Generator().manual_seed(1))
    rows, cols = torch.arange(height * width) // width, torch.arange(height * width) % width
    place = rows // window * 100 + cols // window
    down, right = (at[:, None] - at for at in (rows % window, cols % window))
    with torch.no_grad():
        mixer.bias.normal_(generator=torch.Generator().manual_seed(2))
        table = mixer.bias.unflatten(0, (2 * window - 1, -1))
        bias = table[down + window - 1, right + window - 1]
        expected = by_hand(mixer, x, place[:, None] == place, bias)
        assert torch.allclose(mixer(x, grid), expected, atol=1e-6)


def test_relative_positions_need_a_window():
    with pytest.raises(ValueError, match="offsets inside a window; set window, or none"):
        AttentionConfig(position="relative")


def test_a_small_network_keeps_heads_that_divide_its_widths():
    mixer = AttentionConfig(head_dim=32)
    assert (mixer.width_step, mixer.at_step(8).head_dim, mixer.at_step(64)) == (32, 8, mixer)


def test_a_class_token_sees_the_map_only_without_windows():
    assert AttentionConfig().takes_class_token
    assert not AttentionConfig(window=4).takes_class_token
    assert build()(torch.randn(1, 10, 8), (3, 3)).shape == (1, 10, 8)


def test_windows_that_hold_a_small_map_are_noted():
    mixer = AttentionConfig(window=7)
    assert mixer.adapts_to(14) == (mixer, [])
    assert mixer.adapts_to(7)[1] == ["attention windows of 7 hold the whole map"]
