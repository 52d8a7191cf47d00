"""The `triton` backend: launches the kernels of the forward and the backward.

Tensors are made contiguous, channels last; nothing is permuted, the kernels read through the
order table. Offsets are 64-bit wherever an image or a route is addressed; inside one image
L D must stay below 2^31.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.errors import KernelError
from kernels.reference import ScanGradients
from kernels.triton_backward import backward_kernel
from kernels.triton_forward import CHECKPOINT_EVERY, carry_kernel, forward_kernel, summary_kernel
from kernels.triton_merge import merge_kernel, ungate_kernel
from kernels.triton_plan import Plan, backward_block, forward_block, make_plan, power_of_two

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
LAUNCH: dict[str, Any] = {} if INTERPRETED else {"enable_fp_fusion": True, "num_stages": 1}
FEW_REGISTERS: dict[str, Any] = {} if INTERPRETED else {"maxnreg": 128}
"""For the forward up to 16 states: 16 warps a multiprocessor; it fits without spilling."""
ELEMENTS = 1024
"""Elements a program of the elementwise kernels."""
WARPS_AT_ONCE = 8
"""Warps of the backward that a multiprocessor holds: its 255 registers leave room for eight."""
MOST_IN_AN_IMAGE = 2**31 - 1

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 4):
    raise ImportError(f"triton {triton.__version__} is too old; 3.4 or newer is needed")


def _processors(device: torch.device) -> int:
    """Return the multiprocessors of a device; of an H100 in the interpreter."""
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _schedule() -> str:
    """Return the schedule asked for by SCANNAS_TRITON_SCHEDULE, or 'auto'."""
    return os.environ.get("SCANNAS_TRITON_SCHEDULE", "auto")


def _is_atomic() -> bool:
    """Say whether routes may be added by atomics: faster, in no fixed order, on request only."""
    return os.environ.get("SCANNAS_TRITON_ATOMIC", "0") == "1"


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Inputs:
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
        if self.tokens * max(self.inner, self.state) > MOST_IN_AN_IMAGE:
            raise KernelError(
                f"an image of {self.tokens} tokens x {self.inner} channels, {self.state} states "
                "has more than 2^31 elements a route; split its channels"
            )
        self.x, self.delta = x.contiguous(), delta.contiguous()
        self.B, self.C = B.contiguous(), C.contiguous()
        self.A = A.float().transpose(1, 2).contiguous()
        self.D = None if D is None else D.float().contiguous()
        self.bias = None if delta_bias is None else delta_bias.float().contiguous()
        if orders is None:
            raster = torch.arange(self.tokens, dtype=torch.int32, device=x.device)
            orders = raster.expand(self.routes, -1)
        self.orders = orders.to(torch.int32).contiguous()
        self.per_image = orders.dim() == 3
        self.per_route = x.dim() == 4
        self.softplus = bool(delta_softplus)
        self.merged = merge != "none"
        self.scale = 1.0 / self.routes if merge == "mean" else 1.0
        self.device = x.device

    def or_any(self, tensor: Tensor | None) -> Tensor:
        """Return the tensor, or any other in its place: a kernel without it never reads it."""
        return self.A if tensor is None else tensor

    def empty(self, *shape: int) -> Tensor:
        """Allocate float32 memory on the device of the scan."""
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def plan(self, block_and_unroll: tuple[int, int], merges: bool) -> Plan:
        """Choose how this scan is cut into programs."""
        return make_plan(
            self.batch,
            self.routes,
            self.tokens,
            self.inner,
            block_and_unroll,
            merges=merges,
            processors=_processors(self.device),
            schedule=_schedule(),
        )

    def segment_starts(
        self, plan: Plan, source: Tensor, weights: Tensor, is_route: bool, reverse: bool
    ) -> Tensor:
        """Return the state (B, K, segments, N, D) that enters each segment."""
        shape = (self.batch, self.routes, plan.segments, self.state, self.inner)
        ends, starts = self.empty(*shape), self.empty(*shape)
        sums = self.empty(*shape[:3], self.inner)
        block, unroll = forward_block(self.inner, self.state)
        blocks = -(-self.inner // block)
        summary_kernel[(blocks * plan.segments * self.routes * self.batch,)](
            source, self.delta, self.A, weights, self.or_any(self.bias), self.orders, ends, sums,
            self.routes, self.tokens, self.inner, blocks, plan.segments, plan.segment_tokens,
            self.scale if reverse else 1.0,
            N=self.state, BD=block, U=unroll, PER_ROUTE=is_route,
            ORDERS_PER_IMAGE=self.per_image, SOFTPLUS=self.softplus,
            HAS_BIAS=self.bias is not None, REVERSE=reverse, FAST=not INTERPRETED,
            num_warps=1, **LAUNCH,
        )  # fmt: skip
        carry_kernel[(-(-self.inner // 128), self.state, self.batch * self.routes)](
            self.A, ends, sums, starts, self.routes, self.inner, plan.segments, self.state,
            BD=128, REVERSE=reverse, FAST=not INTERPRETED, num_warps=4, **LAUNCH,
        )  # fmt: skip
        return starts


def states_shape(delta: Tensor, state: int) -> tuple[int, ...]:
    """Return the shape of the states that the forward keeps: one before every 32 tokens."""
    batch, routes, tokens, inner = delta.shape
    return batch, routes, -(-tokens // CHECKPOINT_EVERY), state, inner


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
    """Run the scan; return y, the states kept for the backward, and y before its gate."""
    s = _Inputs(x, delta, A, B, C, D, delta_bias, orders, delta_softplus, merge)
    has_merging = s.merged and s.routes > 1
    plan = s.plan(forward_block(s.inner, s.state), has_merging)
    loops = plan.schedule == "loop"
    merges_later = has_merging and not loops
    atomic = merges_later and _is_atomic()
    lead = (s.batch,) if s.merged else (s.batch, s.routes)
    y = torch.empty((*lead, s.tokens, s.inner), dtype=x.dtype, device=x.device)
    keeps_y = save and z is not None
    ungated = torch.empty(y.shape if keeps_y else (0,), dtype=x.dtype, device=x.device)
    states = s.empty(*(states_shape(delta, s.state) if save else (0,)))
    partial = None
    if loops:
        partial = s.empty(s.batch, s.tokens, s.inner)
    elif atomic:
        partial = s.empty(s.batch, 1, s.tokens, s.inner).zero_()
    elif merges_later:
        partial = s.empty(s.batch, s.routes, s.tokens, s.inner)
    gate = None if z is None else z.contiguous()
    blocks = -(-s.inner // plan.block)
    programs = s.batch * blocks * (1 if loops else plan.segments * s.routes)
    if programs == 0:
        return y, states, ungated
    with _on(x.device):
        starts = None
        if plan.segments > 1:
            starts = s.segment_starts(plan, s.x, s.B, s.per_route, reverse=False)
        forward_kernel[(programs,)](
            s.x, s.delta, s.A, s.B, s.C, s.or_any(s.D), s.or_any(s.bias), s.or_any(gate),
            s.orders, y, s.or_any(partial), ungated, states, s.or_any(starts),
            s.routes, s.tokens, s.inner, blocks, plan.segments, plan.segment_tokens, s.scale,
            N=s.state, BD=plan.block, U=plan.unroll, X_PER_ROUTE=s.per_route,
            ORDERS_PER_IMAGE=s.per_image, SOFTPLUS=s.softplus, HAS_D=D is not None,
            HAS_BIAS=delta_bias is not None, GATED=z is not None, LOOP=loops,
            MERGE_LATER=merges_later, MERGED=s.merged, SEGMENTED=plan.segments > 1, SAVE=save,
            ATOMIC=atomic, FAST=not INTERPRETED, num_warps=1, **LAUNCH,
            **(FEW_REGISTERS if s.state <= 16 else {}),
        )  # fmt: skip
        if partial is not None and merges_later:
            plane = s.tokens * s.inner
            merge_kernel[(-(-plane // ELEMENTS), s.batch)](
                partial, s.or_any(gate), y, ungated, partial.shape[1], plane, s.scale,
                BLOCK=ELEMENTS, GATED=z is not None, SAVE=save, FAST=not INTERPRETED,
                num_warps=4, **LAUNCH,
            )  # fmt: skip
    return y, states, ungated


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
    s = _Inputs(x, delta, A, B, C, D, delta_bias, orders, delta_softplus, merge)
    has_sharing = not s.per_route and s.routes > 1
    plan = s.plan(backward_block(s.inner, s.state), has_sharing)
    loops = plan.schedule == "loop"
    padded = power_of_two(s.state)
    blocks = -(-s.inner // plan.block)
    programs = s.batch * blocks * (1 if loops else plan.segments * s.routes)
    grad, grad_z = grad_y.contiguous(), None
    adds_later = has_sharing and not loops
    grad_x = s.empty(*delta.shape) if adds_later else torch.empty_like(s.x)
    x_sum = s.empty(s.batch, s.tokens, s.inner) if loops else None
    grad_delta = torch.empty_like(s.delta)
    per_token = (s.batch, s.routes, s.tokens, s.state)
    grad_B, grad_C = s.empty(blocks, *per_token), s.empty(blocks, *per_token)
    per_part = (s.batch * plan.segments, s.routes)
    grad_A = s.empty(*per_part, s.state, s.inner)
    grad_D, grad_bias = s.empty(*per_part, s.inner), s.empty(*per_part, s.inner)
    grid = min(programs, WARPS_AT_ONCE * _processors(x.device))
    scratch = s.empty(grid, CHECKPOINT_EVERY // plan.unroll, padded, plan.block)
    with _on(x.device):
        if z is not None:
            given, grad = grad, torch.empty_like(grad)
            grad_z = torch.empty(z.shape, dtype=z.dtype, device=z.device)
            plane = s.tokens * s.inner
            if programs:
                ungate_kernel[(-(-plane // ELEMENTS), s.batch)](
                    given, ungated, z.contiguous(), grad, grad_z,
                    1 if s.merged else s.routes, plane,
                    BLOCK=ELEMENTS, FAST=not INTERPRETED, num_warps=4, **LAUNCH,
                )  # fmt: skip
        starts = None
        if plan.segments > 1:
            starts = s.segment_starts(plan, grad, s.C, not s.merged, reverse=True)
        if programs:
            backward_kernel[(grid,)](
                grad, s.x, s.delta, s.A, s.B, s.C, s.or_any(s.D), s.or_any(s.bias), s.orders,
                states, s.or_any(starts), scratch, grad_x, s.or_any(x_sum), grad_delta,
                grad_A, grad_B, grad_C, grad_D, grad_bias,
                s.batch, s.routes, s.tokens, s.inner, s.state, programs, blocks,
                plan.segments, plan.segment_tokens, s.scale,
                N=padded, BD=plan.block, U=plan.unroll, X_PER_ROUTE=s.per_route,
                Y_PER_ROUTE=not s.merged, ORDERS_PER_IMAGE=s.per_image, SOFTPLUS=s.softplus,
                HAS_D=D is not None, HAS_BIAS=delta_bias is not None, LOOP=loops,
                SEGMENTED=plan.segments > 1, FAST=not INTERPRETED, num_warps=1, **LAUNCH,
            )  # fmt: skip
    return ScanGradients(
        x=grad_x.sum(1) if adds_later else grad_x,
        delta=grad_delta,
        A=grad_A.sum(0).transpose(1, 2),
        B=grad_B.sum(0),
        C=grad_C.sum(0),
        D=None if D is None else grad_D.sum(0),
        z=grad_z,
        delta_bias=None if delta_bias is None else grad_bias.sum(0),
    )
