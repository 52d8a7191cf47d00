"""Which backend runs a scan: what is available, why something is not, and who decides.

The backend of a call is the first of: its `backend` argument, the innermost `use_backend`
context, the environment variable SCANNAS_BACKEND, and last the device and dtype. A backend
named in any of these that cannot run the call is an error with the reason; only the last,
automatic choice falls back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType

import torch

from kernels.errors import KernelError

BACKENDS = ("reference", "numba", "triton", "mamba_ssm")
ENVIRONMENT_VARIABLE = "SCANNAS_BACKEND"
TRITON_MAX_STATE = 64
MAMBA_MAX_STATE = 256
"""The limit of the CUDA extension of state-spaces/mamba (csrc/selective_scan)."""

_MODULES = {
    "reference": "kernels.reference",
    "numba": "kernels.cpu",
    "triton": "kernels.triton_scan",
    "mamba_ssm": "kernels.mamba_cuda",
}
_FAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_forced: ContextVar[str] = ContextVar("scannas_backend", default="auto")
# The same for compiled code: before torch 2.15 Dynamo reads no ContextVar, but it watches globals.
# Threads share it, so that compiled models in one thread follow a `use_backend` of another.
_forced_in_graphs = "auto"
_import_failures: dict[str, str | None] = {}


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Run every scan of the block on one backend, however deep in a model it is called.

    The backend of a forward call also runs its backward, inside the block or not.
    Raises: KernelError for an unknown name.
    """
    _check_name(backend, "use_backend")
    global _forced_in_graphs
    token, outside = _forced.set(backend), _forced_in_graphs
    _forced_in_graphs = backend
    try:
        yield
    finally:
        _forced.reset(token)
        _forced_in_graphs = outside


def _check_name(backend: str, origin: str) -> None:
    if backend != "auto" and backend not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise KernelError(f"{origin}: backend {backend!r} is unknown; use one of {known}")


def requested_backend(backend: str = "auto") -> str:
    """Name the backend asked for by argument, context or environment; 'auto' if by none."""
    _check_name(backend, "backend")
    if backend == "auto":
        backend = _forced_in_graphs if torch.compiler.is_compiling() else _forced.get()
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT_VARIABLE, "auto")
        _check_name(backend, ENVIRONMENT_VARIABLE)
    return backend


@torch.compiler.assume_constant_result
def _import_failure(name: str) -> str | None:
    """Return the error text of importing a backend's module, or None when it imports."""
    if name not in _import_failures:
        failure = None
        try:
            import_module(_MODULES[name])
        except (ImportError, OSError, RuntimeError) as error:
            first_line = str(error).strip().splitlines() or [type(error).__name__]
            failure = f"{_MODULES[name]} does not import: {first_line[0]}"
        _import_failures[name] = failure
    return _import_failures[name]


def backend_module(name: str) -> ModuleType:
    """Return the module of a backend: its `forward` and `backward` run the custom op."""
    return import_module(_MODULES[name])


def _interpreted() -> bool:
    """Say whether Triton runs its kernels in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not(
    name: str, device_type: str, dtype: torch.dtype, state: int | None = None
) -> str | None:
    """Return why a backend cannot run a scan, or None when it can.

    Shapes: state is N; None leaves limits on N out.
    """
    if name == "reference":
        return None
    if dtype not in _FAST_DTYPES:
        return f"it computes in float32 and does not take {dtype}; use 'reference'"
    if name == "numba" and device_type != "cpu":
        return f"it runs on the CPU, not on {device_type}"
    if name == "mamba_ssm" and device_type != "cuda":
        return f"it runs on CUDA devices, not on {device_type}"
    if name == "triton" and device_type != "cuda":
        if not (device_type == "cpu" and _interpreted()):
            return f"it runs on CUDA devices, not on {device_type} (but for TRITON_INTERPRET=1)"
    if state is not None and name == "triton" and state > TRITON_MAX_STATE:
        return f"it holds at most {TRITON_MAX_STATE} states a channel, not {state}"
    if state is not None and name == "mamba_ssm" and state > MAMBA_MAX_STATE:
        return f"it holds at most {MAMBA_MAX_STATE} states a channel, not {state}"
    return _import_failure(name)


def resolve_backend(
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
    *,
    state: int | None = None,
) -> str:
    """Name the backend that a scan on this device and dtype runs on.

    Shapes: state is N where it is known.
    Raises: KernelError when the backend asked for, by argument, `use_backend` or
        SCANNAS_BACKEND, cannot run it.
    """
    device_type = device.type if isinstance(device, torch.device) else torch.device(device).type
    wanted = requested_backend(backend)
    if wanted != "auto":
        reason = why_not(wanted, device_type, dtype, state)
        if reason is not None:
            raise KernelError(f"backend {wanted!r} cannot run this scan: {reason}")
        return wanted
    fast = {"cpu": "numba", "cuda": "triton"}.get(device_type)
    if fast is not None and why_not(fast, device_type, dtype, state) is None:
        return fast
    return "reference"


def backend_report() -> dict[str, str]:
    """Say of each backend whether it can run here: 'available', or the reason why not.

    For `doctor`: a backend needs its package and a device of its kind.
    """
    report = {}
    for name in BACKENDS:
        device_type = "cpu" if name in ("reference", "numba") or _interpreted() else "cuda"
        reason = why_not(name, device_type, torch.float32)
        if reason is None and device_type == "cuda" and not torch.cuda.is_available():
            reason = "no CUDA device is visible"
        report[name] = "available" if reason is None else reason
    return report
