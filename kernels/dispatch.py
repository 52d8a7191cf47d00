"""The two public operators, and the one custom op behind both.

Every scan is one call of `scannas::cross_scan`, so that `torch.compile`, `torch.export`,
`torch.jit.trace`, fvcore, autocast and activation checkpointing see one operator, and the
graph of a model does not depend on its length or on its backend.

The op takes each floating input in its own dtype and computes in float32, so autocast has
nothing to cast: what reaches it in half precision is read so, weights stay float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.backends import backend_module, requested_backend, resolve_backend
from kernels.errors import KernelError
from kernels.shapes import check_scan


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Scan one sequence of tokens in its order (S6), then add the skip and apply the gate.

    Shapes: u, delta, z and the result (B, L, D); A (D, N), the negative matrix itself;
        B, C (B, L, N); D, delta_bias (D,).
    Units: the result has the dtype of u; the state is float32, or float64 on the reference.
    Raises: KernelError for shapes that do not fit or a backend that cannot run the call.
    Source: `kernels.reference`, which is the specification.
    """
    if u.dim() != 3 or delta.dim() != 3 or A.dim() != 2 or B.dim() != 3 or C.dim() != 3:
        shapes = ", ".join(
            f"{name} {tuple(tensor.shape)}"
            for name, tensor in {"u": u, "delta": delta, "A": A, "B": B, "C": C}.items()
        )
        raise KernelError(f"{shapes}; expected u, delta (B, L, D), A (D, N), B, C (B, L, N)")
    return cross_scan(
        u,
        delta.unsqueeze(1),
        A.unsqueeze(0),
        B.unsqueeze(1),
        C.unsqueeze(1),
        None if D is None else D.unsqueeze(0),
        orders=None,
        z=z,
        delta_bias=None if delta_bias is None else delta_bias.unsqueeze(0),
        delta_softplus=delta_softplus,
        backend=backend,
    )


def cross_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    orders: Tensor | None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    merge: str = "sum",
    backend: str = "auto",
) -> Tensor:
    """Scan an image along K routes and merge them, reading tokens through an order table.

    Shapes: x (B, L, D) shared by the routes, or (B, K, L, D), one input a route;
        delta (B, K, L, D) and B, C (B, K, L, N), all in raster order of tokens;
        A (K, D, N), the negative matrix itself; D, delta_bias (K, D); z (B, L, D);
        orders (K, L), or (B, K, L) where each image has its own: orders[k, t] is the raster
        token that route k visits at step t; None is raster order for every route.
        The result is (B, L, D) for merge 'sum' and 'mean', (B, K, L, D) for 'none', and
        gated by silu(z) per token.
    Units: the result has the dtype of x; the state is float32, or float64 on the reference.
    Raises: KernelError for shapes that do not fit, a backend that cannot run the call, and,
        on the CPU backends, for a row of orders that is no permutation (`check_orders`
        elsewhere: it would cost a GPU call its asynchrony).
    Source: `kernels.reference`, which is the specification.
    """
    tracing = torch.jit.is_tracing()
    if not tracing:  # A trace compares shapes as tensors, and warns; the call was checked before.
        check_scan(x, delta, A, B, C, D, z, delta_bias, orders, merge)
    if not (torch.compiler.is_exporting() and requested_backend(backend) == "auto"):
        # An exported program keeps 'auto': it may run on another device than it was traced on.
        state = None if tracing else A.shape[2]
        backend = resolve_backend(x.device, _widest(x, delta), backend, state=state)
    tensors = [t for t in (x, delta, A, B, C, D, z, delta_bias) if t is not None]
    # A traced graph must not depend on the grad mode that it was traced in.
    save = (torch.is_grad_enabled() or tracing) and any(t.requires_grad for t in tensors)
    op = torch.ops.scannas.cross_scan
    return op(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge, backend, save)[0]


def _widest(x: Tensor, delta: Tensor) -> torch.dtype:
    """Return the dtype that decides the backend: float64 if either input is."""
    return torch.float64 if delta.dtype == torch.float64 else x.dtype


def _saved_shapes(
    x: Tensor, delta: Tensor, A: Tensor, z: Tensor | None, merge: str, backend: str, save: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of what a forward keeps for its backward: states, and y ungated."""
    if not save:
        return (0,), (0,)
    states = backend_module(backend).states_shape(delta, A.shape[2])
    return states, (0,) if z is None or backend == "reference" else _y_shape(delta, merge)


def _y_shape(delta: Tensor, merge: str) -> tuple[int, ...]:
    batch, routes, tokens, inner = delta.shape
    return (batch, routes, tokens, inner) if merge == "none" else (batch, tokens, inner)


@torch.library.custom_op("scannas::cross_scan", mutates_args=())
def _cross_scan(
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
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    backend = resolve_backend(x.device, _widest(x, delta), backend, state=A.shape[2])
    scan = backend_module(backend).forward
    with torch.autocast(x.device.type, enabled=False):
        return scan(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge, save)


@_cross_scan.register_fake
def _(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge, backend, save):  # type: ignore[no-untyped-def]
    backend = resolve_backend(x.device, _widest(x, delta), backend, state=A.shape[2])
    states, ungated = _saved_shapes(x, delta, A, z, merge, backend, save)
    return (
        x.new_empty(_y_shape(delta, merge)),
        x.new_empty(states, dtype=torch.float32),
        x.new_empty(ungated),
    )


@torch.library.custom_op("scannas::cross_scan_backward", mutates_args=())
def _cross_scan_backward(
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
    backend: str,
) -> list[Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        gradients = backend_module(backend).backward(
            grad_y, x, delta, A, B, C, D, z, delta_bias, orders,
            states, ungated, delta_softplus, merge,
        )  # fmt: skip
    inputs = (x, delta, A, B, C, D, z, delta_bias)
    return [
        gradient.to(tensor.dtype).contiguous()
        for gradient, tensor in zip(gradients, inputs)
        if tensor is not None
    ]


@_cross_scan_backward.register_fake
def _(grad_y, x, delta, A, B, C, D, z, delta_bias, *_rest):  # type: ignore[no-untyped-def]
    inputs = (x, delta, A, B, C, D, z, delta_bias)
    return [tensor.new_empty(tensor.shape) for tensor in inputs if tensor is not None]


def _remember(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, delta_softplus, merge, backend, _save = inputs
    _y, states, ungated = output
    ctx.mark_non_differentiable(states, ungated)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, states, ungated)
    x, delta, A = tensors[:3]
    backend = resolve_backend(x.device, _widest(x, delta), backend, state=A.shape[2])
    ctx.settings = (delta_softplus, merge, backend)


def _differentiate(ctx, grad_y, _grad_states, _grad_ungated):  # type: ignore[no-untyped-def]
    """Return a gradient for each tensor of the forward, and None for the rest."""
    if grad_y is None:
        return (None,) * 13
    tensors = ctx.saved_tensors
    gradients = iter(torch.ops.scannas.cross_scan_backward(grad_y, *tensors, *ctx.settings))
    per_input = [None if tensor is None else next(gradients) for tensor in tensors[:8]]
    return (*per_input, *(None,) * 5)


_cross_scan.register_autograd(_differentiate, setup_context=_remember)
