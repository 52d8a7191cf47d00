"""Widths are solved for: the stage widths whose cost lands highest in a budget band.

Scaling all stages together and rounding each to a multiple of `step` gives a ladder of designs
that keep the width ratios as well as multiples can. The fit climbs to the highest rung within
the budget, then moves single stages by a step where that fills the band better than it bends
the ratios. Two bands (operations and parameters) pull a second lever, a tilt of the ratios
between early and late stages, as little as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from backbones.config import BackboneConfig
from backbones.image_size import ImageSize, shown
from search_spaces.costs import WidthCosts
from search_spaces.errors import SpaceError, UnreachableError
from search_spaces.meters import Meter

COUNTED = ("params", "flops")
MEASURED = ("latency", "memory")
METRICS = ("flops", "params", *MEASURED)
BISECTIONS = 14
"""Halvings of an octave of scale: 2 ** -14, finer than one step of the widest stage."""
TILT_LIMIT = 1.0
"""Largest tilt: each stage at most twice, or half, as wide against the one before as it was."""
TILTS = 7
"""Halvings of the tilt."""
CHECKED = 16
"""Predicted rungs whose cost is counted; predictions are off by a thousandth or less."""
FINEST_STEP = 2
"""Where multiples of the step leap over the band, the step is halved down to this."""

Widths = tuple[int, ...]


@dataclass(frozen=True)
class Band:
    """What a design may cost: lo <= metric <= hi.

    Units: flops in single operations of the convention in use, parameters, latency in ms, memory
    in bytes. What is measured takes a `MeteredBand`.
    Raises: SpaceError for an unknown metric or an empty band.
    """

    metric: str
    lo: float
    hi: float

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise SpaceError(f"band metric {self.metric!r} is unknown; use {' or '.join(METRICS)}")
        if not 0 <= self.lo <= self.hi or self.hi <= 0:
            raise SpaceError(
                f"band {self.lo:g} to {self.hi:g} {self.metric} is empty; give 0 <= lo <= hi"
            )

    def __str__(self) -> str:
        if self.metric in COUNTED:
            unit = {"flops": "FLOPs", "params": "params"}[self.metric]
            return f"{amount(self.lo, self.hi)}-{amount(self.hi)}{unit}"
        high, unit = said(self.hi, self.metric).split()
        scale = float(high) / self.hi
        return f"{f'{self.lo * scale:.4g}-' if self.lo else 'at most '}{high}{unit}"


@dataclass(frozen=True)
class MeteredBand(Band):
    """A band of what is measured, with what measures it."""

    meter: Meter


def amount(value: float, like: float | None = None) -> str:
    """Return a number with K, M, G or T; without the letter when `like` gives the scale."""
    scale = value if like is None else like
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if scale >= size:
            return f"{value / size:.4g}{letter if like is None else ''}"
    return f"{value:.4g}"


def said(value: float, metric: str) -> str:
    """Return an amount with its unit: 4.5G flops, 8.2 ms, 150 MiB."""
    if metric == "latency":
        return f"{value:.4g} ms"
    if metric == "memory":
        unit, size = ("GiB", 2**30) if value >= 2**30 else ("MiB", 2**20)
        return f"{value / size:.4g} {unit}"
    return f"{amount(value)} {metric}"


class _Costs:
    """What widths of one design cost, in the order of the bands."""

    def __init__(
        self,
        config: BackboneConfig,
        bands: Sequence[Band],
        image_size: ImageSize,
        convention: str,
    ) -> None:
        self.bands = bands
        self.counted = WidthCosts(config, image_size, convention)
        self.measured = [_meter(b)(config, image_size) for b in bands if b.metric in MEASURED]
        kinds = [*COUNTED, *(b.metric for b in bands if b.metric in MEASURED)]
        self.columns = [kinds.index(band.metric) for band in bands]

    def __call__(self, widths: Widths) -> tuple[float, ...]:
        found: tuple[float, ...] = self.counted(widths)
        if self.measured:
            found = (*found, *(rule(widths) for rule in self.measured))
        return tuple([found[column] for column in self.columns])

    def under(self, widths: Widths) -> bool:
        """Whether no band is exceeded."""
        return all([spent <= band.hi for spent, band in zip(self(widths), self.bands)])

    def table(self, widths: Sequence[Sequence[int]], rows: Any) -> Any:
        """Return the costs of many combinations of widths, in the order of the bands.

        Shapes: as `WidthCosts.table`; result (R, bands).
        """
        found = self.counted.table(widths, rows)
        if self.measured:
            picked = [tuple(w[n] for w, n in zip(widths, row)) for row in rows.tolist()]
            more = [[rule(one) for rule in self.measured] for one in picked]
            found = np.hstack([found, np.array(more)])
        return found[:, self.columns]


def _meter(band: Band) -> Meter:
    if not isinstance(band, MeteredBand):
        raise SpaceError(f"a band of {band.metric} must say what measures it; use MeteredBand")
    return band.meter


def fit_widths(
    config: BackboneConfig,
    bands: Sequence[Band],
    *,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
    step: int = 8,
) -> BackboneConfig:
    """Return the config with the stage widths that land highest in the first band.

    Widths are multiples of `step`, and of what mixers ask, in about the config's own ratios; all
    other bands are kept too. One percent below the top of the first band weighs as much as one
    percent of mean deviation from the ratios. Where multiples of `step` leap over the band, as with
    one stage they may, it takes multiples of step / 2, step / 4, ... down to 2. Deterministic.
    Units: as `Band`; image_size in pixels.
    Raises: UnreachableError, a SpaceError that names the nearest reachable cost.
    """
    if not bands:
        return config
    costs = _Costs(config, bands, image_size, convention)
    shape = tuple(float(stage.width) for stage in config.stages)
    multiple = math.lcm(*(config.blocks[x].width_step for s in config.stages for x in s.letters))
    finer = math.lcm(step, multiple)
    while True:
        found = _fit(costs, shape, finer)
        if found is not None:
            return with_widths(config, found)
        too_large = _climb(costs, shape, 0.0, finer)[0] is None
        if too_large or finer % 2 or finer // 2 < FINEST_STEP or finer // 2 % multiple:
            raise _unreachable(costs, shape, finer, image_size, convention)
        finer //= 2


def check_bands(
    config: BackboneConfig,
    bands: Sequence[Band],
    *,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
) -> None:
    """Raise UnreachableError unless the config as it is lies in all bands."""
    spent = spent_of(config, bands, image_size, convention)
    for band, amount_spent in zip(bands, spent):
        if not band.lo <= amount_spent <= band.hi:
            raise UnreachableError(
                f"the design costs {said(amount_spent, band.metric)} ({convention}), outside "
                f"{band}; this space does not fit widths, change other choices",
                spent=spent[0],
                too_large=amount_spent > band.hi,
            )


def spent_of(
    config: BackboneConfig, bands: Sequence[Band], image_size: ImageSize, convention: str
) -> tuple[float, ...]:
    """Return what a config costs as it stands, in the order of the bands."""
    widths = tuple(stage.width for stage in config.stages)
    return _Costs(config, bands, image_size, convention)(widths)


def distance(
    config: BackboneConfig,
    bands: Sequence[Band],
    *,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
) -> float:
    """Return how far out of the bands a config is as it stands: logarithms of factors, added."""
    spent = zip(spent_of(config, bands, image_size, convention), bands)
    return sum(max(0.0, math.log(s / b.hi), math.log(b.lo / s) if b.lo else 0.0) for s, b in spent)


def with_widths(config: BackboneConfig, widths: Sequence[int]) -> BackboneConfig:
    """Return the config with other stage widths."""
    stages = tuple(
        stage.model_copy(update={"width": width}) for stage, width in zip(config.stages, widths)
    )
    return config.model_copy(update={"stages": stages})


# --- the ladder --------------------------------------------------------------------------------


def _leaning(count: int, tilt: float) -> list[float]:
    """Return the factor by which a tilt widens each stage."""
    middle = (count - 1) / 2
    return [2 ** (tilt * (i - middle)) for i in range(count)]


def _climb(
    costs: _Costs, shape: Sequence[float], tilt: float, step: int
) -> tuple[Widths | None, float]:
    """Return the widest rung that exceeds no band and its scale; None when even the first does."""
    sides = list(zip(shape, _leaning(len(shape), tilt)))

    def rung(scale: float) -> Widths:
        return tuple([max(step, step * round(scale * w * lean / step)) for w, lean in sides])

    low = high = 1.0
    below = above = rung(low)
    if costs.under(below):
        while costs.under(above):
            low, below = high, above
            high = 2 * high
            above = rung(high)
    else:
        while not costs.under(below):
            if all(w == step for w in below):
                return None, low
            high, above = low, below
            low = low / 2
            below = rung(low)
    for _ in range(BISECTIONS):
        if below == above:
            break
        middle = math.sqrt(low * high)
        between = rung(middle)
        if between == below or (between != above and costs.under(between)):
            low, below = middle, between
        else:
            high, above = middle, between
    return below, low


def _fit(costs: _Costs, shape: Sequence[float], step: int) -> Widths | None:
    """Return the best widths inside all bands, or None."""
    level, _ = _climb(costs, shape, 0.0, step)
    if level is None:
        return None
    best = _refine(costs, shape, level, step)
    if best is not None or len(costs.bands) == 1 or len(shape) == 1:
        return best
    return _tilted(costs, shape, level, step)


@cache
def _moves(stages: int) -> tuple[Any, Any, Any]:
    """Return the moves of up to three of the stages by a step each, in order.

    Shapes: moves (R, stages), of -1, 0 and 1; the row that moves nothing; the rows that move one
    stage, (stages, 3), by stage and move + 1.
    """
    rows = [r for r in product((-1, 0, 1), repeat=stages) if sum(map(abs, r)) <= 3]
    still = rows.index((0,) * stages)
    one = [[rows.index(tuple(m if i == j else 0 for j in range(stages))) for m in (-1, 0, 1)]
           for i in range(stages)]  # fmt: skip
    return np.array(rows), still, np.array(one)


def _refine(costs: _Costs, shape: Sequence[float], start: Widths, step: int) -> Widths | None:
    """Return the best widths within one step of each stage, up to three stages at once."""
    moves, still, one = _moves(len(shape))
    at = moves + 1
    near = [[w - step if w > step else w, w, w + step] for w in start]
    spent = costs.table(near, at)
    # Of the moves of several stages, what those of each alone make expect.
    expected = spent[still] + sum(spent[one[i]][at[:, i]] - spent[still] for i in range(len(shape)))
    logs = [np.array([math.log(w / s) for w in ws])[at[:, i]]
            for i, (ws, s) in enumerate(zip(near, shape))]  # fmt: skip
    center = sum(logs) / len(logs)
    bent = sum(np.abs(x - center) for x in logs) / len(logs)
    high = np.array([b.hi for b in costs.bands])
    low = np.array([b.lo for b in costs.bands])
    over = (expected / high - 1).max(axis=1)
    short = np.where(low > 0, 1 - expected / np.where(low > 0, low, 1), 0.0).max(axis=1)
    # What is expected out of the bands by more than the expectation's error comes last.
    outside = 1e3 * np.maximum(np.maximum(0.0, over - 1e-3), short - 1e-3)
    badness = outside + (np.abs(1 - expected[:, 0] / high[0]) + bent)
    badness[((np.array(start) + moves * step) < step).any(axis=1)] = np.inf
    best = np.sort(np.argsort(badness, kind="stable")[:CHECKED])
    inside = ((low <= spent[best]) & (spent[best] <= high)).all(axis=1) & np.isfinite(badness[best])
    if not inside.any():
        return None
    best = best[inside]
    row = best[np.argmin(np.abs(1 - spent[best, 0] / high[0]) + bent[best])]
    return tuple(int(w + m * step) for w, m in zip(start, moves[row]))


def bend(widths: Sequence[float], shape: Sequence[float]) -> float:
    """Return how far widths are from the ratios of a shape: their logarithms' mean deviation."""
    logs = [math.log(w / s) for w, s in zip(widths, shape)]
    center = sum(logs) / len(logs)
    return sum(abs(x - center) for x in logs) / len(logs)


def _tilted(costs: _Costs, shape: Sequence[float], level: Widths, step: int) -> Widths | None:
    """Return the best widths of the smallest tilt that satisfies every band.

    level: the highest rung without tilt, short of a band. Later stages hold more parameters an
    operation, so a lack of parameters tilts towards them and a lack of operations away.
    """
    slot = next((i for i, s in enumerate(costs(level)) if s < costs.bands[i].lo), 0)
    short = costs.bands[slot]
    sign = 1 if short.metric == "params" else -1

    def at(tilt: float) -> Widths | None:
        return _climb(costs, shape, sign * tilt, step)[0]

    def enough(widths: Widths | None) -> bool:
        return widths is not None and costs(widths)[slot] >= short.lo

    low, high = 0.0, TILT_LIMIT
    if not enough(at(high)):
        return None
    for _ in range(TILTS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(at(middle)) else (middle, high)
    for tilt in (high, low):
        found = at(tilt)
        best = None if found is None else _refine(costs, found, found, step)
        if best is not None:
            return best
    return None


# --- errors ------------------------------------------------------------------------------------


def _unreachable(
    costs: _Costs,
    shape: Sequence[float],
    step: int,
    image_size: ImageSize,
    convention: str,
) -> UnreachableError:
    """Say which cost is nearest to the bands, and at which widths."""
    below, scale = _climb(costs, shape, 0.0, step)
    too_large = below is None
    if below is None:
        near: Widths = (step,) * len(shape)
        reason = "its narrowest form"
    else:
        scale *= 1 + step / min(below)
        above = tuple(max(step, step * round(scale * width / step)) for width in shape)
        near = min((below, above), key=lambda ws: abs(costs(ws)[0] / costs.bands[0].hi - 1))
        reason = "the nearest"
    spent = costs(near)
    listed = " and ".join(said(s, b.metric) for s, b in zip(spent, costs.bands))
    wanted = " and ".join(str(b) for b in costs.bands)
    remedy = "raise the budget or make the design smaller" if too_large else "widen the band"
    side = shown(image_size)
    return UnreachableError(
        f"no width reaches {wanted} ({convention}, {side} px): {reason}, widths "
        f"{', '.join(map(str, near))}, costs {listed}; {remedy}",
        spent=spent[0],
        too_large=too_large,
    )
