"""The `numba` backend: the scan on CPU cores, forward and backward.

The kernels run without the interpreter's lock on the threads of `kernels.threads`; results do
not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu_backward import backward_tasks, ungate_rows
from kernels.cpu_forward import BLOCK, CHUNK, first_bad_order, forward_tasks
from kernels.errors import KernelError
from kernels.reference import ScanGradients
from kernels.threads import run_slices

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


class _Arguments:
    """The inputs of a scan as the kernels take them."""

    def __init__(
        self,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        orders: Tensor | None,
        delta_softplus: bool,
        merge: str,
    ) -> None:
        self.batch, self.routes, self.tokens, self.inner = delta.shape
        self.state = A.shape[2]
        self.tasks = self.batch * -(-self.inner // BLOCK)
        self.work = delta.numel() * self.state
        per_channel = A[:, :, 0]
        if orders is None:
            orders = torch.arange(self.tokens, dtype=torch.int32).repeat(self.routes)
            self.orders, self.orders_per_image = orders.numpy(), False
        else:
            self.orders = orders.to(torch.int32).contiguous().view(-1).numpy()
            self.orders_per_image = orders.dim() == 3
            bad = first_bad_order(self.orders, self.orders.size // self.tokens, self.tokens)
            if bad >= 0:
                raise KernelError(
                    f"orders row {bad} is not a permutation of 0..{self.tokens - 1}; "
                    "each route must visit every token once"
                )
        self.x_per_route = x.dim() == 4
        self.merged = merge != "none"
        self.scale = np.float32(1.0 / self.routes if merge == "mean" else 1.0)
        self.softplus = bool(delta_softplus)
        self.x, self.delta, self.B, self.C = _flat(x), _flat(delta), _flat(B), _flat(C)
        self.A = _flat(A.detach().transpose(1, 2))
        self.D = _flat_or_zeros(D, per_channel)
        self.bias = _flat_or_zeros(delta_bias, per_channel)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.routes, self.tokens, self.inner, self.state

    @property
    def y_shape(self) -> tuple[int, ...]:
        lead = (self.batch,) if self.merged else (self.batch, self.routes)
        return (*lead, self.tokens, self.inner)


def states_shape(delta: Tensor, state: int) -> tuple[int, ...]:
    """Return the shape of the states that the forward keeps: one before every chunk."""
    batch, routes, tokens, inner = delta.shape
    return batch, routes, -(-tokens // CHUNK), state, inner


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    delta_softplus: bool,
    merge: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate.

    Raises: KernelError when a row of orders is not a permutation.
    """
    a = _Arguments(x, delta, A, B, C, D, delta_bias, orders, delta_softplus, merge)
    y = torch.empty(a.y_shape, dtype=torch.float32)
    states = torch.empty(states_shape(delta, a.state) if save else (0,), dtype=torch.float32)
    ungated = torch.empty(a.y_shape if save and z is not None else (0,), dtype=torch.float32)
    gate = np.empty(0, np.float32) if z is None else _flat(z)
    _run(
        forward_tasks, a.tasks, a.work,
        a.x, a.delta, a.A, a.B, a.C, a.D, a.bias, gate, a.orders,
        y.view(-1).numpy(), ungated.view(-1).numpy(), states.view(-1).numpy(),
        *a.sizes, a.x_per_route, a.orders_per_image, a.softplus, a.merged, a.scale,
        z is not None, save,
    )  # fmt: skip
    return y.to(x.dtype), states, ungated.to(x.dtype)


def backward(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    states: Tensor,
    ungated: Tensor,
    delta_softplus: bool,
    merge: str,
) -> ScanGradients:
    """Return the gradients of the scan from the states that the forward kept."""
    a = _Arguments(x, delta, A, B, C, D, delta_bias, orders, delta_softplus, merge)
    grad, grad_z = _flat(grad_y), None
    if z is not None:
        given, grad = grad, np.empty(grad.size, np.float32)
        grad_z = torch.empty(z.shape, dtype=torch.float32)
        rows = a.tokens if a.merged else a.routes * a.tokens
        _run(
            ungate_rows, a.batch, grad.size,
            given, _flat(ungated), _flat(z), grad, grad_z.view(-1).numpy(),
            rows, a.tokens, a.inner,
        )  # fmt: skip
    blocks = -(-a.inner // BLOCK)
    per_token = (a.batch, a.routes, a.tokens, a.state)
    grad_x = torch.empty(x.shape, dtype=torch.float32)
    grad_delta = torch.empty(delta.shape, dtype=torch.float32)
    grad_A = np.empty((a.batch, a.routes, a.state, a.inner), np.float32)
    grad_B = np.empty((blocks, *per_token), np.float32)
    grad_C = np.empty((blocks, *per_token), np.float32)
    grad_D = np.empty((a.batch, a.routes, a.inner), np.float32)
    grad_bias = np.empty((a.batch, a.routes, a.inner), np.float32)
    _run(
        backward_tasks, a.tasks, a.work,
        grad, a.x, a.delta, a.A, a.B, a.C, a.D, a.bias, a.orders,
        states.view(-1).numpy(), grad_x.view(-1).numpy(), grad_delta.view(-1).numpy(),
        grad_A.reshape(-1), grad_B.reshape(-1), grad_C.reshape(-1),
        grad_D.reshape(-1), grad_bias.reshape(-1),
        a.batch, *a.sizes, a.x_per_route, a.orders_per_image, a.softplus, a.merged, a.scale,
    )  # fmt: skip
    return ScanGradients(
        x=grad_x,
        delta=grad_delta,
        A=_add_up(grad_A).transpose(1, 2),
        B=_add_up(grad_B),
        C=_add_up(grad_C),
        D=None if D is None else _add_up(grad_D),
        z=grad_z,
        delta_bias=None if delta_bias is None else _add_up(grad_bias),
    )


def _add_up(partial: np.ndarray) -> Tensor:
    """Add along the first axis, one slice after the other: numpy does it in this fixed order."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is the trial's to report.
        return torch.from_numpy(np.add.reduce(partial, axis=0))
