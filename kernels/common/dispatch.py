"""From the record of an operator to one custom op, and from a call to its backend.

Every call of an operator is one node `scannas::<name>`, so that `torch.compile`,
`torch.export`, `torch.jit.trace`, fvcore, autocast and activation checkpointing see one
operator, and the graph of a model does not depend on its length or on its backend.

The op takes each floating input in its own dtype and computes in float32, so autocast has
nothing to cast: what reaches it in half precision is read so, weights stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import Tensor

from kernels.common.backends import requested_backend, resolve_backend
from kernels.common.operators import Operator, operators
from kernels.common.shapes import check_call

Kept = list[tuple[tuple[int, ...], torch.dtype]]
_SCHEMA = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool", str: "str"}


def run(operator: Operator, call: Any, backend: str = "auto") -> Tensor:
    """Check a call, choose its backend and run it.

    Raises: KernelError for arguments that do not fit or a backend that cannot run the call.
    """
    tracing = torch.jit.is_tracing()
    if not tracing:  # A trace compares shapes as tensors, and warns; the call was checked before.
        check_call(operator, call)
    if not (torch.compiler.is_exporting() and requested_backend(backend) == "auto"):
        # An exported program keeps 'auto': it may run on another device than it was traced on.
        backend = _resolve(operator, call, backend, None if tracing else operator.state(call))
    # A traced graph must not depend on the grad mode that it was traced in.
    save = (torch.is_grad_enabled() or tracing) and any(
        tensor is not None and tensor.requires_grad for tensor in call if _is_tensor(tensor)
    )
    found = getattr(torch.ops.scannas, operator.name)(*call, backend, save)
    result: Tensor = found[0] if operator.kept else found
    return result


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _resolve(operator: Operator, call: Any, backend: str, state: int | None) -> str:
    """Name the backend of a call: float64 if either of its first two tensors is."""
    dtype = torch.float64 if call[1].dtype == torch.float64 else call[0].dtype
    return resolve_backend(call[0].device, dtype, backend, state=state, of=operator)


def allocate(kept: Kept, save: bool, device: torch.device) -> list[Tensor]:
    """Make the tensors that a forward keeps; empty ones where there will be no backward."""
    return [
        torch.empty(shape if save else (0,), dtype=dtype, device=device) for shape, dtype in kept
    ]


def _arguments(operator: Operator) -> str:
    hints = get_type_hints(operator.call)
    names = operator.call._fields  # type: ignore[attr-defined]
    return ", ".join(f"{_SCHEMA[hints[name]]} {name}" for name in names)


def _forward_schema(operator: Operator) -> str:
    results = ", ".join(["Tensor"] * (1 + len(operator.kept)))
    results = f"({results})" if operator.kept else results
    return f"({_arguments(operator)}, str backend, bool save) -> {results}"


def _backward_schema(operator: Operator) -> str:
    kept = "".join(f", Tensor {name}" for name in operator.kept)
    return f"(Tensor grad_y, {_arguments(operator)}{kept}, str backend) -> Tensor[]"


def define(operator: Operator) -> Operator:
    """Make the custom ops of an operator, forward and backward, and return its record."""
    names = operator.call._fields  # type: ignore[attr-defined]
    number, inputs = len(names), [names.index(name) for name in operator.inputs]

    def forward(*values):  # type: ignore[no-untyped-def]
        call, (backend, save) = operator.call(*values[:number]), values[number:]
        backend = _resolve(operator, call, backend, operator.state(call))
        with torch.autocast(call[0].device.type, enabled=False):
            found = operator.backends[backend].load().forward(call, save)
        return tuple(found) if operator.kept else found[0]

    def shapes(*values):  # type: ignore[no-untyped-def]
        call, (backend, save) = operator.call(*values[:number]), values[number:]
        backend = _resolve(operator, call, backend, operator.state(call))
        kept = operator.backends[backend].load().kept(call)
        y = call[0].new_empty(operator.result(call))
        left = [y.new_empty(shape if save else (0,), dtype=dtype) for shape, dtype in kept]
        return (y, *left) if left else y

    def backward(grad_y, *values):  # type: ignore[no-untyped-def]
        call, kept, backend = operator.call(*values[:number]), values[number:-1], values[-1]
        with torch.autocast(call[0].device.type, enabled=False):
            found = operator.backends[backend].load().backward(call, grad_y, *kept)
        present = [(name, getattr(call, name)) for name in operator.inputs]
        return [found[name].to(t.dtype).contiguous() for name, t in present if t is not None]

    def gradient_shapes(grad_y, *values):  # type: ignore[no-untyped-def]
        return [values[at].new_empty(values[at].shape) for at in inputs if values[at] is not None]

    def remember(ctx, inputs, output):  # type: ignore[no-untyped-def]
        call, backend = operator.call(*inputs[:number]), inputs[number]
        kept = output[1:] if operator.kept else ()
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)
        ctx.is_tensor = [name in operator.axes for name in names]
        tensors = [value for value, is_tensor in zip(call, ctx.is_tensor) if is_tensor]
        ctx.save_for_backward(*tensors, *kept)
        ctx.settings = [value for value, is_tensor in zip(call, ctx.is_tensor) if not is_tensor]
        ctx.backend = _resolve(operator, call, backend, operator.state(call))

    def differentiate(ctx, grad_y, *_of_kept):  # type: ignore[no-untyped-def]
        nothing = [None] * (number + 2)
        if grad_y is None:
            return tuple(nothing)
        saved, settings = iter(ctx.saved_tensors), iter(ctx.settings)
        values = [next(saved if is_tensor else settings) for is_tensor in ctx.is_tensor]
        op = getattr(torch.ops.scannas, f"{operator.name}_backward")
        gradients = iter(op(grad_y, *values, *saved, ctx.backend))
        for at in inputs:
            nothing[at] = None if values[at] is None else next(gradients)
        return tuple(nothing)

    custom_op = partial(torch.library.custom_op, mutates_args=())
    ahead = custom_op(operator.graph_name, forward, schema=_forward_schema(operator))
    back = custom_op(f"{operator.graph_name}_backward", backward, schema=_backward_schema(operator))
    ahead.register_fake(shapes)
    back.register_fake(gradient_shapes)
    ahead.register_autograd(differentiate, setup_context=remember)
    return operator


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return each operator's custom op and its `plain` form, as `run_decompositions` takes them.

    For graphs that leave PyTorch; they compute results, and keep nothing for a backward.
    """
    found = {}
    for operator in operators():
        op = getattr(torch.ops.scannas, operator.name).default
        found[op] = partial(_plainly, operator)
    return found


def _plainly(operator: Operator, *values: Any) -> Any:
    call = operator.call(*values[: len(operator.call._fields)])  # type: ignore[attr-defined]
    y = operator.plain(call)
    kept = [y.new_empty(0) for _ in operator.kept]
    return (y, *kept) if kept else y
