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
