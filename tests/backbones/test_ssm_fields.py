"""What fields of an SSM and of a head compute, written out."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import shrink

from backbones import create, load_config
from backbones.config import BackboneConfig
from backbones.mixers.ssm import SSMConfig
from kernels import selective_scan, use_backend

GRID = (3, 5)


def module(**fields):
    """Return a mixer of width 4 in float64, without norm and convolution, and tokens."""
    config = SSMConfig(conv=None, out_norm=None, d_state=2, expand=2.0, dt_rank=2, **fields)
    torch.manual_seed(0)
    ssm = config.build(4, shift=None, class_token=0, depth=1).double()
    return ssm, torch.randn(2, 15, 4, dtype=torch.float64)


def scanned(ssm, x, k):
    """Scan sequences (B, L, E) with the weights of route k."""
    dt, b, c = (x @ ssm.x_proj[k].T).split((2, 2, 2), dim=-1)
    return selective_scan(
        x, dt @ ssm.dt_proj[k].T, -ssm.A_log[k].exp(), b, c, ssm.D[k],
        delta_bias=ssm.dt_bias[k], delta_softplus=True, backend="reference",
    )  # fmt: skip


def both_ways(ssm, x, k):
    return scanned(ssm, x, k) + scanned(ssm, x.flip(1), k + 1).flip(1)


def test_a_cascade_scans_each_row_then_each_column():
    ssm, x = module(order="cross", cascade=True)
    with torch.no_grad(), use_backend("reference"):
        found = ssm(x, GRID)
        y = F.layer_norm(F.silu(ssm.in_proj(x)), (8,)).unflatten(1, GRID)
        y = torch.stack([both_ways(ssm, y[:, i], 0) for i in range(3)], dim=1)
        y = F.layer_norm(y, (8,))
        y = torch.stack([both_ways(ssm, y[:, :, j], 2) for j in range(5)], dim=2)
        torch.testing.assert_close(found, ssm.out_proj(y.flatten(1, 2)))


def test_split_channels_are_scanned_by_a_route_each():
    ssm, x = module(order={"kind": "routes", "routes": ["h", "h_flip"]}, split=True)
    with torch.no_grad(), use_backend("reference"):
        found = ssm(x, GRID)
        first, second = F.silu(ssm.in_proj(x)).chunk(2, dim=-1)
        y = torch.cat([scanned(ssm, first, 0), scanned(ssm, second.flip(1), 1).flip(1)], dim=-1)
        torch.testing.assert_close(found, ssm.out_proj(y))


@pytest.mark.parametrize("gate", ["none", "output", "scan"])
def test_without_its_scan_a_block_is_the_rest(gate):
    config = SSMConfig(scan=False, expand=2.0, gate=gate)
    mixer = config.build(4, shift=None, class_token=0, depth=1).double()
    x = torch.randn(2, 15, 4, dtype=torch.float64)
    with torch.no_grad():
        y, *z = mixer.in_proj(x).split(8, dim=-1)
        y = mixer.conv(y.unflatten(1, GRID).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        y = F.silu(y)
        if gate == "scan":
            y = mixer.out_norm(y * F.silu(z[0]))
        else:
            y = mixer.out_norm(y) * (F.silu(z[0]) if z else 1)
        torch.testing.assert_close(mixer(x, GRID), mixer.out_proj(y))
    left = {name.split(".")[0] for name, _ in mixer.named_parameters()}
    assert left == {"in_proj", "conv", "out_norm", "out_proj"}


def test_without_its_scan_nothing_of_it_tells_blocks_apart():
    plain = SSMConfig(scan=False)
    other = SSMConfig(scan=False, order="quadtree", d_state=16, merge="attention", init="zero")
    assert plain.canonical(8) == other.canonical(8, (1, 1))
    assert (plain.scan_state, other.turn(1, 1)) == (0, None)
    assert plain.canonical(8) != SSMConfig(scan=False, gate="output").canonical(8)
    with pytest.raises(ValueError, match="scan false leaves no routes for a causal conv to follow"):
        SSMConfig(scan=False, conv="causal")


@pytest.mark.parametrize("first", [True, False])
def test_two_class_tokens_are_averaged(first):
    head = {"pool": "token", "norm_first": first}
    tokens = shrink(load_config("vim_tiny")).to_dict() | {"class_token": "double", "head": head}
    model = create(BackboneConfig.model_validate(tokens)).eval()
    x = torch.randn(2, 66, model.num_features)
    with torch.no_grad():
        norm = model.head.norm
        ends = norm(x[:, :2]).mean(1) if first else norm(x[:, :2].mean(1))
        torch.testing.assert_close(model.forward_head(x), model.head.fc(ends))


def test_the_largest_of_all_tokens_may_be_read():
    model = create("vmamba_tiny_s1l8", num_classes=3)
    model.reset_classifier(3, "max")
    x = torch.randn(2, 4, 5, model.num_features)
    expected = model.head.fc(x.flatten(1, 2).max(1).values)
    torch.testing.assert_close(model.forward_head(x), expected)
