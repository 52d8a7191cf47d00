"""How a scan is cut into programs on a GPU: block sizes, and one of three schedules.

Let W = B K ceil(D / block) be the warps there are when each owns a block of channels of one
route, and S the multiprocessors of the device (132 on an H100 or H200).

- `segments`, where W < 4 S and L >= 256: a warp a scheduler is not there, so the tokens are
  cut, too, into up to 8 S / W segments of at least 64 tokens. It costs every exponential twice.
- `loop`, where the routes are merged and W / K >= 8 S: two warps a scheduler are there without
  the routes, so one warp runs them one after the other and adds them up by itself.
- `routes` else: a warp a route; a second, memory-bound kernel merges them.

All three add in an order that depends on shapes and device alone. The limits follow from
arithmetic (occupancy at 128 registers, latency) and have not been tuned on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.launch import power_of_two
from kernels.errors import KernelError

SEGMENT_AT_LEAST = 64
SEGMENTED_FROM_TOKENS = 256
WASTE_LIMIT = 1.25
"""Largest share of lanes, padded over real, that a wide block may cost."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of one launch.

    block: channels a warp owns. blocks: of an image. unroll: tokens loaded together.
    schedule: 'loop', 'routes' or 'segments'. segments, segment_tokens: parts of the tokens.
    """

    block: int
    blocks: int
    unroll: int
    schedule: str
    segments: int
    segment_tokens: int


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
    batch: int,
    routes: int,
    tokens: int,
    inner: int,
    block_and_unroll: tuple[int, int],
    *,
    merges: bool,
    processors: int,
    schedule: str = "auto",
) -> Plan:
    """Choose the schedule of a launch by the rule above, or take the one asked for.

    Units: processors is the number of multiprocessors.
    Raises: KernelError for an unknown schedule.
    """
    block, unroll = block_and_unroll
    warps = batch * routes * -(-inner // block)
    if schedule == "auto":
        if warps < 4 * processors and tokens >= SEGMENTED_FROM_TOKENS:
            schedule = "segments"
        elif merges and routes > 1 and warps >= 8 * processors * routes:
            schedule = "loop"
        else:
            schedule = "routes"
    if schedule == "segments":
        wanted = min(-(-8 * processors // max(warps, 1)), -(-tokens // SEGMENT_AT_LEAST))
        length = -(-tokens // max(wanted, 1))
        length = -(-length // 32) * 32
        segments = -(-tokens // length)
    elif schedule in ("loop", "routes"):
        segments, length = 1, tokens
    else:
        raise KernelError(f"schedule {schedule!r} is unknown; use auto, loop, routes, segments")
    if schedule == "loop" and not merges:
        schedule = "routes"
    return Plan(
        block=block,
        blocks=-(-inner // block),
        unroll=unroll,
        schedule=schedule,
        segments=segments,
        segment_tokens=length,
    )
