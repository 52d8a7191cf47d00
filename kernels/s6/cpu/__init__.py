"""The `numba` backend: the scan on CPU cores, forward and backward.

The kernels run without the interpreter's lock on the threads of `kernels.common.threads`;
results do not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.common.calls import result_shape
from kernels.common.orders import raise_bad_row
from kernels.common.threads import run_slices
from kernels.s6.call import ScanCall
from kernels.s6.cpu.backward_pass import backward_tasks, ungate_rows
from kernels.s6.cpu.forward_pass import BLOCK, CHUNK, first_bad_order, forward_tasks

SERIAL_BELOW = 1 << 15
"""Token-states under which a call stays on its own thread: a region costs some 50 us."""
SLICES_PER_THREAD = 4
"""More slices than threads even out cores that others use too; a slice costs about 30 us."""


def _run(kernel: Any, tasks: int, work: int, *arguments: Any) -> None:
    """Run a kernel's tasks, cut into slices for the threads where that pays."""
    slices = min(tasks, SLICES_PER_THREAD * torch.get_num_threads()) if work >= SERIAL_BELOW else 1
    edges = [tasks * i // slices for i in range(slices + 1)]
    run_slices(lambda i: kernel(edges[i], edges[i + 1], *arguments), slices)


def _flat(tensor: Tensor) -> np.ndarray:
    """View a tensor as one flat float32 array, copied only where it is not one already."""
    return tensor.detach().to(torch.float32).contiguous().view(-1).numpy()


def _rows(tensor: Tensor | None) -> tuple[np.ndarray, list[int]]:
    """View rows of float32 as one flat array, and say how far apart they lie.

    Shapes: (B, L, F) or (B, K, L, F). Copied only where a row itself has gaps, or another dtype.
    Returns the array, from the first row on, and the strides of images, routes and tokens.
    """
    if tensor is None:
        return np.empty(0, np.float32), [0, 0, 0]
    tensor = tensor.detach().to(torch.float32)
    if tensor.stride(-1) != 1 or tensor.numel() == 0:
        tensor = tensor.contiguous()
    lead = list(tensor.stride()[:-1])
    extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride()))
    flat = tensor.as_strided((extent,), (1,)) if tensor.numel() else tensor.reshape(-1)
    return flat.numpy(), lead if len(lead) == 3 else [lead[0], 0, lead[1]]


def _flat_or_zeros(tensor: Tensor | None, like: Tensor) -> np.ndarray:
    return np.zeros(like.numel(), np.float32) if tensor is None else _flat(tensor)


def _orders(call: ScanCall) -> np.ndarray:
    """Return the order tables as one flat int32 array.

    Raises: KernelError when a row is not a permutation.
    """
    routes, tokens, _, _ = call.sizes
    if call.orders is None:
        return torch.arange(tokens, dtype=torch.int32).repeat(routes).numpy()
    orders = call.orders.to(torch.int32).contiguous().view(-1).numpy()
    bad = first_bad_order(orders, orders.size // call.steps, call.steps, tokens)
    if bad >= 0:
        raise_bad_row(bad, call.steps, tokens)
    return orders


def _inputs(call: ScanCall) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return x, delta, A (K, N, D), B, C, D and bias as the kernels take them; z; strides."""
    rows, strides = zip(*(_rows(t) for t in (call.x, call.delta, call.B, call.C, call.z)))
    x, delta, B, C, z = rows
    per_channel = call.A[:, :, 0]
    D, bias = (_flat_or_zeros(t, per_channel) for t in (call.D, call.delta_bias))
    inputs = [x, delta, _flat(call.A.detach().transpose(1, 2)), B, C, D, bias]
    return inputs, z, np.array(strides, np.int64).reshape(-1)


def _options(call: ScanCall) -> tuple[Any, ...]:
    """Return sizes and switches that forward and backward share."""
    switches = (call.orders_per_image, bool(call.delta_softplus), call.merged)
    return *call.sizes, call.steps, *switches, np.float32(call.scale)


def _new(call: ScanCall, *shape: int) -> Tensor:
    """Allocate what is written token by token: zeros where routes leave tokens out."""
    make = torch.zeros if call.is_partial else torch.empty
    return make(shape, dtype=torch.float32)


def _tasks(call: ScanCall) -> tuple[int, int]:
    """Return the tasks of a scan, and its token-states."""
    tasks = call.delta.shape[0] * -(-call.delta.shape[3] // BLOCK)
    return tasks, call.delta.numel() * call.A.shape[2] * call.steps // call.delta.shape[2]


def kept(call: ScanCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves: a state before every chunk, and y before its gate."""
    routes, _, inner, state = call.sizes
    states = (call.delta.shape[0], routes, -(-call.steps // CHUNK), state, inner)
    ungated = result_shape(call) if call.z is not None else (0,)
    return [(states, torch.float32), (ungated, call.x.dtype)]


def forward(call: ScanCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate.

    Raises: KernelError when a row of orders visits a token twice.
    """
    y = _new(call, *result_shape(call))
    (states_shape, _), (ungated_shape, _) = kept(call)
    states = torch.empty(states_shape if save else (0,), dtype=torch.float32)
    ungated = torch.empty(ungated_shape if save else (0,), dtype=torch.float32)
    inputs, gate, strides = _inputs(call)
    _run(
        forward_tasks, *_tasks(call), *inputs, gate, _orders(call),
        y.view(-1).numpy(), ungated.view(-1).numpy(), states.view(-1).numpy(), strides,
        *_options(call), call.z is not None, save,
    )  # fmt: skip
    return y.to(call.x.dtype), states, ungated.to(call.x.dtype)


def backward(
    call: ScanCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of the scan from the states that the forward kept."""
    batch, (routes, tokens, inner, state) = len(call.delta), call.sizes
    grad, grad_z = _flat(grad_y), None
    inputs, gate, strides = _inputs(call)
    if call.z is not None:
        given, grad = grad, np.empty(grad.size, np.float32)
        grad_z = torch.empty(call.z.shape, dtype=torch.float32)
        _run(
            ungate_rows, batch, grad.size,
            given, _flat(ungated), gate, grad, grad_z.view(-1).numpy(), strides[-3:],
            tokens if call.merged else routes * tokens, tokens, inner,
        )  # fmt: skip
    per_token = (-(-inner // BLOCK), batch, routes, tokens, state)
    grad_x, grad_delta = _new(call, *call.x.shape), _new(call, *call.delta.shape)
    grad_A = np.empty((batch, routes, state, inner), np.float32)
    grad_B, grad_C = _new(call, *per_token).numpy(), _new(call, *per_token).numpy()
    grad_D, grad_bias = (np.empty((batch, routes, inner), np.float32) for _ in range(2))
    _run(
        backward_tasks, *_tasks(call), grad, *inputs, _orders(call),
        states.view(-1).numpy(), grad_x.view(-1).numpy(), grad_delta.view(-1).numpy(),
        grad_A.reshape(-1), grad_B.reshape(-1), grad_C.reshape(-1),
        grad_D.reshape(-1), grad_bias.reshape(-1), strides,
        batch, *_options(call),
    )  # fmt: skip
    return {
        "x": grad_x,
        "delta": grad_delta,
        "A": _add_up(grad_A).transpose(1, 2),
        "B": _add_up(grad_B),
        "C": _add_up(grad_C),
        "D": None if call.D is None else _add_up(grad_D),
        "z": grad_z,
        "delta_bias": None if call.delta_bias is None else _add_up(grad_bias),
    }


def _add_up(partial: np.ndarray) -> Tensor:
    """Add along the first axis, one slice after the other: numpy does it in this fixed order."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is the trial's to report.
        return torch.from_numpy(np.add.reduce(partial, axis=0))
