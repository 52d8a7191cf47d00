"""Who decides on which backend a scan runs, and what is said when it cannot."""

import warnings

import pytest
import torch

import kernels
from kernels import KernelError, resolve_backend, use_backend
from kernels.common import backends


def test_automatic_choice_follows_device_and_dtype():
    assert resolve_backend("cpu") == "numba"
    assert resolve_backend(torch.device("cpu"), torch.bfloat16) == "numba"
    assert resolve_backend("cpu", torch.float64) == "reference"


def test_argument_beats_context_beats_environment(monkeypatch):
    monkeypatch.setenv("SCANNAS_BACKEND", "reference")
    assert resolve_backend("cpu") == "reference"
    with use_backend("numba"):
        assert resolve_backend("cpu") == "numba"
        assert resolve_backend("cpu", backend="reference") == "reference"
        with use_backend("reference"):
            assert resolve_backend("cpu") == "reference"
        assert resolve_backend("cpu") == "numba"
    assert resolve_backend("cpu") == "reference"


@pytest.mark.parametrize(
    ("device", "dtype", "backend", "reason"),
    [
        ("cuda", torch.float32, "numba", "it runs on the CPU, not on cuda"),
        ("cpu", torch.float32, "mamba_ssm", "it runs on CUDA devices, not on cpu"),
        ("cpu", torch.float64, "numba", "does not take torch.float64; use 'reference'"),
    ],
)
def test_backend_that_cannot_run_is_refused_with_the_reason(device, dtype, backend, reason):
    with pytest.raises(KernelError, match=f"backend '{backend}' cannot run this scan: .*{reason}"):
        resolve_backend(device, dtype, backend)


def test_triton_on_the_cpu_is_refused_unless_interpreted(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelError, match="it runs on CUDA devices, not on cpu"):
        resolve_backend("cpu", backend="triton")


def on_cuda(monkeypatch, hip=None, compiler="/usr/bin/gcc"):
    """Make the choice of a backend for CUDA depend on nothing of this machine."""
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(backends.shutil, "which", lambda name: compiler)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(backends._import_failures, "kernels.s6.triton", None)
    monkeypatch.setattr(backends, "_said", set())


def test_too_many_states_are_refused_by_name_and_avoided_by_auto(monkeypatch):
    on_cuda(monkeypatch)
    with pytest.raises(KernelError, match="at most 64 states a channel, not 65"):
        resolve_backend("cuda", backend="triton", state=65)
    with pytest.warns(RuntimeWarning):
        assert resolve_backend("cuda", state=65) == "reference"
    assert resolve_backend("cuda", state=64) == "triton"


def test_slow_path_is_said_once_with_its_reason(monkeypatch):
    on_cuda(monkeypatch)
    said = (
        r"runs on the slow 'reference' backend on cuda, because 'triton' cannot: it holds at most"
    )
    with pytest.warns(RuntimeWarning, match=said):
        resolve_backend("cuda", state=65)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_backend("cuda", state=65) == "reference"
        assert resolve_backend("cuda", torch.float64) == "reference"  # What float64 asks for.
        assert resolve_backend("cuda", backend="reference", state=65) == "reference"


def test_missing_compiler_is_found_when_the_backend_is_chosen(monkeypatch):
    on_cuda(monkeypatch, compiler=None)
    with pytest.raises(KernelError, match="a C compiler to launch kernels; install gcc or clang"):
        resolve_backend("cuda", backend="triton")
    with pytest.warns(RuntimeWarning, match="C compiler"):
        assert resolve_backend("cuda") == "reference"
    monkeypatch.setenv("CC", "/opt/cc")
    assert resolve_backend("cuda") == "triton"


def test_rocm_is_refused_by_name(monkeypatch):
    on_cuda(monkeypatch, hip="6.4")
    with pytest.raises(KernelError, match="NVIDIA's PTX, and this PyTorch is built for ROCm"):
        resolve_backend("cuda", backend="triton")
    with pytest.warns(RuntimeWarning, match="ROCm"):
        assert resolve_backend("cuda") == "reference"


def test_unknown_names_are_refused_with_their_origin(monkeypatch):
    with pytest.raises(KernelError, match="backend 'cuda' is unknown; use one of auto, reference"):
        resolve_backend("cpu", backend="cuda")
    with pytest.raises(KernelError, match="use_backend: backend 'x' is unknown"):
        with use_backend("x"):
            pass
    monkeypatch.setenv("SCANNAS_BACKEND", "nmuba")
    with pytest.raises(KernelError, match="SCANNAS_BACKEND: backend 'nmuba' is unknown"):
        resolve_backend("cpu")


def test_backend_that_does_not_import_is_reported_and_replaced(monkeypatch):
    monkeypatch.setitem(backends._import_failures, "kernels.s6.cpu", "No module named 'numba'")
    monkeypatch.setattr(backends, "_said", set())
    with pytest.warns(RuntimeWarning, match="No module named 'numba'"):
        resolve_backend("cpu")
    assert resolve_backend("cpu") == "reference"
    assert "No module named 'numba'" in kernels.backend_report()["numba"]
    with pytest.raises(KernelError, match="No module named 'numba'"):
        resolve_backend("cpu", backend="numba")
    x, A = torch.ones(1, 2, 3), -torch.ones(3, 1)
    b = torch.ones(1, 2, 1)
    assert kernels.selective_scan(x, x, A, b, b).isfinite().all()


def test_report_names_every_backend_and_a_reason(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cuda(monkeypatch)
    report = kernels.backend_report()
    assert set(report) == set(backends.backend_names())
    assert report["reference"] == report["numba"] == "available"
    assert report["triton"] == "no CUDA device is visible"
    on_cuda(monkeypatch, compiler=None)
    assert "C compiler" in kernels.backend_report()["triton"]
