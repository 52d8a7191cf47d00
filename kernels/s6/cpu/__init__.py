"""The `numba` backend: the scan on CPU cores, forward and backward.

The kernels run without the interpreter's lock on the threads of `kernels.common.threads`;
results do not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.common.orders import raise_bad_row
from kernels.common.threads import run_slices
from kernels.s6.call import ScanCall, result_shape
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
    bad = first_bad_order(orders, orders.size // tokens, tokens)
    if bad >= 0:
        raise_bad_row(bad, tokens)
    return orders


def _inputs(call: ScanCall) -> list[np.ndarray]:
    """Return x, delta, A (K, N, D), B, C, D and bias as the kernels take them."""
    per_channel = call.A[:, :, 0]
    return [
        *(_flat(t) for t in (call.x, call.delta, call.A.detach().transpose(1, 2), call.B, call.C)),
        _flat_or_zeros(call.D, per_channel),
        _flat_or_zeros(call.delta_bias, per_channel),
    ]


def _options(call: ScanCall) -> tuple[Any, ...]:
    """Return sizes and switches that forward and backward share."""
    switches = (call.x_per_route, call.orders_per_image, bool(call.delta_softplus), call.merged)
    return *call.sizes, *switches, np.float32(call.scale)


def _tasks(call: ScanCall) -> tuple[int, int]:
    """Return the tasks of a scan, and its token-states."""
    tasks = call.delta.shape[0] * -(-call.delta.shape[3] // BLOCK)
    return tasks, call.delta.numel() * call.A.shape[2]


def kept(call: ScanCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves: a state before every chunk, and y before its gate."""
    routes, tokens, inner, state = call.sizes
    states = (call.delta.shape[0], routes, -(-tokens // CHUNK), state, inner)
    ungated = result_shape(call) if call.z is not None else (0,)
    return [(states, torch.float32), (ungated, call.x.dtype)]


def forward(call: ScanCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate.

    Raises: KernelError when a row of orders is not a permutation.
    """
    y = torch.empty(result_shape(call), dtype=torch.float32)
    (states_shape, _), (ungated_shape, _) = kept(call)
    states = torch.empty(states_shape if save else (0,), dtype=torch.float32)
    ungated = torch.empty(ungated_shape if save else (0,), dtype=torch.float32)
    gate = np.empty(0, np.float32) if call.z is None else _flat(call.z)
    _run(
        forward_tasks, *_tasks(call), *_inputs(call), gate, _orders(call),
        y.view(-1).numpy(), ungated.view(-1).numpy(), states.view(-1).numpy(),
        *_options(call), call.z is not None, save,
    )  # fmt: skip
    return y.to(call.x.dtype), states, ungated.to(call.x.dtype)


def backward(
    call: ScanCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of the scan from the states that the forward kept."""
    batch, (routes, tokens, inner, state) = len(call.delta), call.sizes
    grad, grad_z = _flat(grad_y), None
    if call.z is not None:
        given, grad = grad, np.empty(grad.size, np.float32)
        grad_z = torch.empty(call.z.shape, dtype=torch.float32)
        _run(
            ungate_rows, batch, grad.size,
            given, _flat(ungated), _flat(call.z), grad, grad_z.view(-1).numpy(),
            tokens if call.merged else routes * tokens, tokens, inner,
        )  # fmt: skip
    per_token = (-(-inner // BLOCK), batch, routes, tokens, state)
    grad_x = torch.empty(call.x.shape, dtype=torch.float32)
    grad_delta = torch.empty(call.delta.shape, dtype=torch.float32)
    grad_A = np.empty((batch, routes, state, inner), np.float32)
    grad_B, grad_C = np.empty(per_token, np.float32), np.empty(per_token, np.float32)
    grad_D, grad_bias = (np.empty((batch, routes, inner), np.float32) for _ in range(2))
    _run(
        backward_tasks, *_tasks(call), grad, *_inputs(call), _orders(call),
        states.view(-1).numpy(), grad_x.view(-1).numpy(), grad_delta.view(-1).numpy(),
        grad_A.reshape(-1), grad_B.reshape(-1), grad_C.reshape(-1),
        grad_D.reshape(-1), grad_bias.reshape(-1),
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
