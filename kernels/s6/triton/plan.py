"""How a scan is cut into programs on a GPU: block sizes, and parts of the tokens.

A warp owns a block of channels of an image, and walks its routes in turn where these are added
up; else it owns a block of one route. Let W be the warps, S the multiprocessors of the device
(132 on an H100 or H200). Where W < 2 S, half of the schedulers have no warp: the tokens are cut,
too, into up to 8 S / W segments of at least 64 tokens. It costs every exponential twice.

All sums have an order that depends on shapes and device alone. The limits follow from
arithmetic and have not been tuned on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.launch import power_of_two
from kernels.errors import KernelError

SEGMENT_AT_LEAST = 64
SEGMENTED_FROM_TOKENS = 128
WASTE_LIMIT = 1.25
"""Largest share of lanes, padded over real, that a wide block may cost."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of one launch.

    block: channels a warp owns. blocks: of an image. exact: whether they divide the channels.
    unroll: tokens loaded together. segments, segment_tokens: parts of the tokens.
    programs: warps in all.
    """

    block: int
    blocks: int
    exact: bool
    unroll: int
    segments: int
    segment_tokens: int
    programs: int


def forward_block(inner: int, state: int) -> tuple[int, int]:
    """Return channels a warp and tokens a group of the forward.

    N states of 1, 2 or 4 channels a thread are its registers: the widest that leave room, but
    no block that mostly pads.
    """
    widest, unroll = (128, 4) if state <= 8 else (64, 2) if state <= 16 else (32, 2)
    return _fit(widest, inner), unroll


def backward_block(inner: int, state: int) -> tuple[int, int]:
    """Return channels a warp and tokens a group of the backward: tiles of 512 at most."""
    return _fit(max(8, min(128, 512 // power_of_two(state))), inner), 2 if state > 1 else 4


def _fit(widest: int, inner: int) -> int:
    """Narrow a block until little of it is padding; a warp has 32 lanes."""
    block = widest
    while block > 32 and -(-inner // block) * block > WASTE_LIMIT * inner:
        block //= 2
    return block


def make_plan(
    sequences: int,
    tokens: int,
    inner: int,
    block_and_unroll: tuple[int, int],
    *,
    processors: int,
    schedule: str = "auto",
) -> Plan:
    """Cut a scan by the rule above, or ('whole', 'segments') as asked for.

    Units: sequences are images, or images times routes where these are not added up; processors
    is the number of multiprocessors.
    Raises: KernelError for an unknown schedule.
    """
    block, unroll = block_and_unroll
    blocks = -(-inner // block)
    warps = sequences * blocks
    if schedule == "auto":
        few = warps < 2 * processors and tokens >= SEGMENTED_FROM_TOKENS
        schedule = "segments" if few else "whole"
    if schedule == "segments":
        wanted = min(-(-8 * processors // max(warps, 1)), -(-tokens // SEGMENT_AT_LEAST))
        length = -(-tokens // max(wanted, 1))
        length = -(-length // 32) * 32
        segments = -(-tokens // length)
    elif schedule == "whole":
        segments, length = 1, tokens
    else:
        raise KernelError(f"schedule {schedule!r} is unknown; use auto, whole, segments")
    return Plan(
        block=block,
        blocks=blocks,
        exact=inner % block == 0,
        unroll=unroll,
        segments=segments,
        segment_tokens=length,
        programs=warps * segments,
    )
