"""Token orders and the merge of routes: what all scans over images share, in plain PyTorch."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.errors import KernelError

CHECK_VARIABLE = "SCANNAS_CHECK_ORDERS"
MERGES = ("sum", "mean", "none")


def check_merge(merge: str) -> None:
    """Raise KernelError unless routes can be merged so."""
    if merge not in MERGES:
        raise KernelError(f"merge {merge!r} is unknown; use one of {', '.join(MERGES)}")


def check_orders(orders: Tensor, *, tokens: int | None = None) -> None:
    """Raise KernelError unless every row of an order table visits tokens once.

    Shapes: orders (K, M) or (B, K, M), int32 or int64; orders[..., t] is the raster token that
        a route visits at step t, of `tokens`; M = L, each row a permutation, where they are None.
    Raises: KernelError that names the first offending row.

    Meant for the place where a table is made, once; the GPU backends do not repeat it per call,
    unless SCANNAS_CHECK_ORDERS=1 is set, to find a bad table.
    """
    if orders.dtype not in (torch.int32, torch.int64):
        raise KernelError(f"orders has dtype {orders.dtype}; use int32 or int64")
    if orders.dim() not in (2, 3):
        raise KernelError(f"orders has shape {tuple(orders.shape)}; expected (K, M) or (B, K, M)")
    length = orders.shape[-1]
    tokens = length if tokens is None else tokens
    check_steps(length, tokens)
    rows = orders.reshape(-1, length).to(torch.int64).sort(dim=1).values
    wrong = (rows[:, 0] < 0) | (rows[:, -1] >= tokens) | (rows.diff(dim=1) == 0).any(dim=1)
    if bool(wrong.any()):
        raise_bad_row(int(wrong.nonzero()[0]), length, tokens)


def check_steps(steps: int, tokens: int) -> None:
    """Raise KernelError where a route has more steps than there are tokens."""
    if steps > tokens:
        raise KernelError(f"orders visits {steps} tokens a route; there are {tokens}")


def raise_bad_row(row: int, steps: int, tokens: int) -> None:
    """Raise the KernelError that names a row of an order table."""
    if steps < tokens:
        raise KernelError(
            f"orders row {row} visits a token twice, or one that is not in 0..{tokens - 1}"
        )
    raise KernelError(
        f"orders row {row} is not a permutation of 0..{tokens - 1}; "
        "each route must visit every token once"
    )


def full_orders(orders: Tensor | None, like: Tensor) -> Tensor:
    """Expand an order table to (B, K, M), int64; raster order where there is none.

    Shapes: like (B, K, L, F).
    Raises: KernelError when a row of a table on the CPU visits a token twice.
    """
    batch, routes, tokens, _ = like.shape
    if orders is None:
        return torch.arange(tokens, device=like.device).expand(batch, routes, tokens)
    if orders.device.type == "cpu":
        check_orders(orders, tokens=tokens)
    check_on_device(orders, tokens)
    return orders.to(torch.int64).expand(batch, routes, -1)


def check_on_device(orders: Tensor, tokens: int) -> None:
    """Check a table that is not on the CPU where SCANNAS_CHECK_ORDERS=1 asks for it.

    Not by default: to look at it would stall the device at every call.
    """
    asked = os.environ.get(CHECK_VARIABLE, "0") == "1"
    if asked and orders.device.type not in ("cpu", "meta"):
        check_orders(orders, tokens=tokens)


def _rows(order: Tensor, tokens: int, routes: int) -> Tensor:
    """Number the rows that an order (B, K, M) visits in a flat (B, routes, L); routes may be 1."""
    batch = order.shape[0]
    first = torch.arange(batch * routes, device=order.device).view(batch, routes, 1) * tokens
    return (order + first).flatten()


def visit(tensor: Tensor, order: Tensor) -> Tensor:
    """Put raster tokens (B, K, L, F) into the order (B, K, M) in which a route visits them.

    Row by row, which is some times as fast as `gather`, and without a copy for each route of
    what the routes share.
    """
    source = tensor[:, :1] if tensor.stride(1) == 0 else tensor
    rows = _rows(order, tensor.shape[2], source.shape[1])
    return source.flatten(0, 2).index_select(0, rows).view(*order.shape, tensor.shape[3])


def unvisit(tensor: Tensor, order: Tensor, tokens: int) -> Tensor:
    """Put tokens (B, K, M, F) of a route back into raster order; those not visited are zero."""
    whole = tensor.new_zeros(*tensor.shape[:2], tokens, tensor.shape[3])
    rows = _rows(order, tokens, tensor.shape[1])
    whole = whole.flatten(0, 2).index_copy(0, rows, tensor.flatten(0, 2))
    return whole.view(*tensor.shape[:2], tokens, tensor.shape[3])


def merge_routes(y: Tensor, merge: str) -> Tensor:
    """Merge routes (B, K, L, D) into (B, L, D), or keep them."""
    return {"sum": y.sum, "mean": y.mean}[merge](1) if merge != "none" else y


def gate_tokens(y: Tensor, z: Tensor | None) -> Tensor:
    """Multiply each token of y (B, L, D) or (B, K, L, D) by silu(z), z (B, L, D)."""
    return y if z is None else y * _like(y, F.silu(z.to(y.dtype)))


def ungate_and_spread(
    grad: Tensor, ungated: Tensor | None, z: Tensor | None, merge: str, routes: int
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the routes (B, K, L, D), and of z, from that of the result.

    Shapes: grad as y; ungated as y, before its gate; None where there is no gate.
    """
    grad_z = None
    if z is not None and ungated is not None:
        gate = z.to(grad.dtype)
        sigmoid = torch.sigmoid(gate)
        product = grad * ungated.to(grad.dtype)
        product = product.sum(1) if product.dim() == 4 else product
        grad_z = product * sigmoid * (1 + gate * (1 - sigmoid))
        grad = grad * _like(grad, gate * sigmoid)
    if merge != "none":
        grad = (grad / routes if merge == "mean" else grad).unsqueeze(1)
    return grad.expand(-1, routes, -1, -1), grad_z


def _like(y: Tensor, gate: Tensor) -> Tensor:
    return gate.unsqueeze(1) if y.dim() == 4 else gate
