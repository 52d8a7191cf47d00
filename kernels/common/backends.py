"""Which backend runs a call: what is available, why something is not, and who decides.

The backend of a call is the first of: its `backend` argument, the innermost `use_backend`
context, the environment variable SCANNAS_BACKEND, and last the device and dtype. A backend
named in any of these that cannot run the call is an error with the reason; only the last,
automatic choice falls back, and says so once where that costs speed.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from kernels.common.operators import Backend, Operator, operator, operators
from kernels.errors import KernelError

ENVIRONMENT_VARIABLE = "SCANNAS_BACKEND"
FIRST = "cross_scan"
"""The operator that is meant where none is named."""
_FAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_forced: ContextVar[str] = ContextVar("scannas_backend", default="auto")
# The same for compiled code: before torch 2.15 Dynamo reads no ContextVar, but it watches globals.
# Threads share it, so that compiled models in one thread follow a `use_backend` of another.
_forced_in_graphs = "auto"
_import_failures: dict[str, str | None] = {}
_said: set[str] = set()


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


@torch.compiler.assume_constant_result
def backend_names() -> tuple[str, ...]:
    """Name the backends of all operators."""
    return tuple(dict.fromkeys(name for one in operators() for name in one.backends))


def _check_name(backend: str, origin: str) -> None:
    if backend != "auto" and backend not in backend_names():
        known = ", ".join(("auto", *backend_names()))
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


def _import_failure(backend: Backend) -> str | None:
    """Return the error text of importing a backend's module, or None when it imports."""
    module = backend.module
    if module not in _import_failures:
        failure = None
        try:
            backend.load()
        except (ImportError, OSError, RuntimeError) as error:
            first_line = str(error).strip().splitlines() or [type(error).__name__]
            failure = f"{module} does not import: {first_line[0]}"
        _import_failures[module] = failure
    return _import_failures[module]


def interpreted() -> bool:
    """Say whether Triton runs its kernels in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _triton_cannot_launch() -> str | None:
    """Return what a device's kernels lack to be launched: all of it shows at the first one."""
    if torch.version.hip is not None:
        return "its kernels hold NVIDIA's PTX, and this PyTorch is built for ROCm; use 'reference'"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler to launch kernels; install gcc or clang, or set CC"
    return None


@torch.compiler.assume_constant_result
def _missing(operator_name: str, name: str, device_type: str, dtype: torch.dtype) -> str | None:
    """Return why a backend cannot run on a device and dtype, whatever the shapes."""
    backend = operator(operator_name).backends[name]
    if not backend.exact and dtype not in _FAST_DTYPES:
        return f"it computes in float32 and does not take {dtype}; use 'reference'"
    on_cpu = name == "triton" and device_type == "cpu" and interpreted()
    if backend.devices and device_type not in backend.devices and not on_cpu:
        kind = {"cpu": "the CPU", "cuda": "CUDA devices"}[backend.devices[0]]
        but = " (but for TRITON_INTERPRET=1)" if name == "triton" else ""
        return f"it runs on {kind}, not on {device_type}{but}"
    if name == "triton" and device_type == "cuda":
        reason = _triton_cannot_launch()
        if reason is not None:
            return reason
    return _import_failure(backend)


def why_not(
    name: str,
    device_type: str,
    dtype: torch.dtype,
    state: int | None = None,
    of: Operator | None = None,
) -> str | None:
    """Return why a backend cannot run an operator, or None when it can.

    Shapes: state is N; None leaves limits on N out.
    """
    of = operator(FIRST) if of is None else of
    if name not in of.backends:
        return f"{of.name} has no such backend; it has {', '.join(of.backends)}"
    largest = of.backends[name].largest_state
    reason = _missing(of.name, name, device_type, dtype)
    if reason is None and state is not None and largest is not None and state > largest:
        return f"it holds at most {largest} states a channel, not {state}"
    return reason


@torch.compiler.assume_constant_result
def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def resolve_backend(
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
    *,
    state: int | None = None,
    of: Operator | None = None,
) -> str:
    """Name the backend that a call on this device and dtype runs on.

    Shapes: state is N where it is known. of: the operator, `cross_scan` where none is named.
    Raises: KernelError when the backend asked for, by argument, `use_backend` or
        SCANNAS_BACKEND, cannot run it.
    Warns: once, where no fast backend can run what none was asked for.
    """
    of = operator(FIRST) if of is None else of
    device_type = device.type if isinstance(device, torch.device) else torch.device(device).type
    wanted = requested_backend(backend)
    if wanted != "auto":
        reason = why_not(wanted, device_type, dtype, state, of)
        if reason is not None:
            raise KernelError(f"backend {wanted!r} cannot run this scan: {reason}")
        return wanted
    for name, entry in of.backends.items():
        if entry.automatic and device_type in (entry.devices or (device_type,)):
            reason = why_not(name, device_type, dtype, state, of)
            if reason is None:
                return name
            if dtype != torch.float64:
                _say_once(
                    f"{of.name} runs on the slow 'reference' backend on {device_type}, because "
                    f"{name!r} cannot: {reason}"
                )
    return "reference"


def backend_report() -> dict[str, str]:
    """Say of each backend whether it can run here: 'available', or the reason why not.

    For `doctor`: a backend needs its package and a device of its kind.
    """
    report: dict[str, str] = {}
    for one in operators():
        for name, backend in one.backends.items():
            needs_cuda = backend.devices == ("cuda",) and not (name == "triton" and interpreted())
            reason = why_not(name, "cuda" if needs_cuda else "cpu", torch.float32, of=one)
            if reason is None and needs_cuda and not torch.cuda.is_available():
                reason = "no CUDA device is visible"
            if report.get(name, "available") == "available":
                report[name] = "available" if reason is None else reason
    return report
