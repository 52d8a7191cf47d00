"""SSD: what it shares with S6, and what its chunks must not change."""

import pytest
import torch

from kernels import KernelError, cross_scan, ssd_flops, ssd_scan
from kernels.common.conformance import errors
from kernels.ssd import chunked
from kernels.ssd.cases import CASES, SsdShape

EXACT = 1e-11
FLOAT32 = 1e-5
BACKENDS = ["reference", "chunked"]


def arguments(shape, dtype=torch.float64, **changes):
    call = shape.problem().to("cpu", dtype).call._replace(**changes)
    return call, {name: value for name, value in call._asdict().items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", CASES, ids=lambda s: s.label)
def test_ssd_is_s6_whose_heads_share_a_decay(backend, shape):
    call, named = arguments(shape)
    y = ssd_scan(**named, backend=backend)
    expected = cross_scan(**call.as_s6()._asdict(), backend="reference")
    assert errors({"y": y}, {"y": expected})["y"] < EXACT


@pytest.mark.parametrize("chunk", [1, 7, 32, 512])
def test_length_of_a_chunk_changes_nothing(monkeypatch, chunk):
    _, named = arguments(SsdShape(B=1, K=2, L=70, D=6, N=3))
    expected = ssd_scan(**named, backend="reference")
    monkeypatch.setattr(chunked, "CHUNK", chunk)
    assert errors({"y": ssd_scan(**named, backend="chunked")}, {"y": expected})["y"] < EXACT


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_table_equals_permute_scan_and_unpermute(backend):
    shape = SsdShape(B=2, K=2, L=45, D=8, N=3, merge="none", gated=False)
    call, named = arguments(shape, torch.float32)
    y = ssd_scan(**named, backend=backend)
    for k, row in enumerate(call.orders.long()):
        moved = {n: named[n][:, k : k + 1, row] for n in ("delta", "B", "C")}
        weights = {n: named[n][k : k + 1] for n in ("A", "D", "delta_bias")}
        rest = {"orders": None, "x": call.x[:, row]}
        alone = ssd_scan(**(named | moved | weights | rest), backend=backend)
        assert errors({"y": alone[:, 0]}, {"y": y[:, k, row].double()})["y"] < FLOAT32


def test_without_decay_it_is_linear_attention():
    _, named = arguments(SsdShape(B=1, K=1, L=50, D=4, N=3, H=1, orders="raster", gated=False))
    steps = torch.ones_like(named["delta"])
    named |= {"A": torch.zeros_like(named["A"]), "delta": steps, "D": None, "delta_bias": None}
    y = ssd_scan(**(named | {"delta_softplus": False}), backend="chunked")
    scores = (named["C"][:, 0] @ named["B"][:, 0].mT).tril()
    assert errors({"y": y}, {"y": scores @ named["x"]})["y"] < EXACT


@pytest.mark.parametrize("step", [1e-6, 20.0, 100.0])
@pytest.mark.parametrize("decay", [-1e-3, -1e3])
def test_extreme_steps_and_decays_stay_finite(step, decay):
    shape = SsdShape(B=1, K=1, L=70, D=6, N=3, orders="raster", gated=False, bias=False)
    _, named = arguments(shape, torch.float32)
    named["delta"] = torch.full_like(named["delta"], step)
    named["A"] = torch.full_like(named["A"], decay)
    leaves = {n: t.requires_grad_() for n, t in named.items() if torch.is_tensor(t)}
    y = ssd_scan(**(named | leaves | {"delta_softplus": False}), backend="chunked")
    gradients = torch.autograd.grad(y.square().sum(), list(leaves.values()))
    assert y.isfinite().all() and all(g.isfinite().all() for g in gradients)


def test_order_that_visits_a_token_twice_is_rejected():
    _, named = arguments(SsdShape(B=1, K=1, L=3))
    for backend in BACKENDS:
        with pytest.raises(KernelError, match="row 0 is not a permutation"):
            ssd_scan(**(named | {"orders": torch.tensor([[0, 1, 1]])}), backend=backend)


def test_heads_that_do_not_divide_the_channels_are_named():
    call, named = arguments(SsdShape(D=20, H=4))
    with pytest.raises(KernelError, match="x has 18 channels, which delta's 4 heads do not divide"):
        ssd_scan(**(named | {"x": call.x[..., :18], "z": None}))
    with pytest.raises(KernelError, match=r"A has shape .* expected \(K, H\) = \(2, 4\)"):
        ssd_scan(**(named | {"A": call.A[:, :3]}))


def test_counts_equal_those_made_by_hand():
    assert ssd_flops(7, 6, 3, H=2, K=4, convention="fvcore") == 4 * (3 * 7 * 6 * 3 + 7 * 6)
    assert ssd_flops(7, 6, 3, H=2, K=1, convention="macs") == 3 * 7 * 6 * 3 + 2 * 7 * 6 + 7 * 2
    gated = ssd_flops(7, 6, 3, H=2, K=1, convention="macs", gated=True)
    assert gated - ssd_flops(7, 6, 3, H=2, K=1, convention="macs") == 7 * 6
    with pytest.raises(KernelError, match="FLOP convention 'flops' is unknown"):
        ssd_flops(1, 1, 1, 1, 1, "flops")
