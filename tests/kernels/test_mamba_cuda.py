"""The adapter to mamba's CUDA extension, with the reference in the extension's place."""

import sys
from types import ModuleType

import pytest
import torch

from kernels import backend_report
from kernels.common import backends
from kernels.common.conformance import errors, run
from kernels.s6 import reference
from kernels.s6.call import ScanCall
from kernels.s6.cases import ScanShape, make_problem

WEIGHTS_IN_FLOAT32 = 1e-6


def as_reference(u, delta, A, B, C, D, bias, softplus):
    """Turn the extension's layout, routes as groups of channels, into the reference's."""
    batch, routes, state, tokens = B.shape
    inner = A.shape[0] // routes

    def tokens_last(tensor):
        return tensor.view(batch, routes, -1, tokens).transpose(2, 3)

    return ScanCall(
        x=tokens_last(u),
        delta=tokens_last(delta),
        A=A.view(routes, inner, state),
        B=B.transpose(2, 3),
        C=C.transpose(2, 3),
        D=None if D is None else D.view(routes, inner),
        delta_bias=None if bias is None else bias.view(routes, inner),
        delta_softplus=softplus,
        merge="none",
    )


def channels_first(tensor, like):
    return tensor.transpose(2, 3).reshape(like.shape)


@pytest.fixture
def extension(monkeypatch):
    module = ModuleType("selective_scan_cuda")

    def fwd(u, delta, A, B, C, D, z, bias, softplus):
        assert z is None and all(t.is_contiguous() for t in (u, delta, A, B, C))
        kept = torch.zeros(u.shape[0], u.shape[1], 1, 2 * A.shape[1])
        y = reference.scan(as_reference(u, delta, A, B, C, D, bias, softplus))
        return channels_first(y, u), kept

    def bwd(u, delta, A, B, C, D, z, bias, dout, kept, out, dz, softplus, recompute):
        assert (z, out, dz, recompute) == (None, None, None, False)
        assert dout.is_contiguous() and kept.shape[-1] == 2 * A.shape[1]
        given = as_reference(u, delta, A, B, C, D, bias, softplus)
        grad = as_reference(dout, delta, A, B, C, D, bias, softplus).x
        g = reference.backward(given, grad, None, None)
        return (
            channels_first(g["x"], u),
            channels_first(g["delta"], u),
            g["A"].flatten(0, 1),
            g["B"].transpose(2, 3),
            g["C"].transpose(2, 3),
            None if D is None else g["D"].flatten(),
            None if bias is None else g["delta_bias"].flatten(),
        )

    module.fwd, module.bwd = fwd, bwd
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", module)
    yield module
    sys.modules.pop("kernels.s6.mamba_cuda", None)


@pytest.mark.parametrize(
    "shape",
    [
        ScanShape(K=3, L=7, D=5, N=2, orders="per-sample"),
        ScanShape(K=2, L=5, D=4, N=3, merge="none", route_inputs=True),
        ScanShape(K=2, L=5, D=4, N=1, merge="mean", gated=False, skip=False, bias=False),
    ],
    ids=lambda s: s.label,
)
def test_adapter_permutes_and_merges_as_the_reference(extension, shape):
    from kernels.s6 import mamba_cuda

    problem = make_problem(shape)
    expected = run(problem, "reference")
    y, *kept = mamba_cuda.forward(problem.call, True)
    assert [tuple(t.shape) for t in kept] == [shape for shape, _ in mamba_cuda.kept(problem.call)]
    grads = mamba_cuda.backward(problem.call, problem.grad_y, *kept)
    found = {"y": y} | {f"grad_{n}": g for n, g in grads.items() if g is not None}
    assert max(errors(found, expected).values()) < WEIGHTS_IN_FLOAT32


def test_missing_extension_is_reported_by_name(monkeypatch):
    monkeypatch.setattr(backends, "_import_failures", {})
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    monkeypatch.delitem(sys.modules, "kernels.s6.mamba_cuda", raising=False)
    assert "selective_scan_cuda" in backend_report()["mamba_ssm"]
