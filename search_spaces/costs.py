"""What a design costs as a function of its stage widths: exactly `backbones.cost`, and fast.

A search asks for dozens of widths of every design. Each part of a network counts for itself, as a
polynomial of the widths it joins: a mixer, a stem or a head of the second degree on widths that
are equal modulo a period (ratios and ranks are rounded), a downsampling of the first degree in
both of its widths. Coefficients are found by asking the part's own rule a few times, checked at
further widths, and kept, for the parts of one design are those of many others; where they do not
hold, the rule is asked each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from backbones.config import BackboneConfig
from backbones.counting import cost, distinct_blocks
from backbones.image_size import ImageSize, sides
from backbones.mixers.controls import IdentityConfig
from backbones.parts import BlockConfig
from backbones.tally import CONVENTIONS, Tally

Amounts = tuple[int, int]
"""Parameters and operations."""
Grid = tuple[int, int]
Rule = Callable[..., Amounts]

PERIODS = (16, 48)
"""Widths that are rounded alike: a rank is a sixteenth of the width, some ratios are thirds."""
PARTS = 20_000
"""Parts whose coefficients are kept."""
NO_MIXER = IdentityConfig()
"""Costs nothing: a block of it costs what is around the mixer."""


class WidthCosts:
    """The cost of one design at any widths. Calling it gives (params, flops)."""

    def __init__(self, config: BackboneConfig, image_size: ImageSize, convention: str) -> None:
        size = sides(image_size)
        grid, extra = config.stem.grid(size), config.class_tokens
        if convention not in CONVENTIONS:
            cost(config, image_size, convention)  # says what is wrong
        table = extra
        if config.position == "learned":
            known = config.stem.grid(sides(config.image_size))
            table += known[0] * known[1] + extra
        # Of each stage: parts and how often, and the known amounts at widths.
        self._parts: list[list[tuple[_Part, int]]] = []
        self._pieces: dict[tuple[int, int], tuple[int, ...] | None] = {}
        self._joints: list[Rule] = []
        self._known: list[dict[int, Amounts]] = [{} for _ in config.stages]
        for stage in config.stages:
            if stage.downsample is not None:
                self._joints.append(_kept(_joint, stage.downsample, grid, convention))
                grid = stage.downsample.grid(grid)
            if min(grid) < 1:
                cost(config, image_size, convention)  # says what is wrong
            parts: list[tuple[_Part, int]] = []
            for block, times in distinct_blocks(config.blocks, stage, grid):
                parts += [(_kept(_mixer, block, grid, extra, convention), times),
                          (_kept(_rest, block, grid, extra, convention), times)]  # fmt: skip
            self._parts.append(parts)
        self._parts[0].append((_kept(_stem, config.stem, config.in_chans, size, convention), 1))
        self._parts[0].append((_table(table), 1))
        tokens = grid[0] * grid[1]
        head = _kept(_head, config.head, tokens, extra, config.num_classes, convention)
        self._parts[-1].append((head, 1))

    def _stage(self, index: int, width: int) -> Amounts:
        known = self._known[index].get(width)
        if known is None:
            known = self._known[index][width] = self._counted(index, width)
        return known

    def _counted(self, index: int, width: int) -> Amounts:
        rest = width % PERIODS[0]
        if (index, rest) not in self._pieces:
            self._pieces[index, rest] = _added(
                [(part.piece(PERIODS[0], rest), times) for part, times in self._parts[index]]
            )
        piece = self._pieces[index, rest]
        if piece is not None:
            return _interpolated(piece, width // PERIODS[0] - 1)
        found = [(part(width), times) for part, times in self._parts[index]]
        return sum(a[0] * t for a, t in found), sum(a[1] * t for a, t in found)

    def __call__(self, widths: Sequence[int]) -> Amounts:
        """Return parameters and operations at these stage widths."""
        params, flops = self._stage(0, widths[0])
        for i, joint in enumerate(self._joints):
            for more in (self._stage(i + 1, widths[i + 1]), joint(widths[i], widths[i + 1])):
                params, flops = params + more[0], flops + more[1]
        return params, flops

    def table(self, widths: Sequence[Sequence[int]], rows: np.ndarray[Any, Any]) -> Any:
        """Return the costs of many combinations of widths.

        widths: of each stage, those to choose from.
        Shapes: rows (R, stages), positions in `widths`; result (R, 2), params and flops.
        """
        total = np.zeros((len(rows), 2), dtype=np.int64)
        for i, options in enumerate(widths):
            total += np.array([self._stage(i, w) for w in options])[rows[:, i]]
        for i, joint in enumerate(self._joints):
            pairs = np.array([[joint(a, b) for b in widths[i + 1]] for a in widths[i]])
            total += pairs[rows[:, i], rows[:, i + 1]]
        return total


def _added(pieces: list[tuple[tuple[int, ...] | None, int]]) -> tuple[int, ...] | None:
    """Return the coefficients of parts that stand together; None where one has none."""
    p0 = p1 = p2 = f0 = f1 = f2 = 0
    for piece, n in pieces:
        if piece is None:
            return None
        a, b, c, d, e, f = piece
        p0, p1, p2, f0, f1, f2 = (
            p0 + a * n, p1 + b * n, p2 + c * n, f0 + d * n, f1 + e * n, f2 + f * n,
        )  # fmt: skip
    return p0, p1, p2, f0, f1, f2


# --- parts -------------------------------------------------------------------------------------

_seen: dict[tuple[Any, ...], tuple[Any, Any]] = {}


def _kept(make: Callable[..., Any], config: Any, *context: Any) -> Any:
    """Return a part's rule, made once. Known by identity first: comparing configs takes longer."""
    key = (make, id(config), *context)
    found = _seen.get(key)
    if found is None:
        if len(_seen) >= PARTS:
            _seen.clear()
            for maker in (_joint, _mixer_part, _rest_part, _stem, _head):
                maker.cache_clear()
        found = _seen[key] = (config, make(config, *context))
    return found[1]


def _mixer(block: BlockConfig, grid: Grid, extra: int, convention: str) -> _Part:
    shifted = getattr(block.mixer, "shift", None) is not None  # a shift costs nothing
    mixer = block.mixer.model_copy(update={"shift": None}) if shifted else block.mixer
    return _mixer_part(mixer, grid, extra, convention)


@cache
def _mixer_part(mixer: Any, grid: Grid, extra: int, convention: str) -> _Part:
    return _Part(convention, lambda tally, width: mixer.cost(tally, width, grid, extra))


def _rest(block: BlockConfig, grid: Grid, extra: int, convention: str) -> _Part:
    rest = block.model_copy(update={"mixer": NO_MIXER})
    return _rest_part(rest, grid, extra, convention)


@cache
def _rest_part(block: BlockConfig, grid: Grid, extra: int, convention: str) -> _Part:
    return _Part(convention, lambda tally, width: block.cost(tally, width, grid, extra))


@cache
def _stem(stem: Any, inputs: int, size: Grid, convention: str) -> _Part:
    return _Part(convention, lambda tally, width: stem.cost(tally, inputs, width, size))


@cache
def _table(rows: int) -> _Part:
    return _Part("macs", lambda tally, width: tally.add("position", rows * width))


@cache
def _head(head: Any, tokens: int, extra: int, classes: int, convention: str) -> _Part:
    return _Part(convention, lambda tally, width: head.cost(tally, width, tokens, extra, classes))


class _Part:
    """A rule of one width. count: adds what it costs at a width to a tally."""

    def __init__(self, convention: str, count: Callable[[Tally, int], None]) -> None:
        self._convention, self._count = convention, count
        self._pieces: dict[tuple[int, int], tuple[int, ...] | None] = {}

    def _asked(self, width: int) -> Amounts:
        tally = Tally(self._convention)
        self._count(tally, width)
        params, flops = tally.stages.get("", (0, 0))
        return params, flops

    def piece(self, period: int, rest: int) -> tuple[int, ...] | None:
        """Return the coefficients at widths of this rest; None where they do not hold."""
        at = (period, rest)
        if at not in self._pieces:
            self._pieces[at] = self._fitted(period, rest)
        return self._pieces[at]

    def __call__(self, width: int) -> Amounts:
        """Return parameters and operations at a width."""
        for period in PERIODS:
            piece = self.piece(period, width % period)
            if piece is not None:
                return _interpolated(piece, width // period - 1)
        return self._asked(width)

    def _fitted(self, period: int, rest: int) -> tuple[int, ...] | None:
        values = [self._asked(rest + period * n) for n in (1, 2, 3)]
        piece: tuple[int, ...] = ()
        for a, b, c in zip(*values):
            piece += (a, b - a, c - 2 * b + a)
        checks = ((n, self._asked(rest + period * n)) for n in (6, 11, 31))
        return piece if all(_interpolated(piece, n - 1) == found for n, found in checks) else None


def _interpolated(piece: tuple[int, ...], n: int) -> Amounts:
    p0, p1, p2, f0, f1, f2 = piece
    pairs = n * (n - 1) // 2
    return p0 + p1 * n + p2 * pairs, f0 + f1 * n + f2 * pairs


@cache
def _joint(down: Any, grid: Grid, convention: str) -> Rule:
    """Return the rule of a downsampling: of the width before it and the width after it."""

    def asked(a: int, b: int) -> Amounts:
        tally = Tally(convention)
        down.cost(tally, a, b, grid)
        params, flops = tally.stages.get("", (0, 0))
        return params, flops

    corners = [asked(a, b) for a, b in ((1, 1), (2, 1), (1, 2), (2, 2))]
    terms = [(a, b - a, c - a, d - b - c + a) for a, b, c, d in zip(*corners)]
    (p0, pa, pb, pc), (f0, fa, fb, fc) = terms

    def rule(a: int, b: int) -> Amounts:
        x, y = a - 1, b - 1
        return p0 + pa * x + (pb + pc * x) * y, f0 + fa * x + (fb + fc * x) * y

    points = ((40, 24), (88, 352), (8, 16))
    return rule if all(rule(*point) == asked(*point) for point in points) else asked
