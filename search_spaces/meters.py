"""What cannot be counted: amounts that are measured piece by piece, at any widths of a design.

A piece is measured at few widths, the rungs of a ladder, and between two of them its amount is a
power of the width: measured amounts grow so smoothly that a design costs a handful of new
measurements, and one whose pieces are known costs none.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from backbones.config import BackboneConfig
from backbones.image_size import ImageSize
from backbones.pieces import Piece, pieces
from search_spaces.errors import SpaceError

LADDER = tuple(sorted({n for k in range(3, 15) for n in (2**k, 3 * 2 ** (k - 1))}))
"""Widths at which pieces are measured: 8, 12, 16, 24, 32, 48, ..."""


class WidthSum(Protocol):
    """An amount of one design, as a function of its stage widths."""

    def __call__(self, widths: Sequence[int]) -> float:
        """Return the amount."""
        ...


class Meter(Protocol):
    """What measures an amount of designs."""

    def __call__(self, config: BackboneConfig, image_size: ImageSize) -> WidthSum:
        """Return the amount of a design at any widths."""
        ...


class PieceMeter:
    """The sum over a design's pieces of what `measure` says of each."""

    def __init__(self, measure: Callable[[Piece], float]) -> None:
        """Set out. measure: returns the amount of a piece, above 0, and remembers it."""
        self._measure = measure

    def __call__(self, config: BackboneConfig, image_size: ImageSize) -> WidthSum:
        """Return the amount of a design at any widths."""
        known: dict[tuple[int, tuple[int, ...]], float] = {}
        parts = list(pieces(config, image_size))

        def total(widths: Sequence[int]) -> float:
            found = 0.0
            for n, (piece, stages, times) in enumerate(parts):
                at = tuple([widths[stage] for stage in stages])
                if (n, at) not in known:
                    known[n, at] = self._at(piece, at)
                found += times * known[n, at]
            return found

        return total

    def _at(self, piece: Piece, widths: tuple[int, ...]) -> float:
        """Return what a piece has at these widths, from the rungs around each."""
        for axis, width in enumerate(widths):
            low, high = _rungs(piece, widths, axis)
            if low == width:
                continue
            ends = [self._at(piece, _set(widths, axis, rung)) for rung in (low, high)]
            if low == high:
                return ends[0]
            share = math.log(width / low) / math.log(high / low)
            return float(ends[0] ** (1 - share) * ends[1] ** share)
        return self._measure(piece.at(*widths))


def _rungs(piece: Piece, widths: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return the widths at which a piece works, of the rungs below and above one of its widths."""
    width = widths[axis]
    above = bisect_left(LADDER, width)
    if above == len(LADDER) or LADDER[above] == width or above == 0:
        rungs = [width]
    else:
        rungs = [LADDER[above - 1], LADDER[above]]
    found = [_working(piece, widths, axis, rung) for rung in rungs]
    return found[0], found[-1]


def _working(piece: Piece, widths: tuple[int, ...], axis: int, rung: int) -> int:
    """Return the first width from a rung on at which the piece works."""
    for width in range(rung, 2 * rung + 1):
        if piece.at(*_set(widths, axis, width)).works():
            return width
    raise SpaceError(
        f"no width from {rung} to {2 * rung} suits a {piece.part} of the design, which cannot be "
        "measured there; change what its width must be a multiple of"
    )


def _set(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
