"""Checks of the arguments of a scan: every mistake is named before any kernel runs."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.errors import KernelError

MERGES = ("sum", "mean", "none")
IO_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def _expect(name: str, tensor: Tensor, axes: str, expected: tuple[int, ...]) -> None:
    """Raise unless a tensor has the expected shape."""
    if tuple(tensor.shape) != expected:
        raise KernelError(f"{name} has shape {tuple(tensor.shape)}; expected {axes} = {expected}")


def check_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    merge: str,
) -> None:
    """Raise KernelError unless the arguments of `cross_scan` fit together.

    Shapes: as in `kernels.dispatch.cross_scan`; x decides B and L, delta decides K and D.
    """
    if merge not in MERGES:
        raise KernelError(f"merge {merge!r} is unknown; use one of {', '.join(MERGES)}")
    if delta.dim() != 4:
        raise KernelError(f"delta has shape {tuple(delta.shape)}; expected 4 axes (B, K, L, D)")
    if A.dim() != 3:
        raise KernelError(f"A has shape {tuple(A.shape)}; expected 3 axes (K, D, N)")
    batch, routes, tokens, inner = delta.shape
    state = A.shape[2]
    if x.dim() == 4:
        _expect("x", x, "(B, K, L, D)", (batch, routes, tokens, inner))
    else:
        _expect("x", x, "(B, L, D)", (batch, tokens, inner))
    if tokens == 0 or inner == 0 or state == 0 or routes == 0:
        raise KernelError(
            f"delta has shape {tuple(delta.shape)} and A {tuple(A.shape)}; "
            "every axis but the batch needs at least one element"
        )
    _expect("A", A, "(K, D, N)", (routes, inner, state))
    _expect("B", B, "(B, K, L, N)", (batch, routes, tokens, state))
    _expect("C", C, "(B, K, L, N)", (batch, routes, tokens, state))
    if D is not None:
        _expect("D", D, "(K, D)", (routes, inner))
    if delta_bias is not None:
        _expect("delta_bias", delta_bias, "(K, D)", (routes, inner))
    if z is not None:
        _expect("z", z, "(B, L, D)", (batch, tokens, inner))
    if orders is not None:
        if orders.dtype not in (torch.int32, torch.int64):
            raise KernelError(f"orders has dtype {orders.dtype}; use int32 or int64")
        if orders.dim() == 3:
            _expect("orders", orders, "(B, K, L)", (batch, routes, tokens))
        else:
            _expect("orders", orders, "(K, L)", (routes, tokens))
    named = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    named |= {"delta_bias": delta_bias, "orders": orders}
    for name, tensor in named.items():
        if tensor is None:
            continue
        if tensor.device != x.device:
            raise KernelError(f"{name} is on {tensor.device} but x on {x.device}; move one")
        if name != "orders" and tensor.dtype not in IO_DTYPES:
            raise KernelError(
                f"{name} has dtype {tensor.dtype}; use float32, float16, bfloat16 "
                "(float64 with the reference backend)"
            )


def check_orders(orders: Tensor, *, tokens: int | None = None) -> None:
    """Raise KernelError unless every row of an order table is a permutation of its tokens.

    Shapes: orders (K, L) or (B, K, L), int32 or int64; orders[..., t] is the raster token that
        a route visits at step t.
    Raises: KernelError that names the first offending row.

    Meant for the place where a table is made, once; the GPU backends do not repeat it per call.
    """
    if orders.dtype not in (torch.int32, torch.int64):
        raise KernelError(f"orders has dtype {orders.dtype}; use int32 or int64")
    if orders.dim() not in (2, 3):
        raise KernelError(f"orders has shape {tuple(orders.shape)}; expected (K, L) or (B, K, L)")
    length = orders.shape[-1]
    if tokens is not None and length != tokens:
        raise KernelError(f"orders visits {length} tokens a route; expected {tokens}")
    rows = orders.reshape(-1, length).to(torch.int64)
    raster = torch.arange(length, device=orders.device)
    wrong = (rows.sort(dim=1).values != raster).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise KernelError(
            f"orders row {row} is not a permutation of 0..{length - 1}; "
            "each route must visit every token once"
        )
