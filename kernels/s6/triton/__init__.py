"""The `triton` backend: launches the kernels of the forward and the backward.

Nothing is permuted or copied: the kernels read rows of channels or states wherever they lie,
through the order table. Offsets are 64-bit wherever an image or a route is addressed; inside one
image L times a row must stay below 2^31.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from kernels.common.calls import result_shape
from kernels.common.dispatch import allocate
from kernels.common.launch import (
    float32,
    launch,
    on,
    power_of_two,
    processors,
    rows,
    strides,
)
from kernels.common.orders import check_on_device
from kernels.common.triton_math import LN_2
from kernels.errors import KernelError
from kernels.s6.call import ScanCall
from kernels.s6.triton.backward_pass import backward_kernel
from kernels.s6.triton.forward_pass import (
    CHECKPOINT_EVERY,
    carry_kernel,
    forward_kernel,
    summary_kernel,
)
from kernels.s6.triton.merge import finish_kernel, ungate_kernel
from kernels.s6.triton.plan import Plan, backward_block, forward_block, make_plan

ELEMENTS = 1024
"""Elements a program of the elementwise kernels."""
WARPS_AT_ONCE = 8
"""Warps of the backward that a multiprocessor holds: its 255 registers leave room for eight."""
MOST_IN_AN_IMAGE = 2**31 - 1


class _Inputs:
    """The inputs of a scan as the kernels take them."""

    def __init__(self, call: ScanCall) -> None:
        self.call, self.batch = call, call.delta.shape[0]
        self.routes, self.tokens, self.inner, self.state = call.sizes
        self.steps = call.steps
        self.x, self.delta, self.B, self.C = map(rows, (call.x, call.delta, call.B, call.C))
        self.z = None if call.z is None else rows(call.z)
        widest = max(self.inner, *(strides(t)[2] for t in (self.x, self.delta, self.B, self.C)))
        if self.tokens * widest > MOST_IN_AN_IMAGE:
            raise KernelError(
                f"an image of {self.tokens} tokens x {self.inner} channels, {self.state} states "
                "has more than 2^31 elements a route; split its channels"
            )
        self.A = call.A.float().transpose(1, 2).contiguous()
        self.D, self.bias = float32(call.D), float32(call.delta_bias)
        self.device = call.x.device
        orders = call.orders
        if orders is not None:
            check_on_device(orders, self.tokens)
        else:
            raster = torch.arange(self.tokens, dtype=torch.int32, device=self.device)
            orders = raster.expand(self.routes, -1)
        self.orders = orders.to(torch.int32).contiguous()

    def or_any(self, tensor: Tensor | None) -> Tensor:
        """Return the tensor, or any other in its place: a kernel without it never reads it."""
        return self.A if tensor is None else tensor

    @property
    def strides(self) -> list[int]:
        """Return how far apart images, routes and tokens of x, delta, B and C lie."""
        return [s for t in (self.x, self.delta, self.B, self.C) for s in strides(t)]

    @property
    def shared_steps(self) -> dict[str, bool]:
        """Say which rows lie equally far apart: that saves the kernels multiplications."""
        x, delta, B, C = (strides(t)[2] for t in (self.x, self.delta, self.B, self.C))
        return {"ROWS": x == delta == self.inner, "PAIRS": B == C}

    @property
    def z_strides(self) -> tuple[int, int]:
        """Return how far apart images and tokens of the gate lie."""
        return (0, 0) if self.z is None else strides(self.z)[::2]

    def clear(self, *tensors: Tensor) -> None:
        """Fill with zeros what routes that leave tokens out do not write."""
        for tensor in tensors if self.call.is_partial else ():
            tensor.zero_()

    def empty(self, *shape: int) -> Tensor:
        """Allocate float32 memory on the device of the scan."""
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def plan(self, block_and_unroll: tuple[int, int], adds: bool) -> Plan:
        """Choose how this scan is cut into programs; adds: one walks all routes in turn."""
        return make_plan(
            self.batch * (1 if adds else self.routes),
            self.steps,
            self.inner,
            block_and_unroll,
            processors=processors(self.device),
            schedule=os.environ.get("SCANNAS_TRITON_SCHEDULE", "auto"),
        )

    def walks(self, plan: Plan, adds: bool) -> list[tuple[int, int]]:
        """Return the routes of each launch: a segment's sum must be whole before the next's."""
        if adds and plan.segments > 1:
            return [(k, k + 1) for k in range(self.routes)]
        return [(0, self.routes)]

    def segment_starts(
        self, plan: Plan, source: Tensor, weights: Tensor, reverse: bool
    ) -> Tensor | None:
        """Return the state (B, K, segments, N, D) that enters each segment, where there are."""
        if plan.segments == 1:
            return None
        shape = (self.batch, self.routes, plan.segments, self.state, self.inner)
        ends, starts = self.empty(*shape), self.empty(*shape)
        sums = self.empty(*shape[:3], self.inner)
        block, unroll = forward_block(self.inner, self.state)
        blocks, call = -(-self.inner // block), self.call
        launch(
            summary_kernel, blocks * plan.segments * self.routes * self.batch,
            source, self.delta, self.A, weights, self.or_any(self.bias), self.orders, ends, sums,
            *strides(source), *strides(self.delta), *strides(weights),
            self.routes, self.steps, self.inner, blocks, plan.segments, plan.segment_tokens,
            call.scale if reverse else 1.0,
            N=self.state, BD=block, U=unroll,
            ORDERS_PER_IMAGE=call.orders_per_image, SOFTPLUS=bool(call.delta_softplus),
            HAS_BIAS=self.bias is not None, REVERSE=reverse,
        )  # fmt: skip
        carry_blocks = -(-self.inner // 128)
        launch(
            carry_kernel, carry_blocks * self.state * self.batch * self.routes,
            self.A, ends, sums, starts, self.routes, self.inner, plan.segments, self.state,
            carry_blocks, BD=128, REVERSE=reverse, warps=4,
        )  # fmt: skip
        return starts


def kept(call: ScanCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves: a state before every 32 tokens, and y before its gate."""
    routes, _, inner, state = call.sizes
    states = (call.delta.shape[0], routes, -(-call.steps // CHECKPOINT_EVERY), state, inner)
    ungated = result_shape(call) if call.z is not None else (0,)
    return [(states, torch.float32), (ungated, call.x.dtype)]


def forward(call: ScanCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate."""
    s = _Inputs(call)
    adds = call.merged and s.routes > 1
    plan = s.plan(forward_block(s.inner, s.state), adds)
    y = torch.empty(result_shape(call), dtype=call.x.dtype, device=s.device)
    states, ungated = allocate(kept(call), save, s.device)
    sums = s.empty(s.batch if adds else 0, s.tokens, s.inner)
    s.clear(*(sums,) if adds else (y, ungated))
    scale = call.scale * (LN_2.value if call.delta_softplus else 1.0)
    with on(s.device):
        starts = s.segment_starts(plan, s.x, s.B, reverse=False)
        for first, stop in s.walks(plan, adds):
            launch(
                forward_kernel, plan.programs,
                s.x, s.delta, s.A, s.B, s.C, s.or_any(s.D), s.or_any(s.bias), s.or_any(s.z),
                s.orders, y, sums, ungated, states, s.or_any(starts), *s.strides, *s.z_strides,
                s.routes, first, stop, s.tokens, s.steps, s.inner, plan.blocks, plan.segments,
                plan.segment_tokens, scale,
                N=s.state, BD=plan.block, U=plan.unroll, EXACT=plan.exact, **s.shared_steps,
                ORDERS_PER_IMAGE=call.orders_per_image, SOFTPLUS=bool(call.delta_softplus),
                HAS_D=s.D is not None, HAS_BIAS=s.bias is not None, GATED=s.z is not None,
                ADDS=adds, PARTIAL=call.is_partial, MERGED=call.merged,
                SEGMENTED=plan.segments > 1, SAVE=save,
            )  # fmt: skip
        if adds and call.is_partial:
            plane = s.tokens * s.inner
            pieces = -(-plane // ELEMENTS)
            launch(
                finish_kernel, pieces * s.batch,
                sums, s.or_any(s.z), y, ungated, *s.z_strides, plane, s.inner, pieces, scale,
                BLOCK=ELEMENTS, GATED=s.z is not None, SAVE=save, warps=4,
            )  # fmt: skip
    return y, states, ungated


def _ungate(s: _Inputs, grad_y: Tensor, ungated: Tensor) -> tuple[Tensor, Tensor | None]:
    """Take the gate out of the gradient; return it, and the gradient of z."""
    if s.z is None:
        return grad_y, None
    grad, grad_z = torch.empty_like(grad_y), s.z.new_empty(s.z.shape)
    plane = s.tokens * s.inner
    pieces = -(-plane // ELEMENTS)
    launch(
        ungate_kernel, pieces * s.batch,
        grad_y, ungated, s.z, grad, grad_z, *s.z_strides,
        1 if s.call.merged else s.routes, plane, s.inner, pieces,
        BLOCK=ELEMENTS, warps=4,
    )  # fmt: skip
    return grad, grad_z


def backward(
    call: ScanCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of the scan from the states that the forward kept."""
    s = _Inputs(call)
    adds = not call.x_per_route and s.routes > 1
    plan = s.plan(backward_block(s.inner, s.state), adds)
    padded = power_of_two(s.state)
    grad_x = call.x.new_empty(call.x.shape)
    x_sums = s.empty(s.batch if adds else 0, s.tokens, s.inner)
    grad_delta = call.delta.new_empty(call.delta.shape)
    per_token = (plan.blocks, s.batch, s.routes, s.tokens, s.state)
    grad_B, grad_C = s.empty(*per_token), s.empty(*per_token)
    s.clear(x_sums if adds else grad_x, grad_delta, grad_B, grad_C)
    per_part = (s.batch * plan.segments, s.routes)
    grad_A = s.empty(*per_part, s.state, s.inner)
    grad_D, grad_bias = s.empty(*per_part, s.inner), s.empty(*per_part, s.inner)
    rounds = -(-plan.programs // (WARPS_AT_ONCE * processors(s.device)))
    grid = -(-plan.programs // max(rounds, 1))
    scratch = s.empty(grid, CHECKPOINT_EVERY // plan.unroll, padded, plan.block)
    with on(s.device):
        grad, grad_z = _ungate(s, grad_y.contiguous(), ungated)
        starts = s.segment_starts(plan, grad, s.C, reverse=True)
        for first, stop in s.walks(plan, adds):
            launch(
                backward_kernel, grid,
                grad, s.x, s.delta, s.A, s.B, s.C, s.or_any(s.D), s.or_any(s.bias), s.orders,
                states, s.or_any(starts), scratch, grad_x, x_sums, grad_delta,
                grad_A, grad_B, grad_C, grad_D, grad_bias, *s.strides,
                s.batch, s.routes, first, stop, s.tokens, s.steps, s.inner, s.state,
                plan.programs, plan.blocks, plan.segments, plan.segment_tokens, call.scale,
                N=padded, BD=plan.block, U=plan.unroll, EXACT=plan.exact and padded == s.state,
                **s.shared_steps, Y_PER_ROUTE=not call.merged,
                ORDERS_PER_IMAGE=call.orders_per_image,
                SOFTPLUS=bool(call.delta_softplus), HAS_D=s.D is not None,
                HAS_BIAS=s.bias is not None, ADDS=adds, PARTIAL=call.is_partial,
                SEGMENTED=plan.segments > 1,
            )  # fmt: skip
    if adds and call.is_partial:
        grad_x.copy_(x_sums)
    return {
        "x": grad_x,
        "delta": grad_delta,
        "A": grad_A.sum(0).transpose(1, 2),
        "B": grad_B.sum(0),
        "C": grad_C.sum(0),
        "D": None if s.D is None else grad_D.sum(0),
        "z": grad_z,
        "delta_bias": None if s.bias is None else grad_bias.sum(0),
    }
