"""The width solver as it was first written, in plain Python over `backbones.cost`.

Kept as the reference of `search_spaces.fit`, which must find the same widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from backbones.config import BackboneConfig
from backbones.counting import cost
from search_spaces import Band, UnreachableError
from search_spaces.fit import amount, bend

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
ImageSize = int | tuple[int, int]


@dataclass(frozen=True)
class _Rung:
    """Widths and what they cost, in the order of the bands."""

    widths: Widths
    spent: tuple[float, ...]


class _Counter:
    """Counts widths of one design, each once."""

    def __init__(
        self,
        config: BackboneConfig,
        bands: Sequence[Band],
        image_size: ImageSize,
        convention: str,
    ) -> None:
        self.bands = bands
        self._ask: Callable[[Widths], tuple[float, ...]] = lambda widths: tuple(
            getattr(found, band.metric)
            for found in [cost(config, image_size, convention, widths=widths)]
            for band in bands
        )
        self._known: dict[Widths, _Rung] = {}

    def __call__(self, widths: Widths) -> _Rung:
        found = self._known.get(widths)
        if found is None:
            found = self._known[widths] = _Rung(widths, self._ask(widths))
        return found

    def under(self, rung: _Rung) -> bool:
        """Whether no band is exceeded."""
        return all(s <= b.hi for s, b in zip(rung.spent, self.bands))

    def inside(self, rung: _Rung) -> bool:
        """Whether every band holds the cost."""
        return all(b.lo <= s <= b.hi for s, b in zip(rung.spent, self.bands))


def fit_widths(
    config: BackboneConfig,
    bands: Sequence[Band],
    *,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
    step: int = 8,
) -> BackboneConfig:
    """Return the config with the stage widths that land highest in the first band.

    Widths are multiples of `step` in about the config's own ratios; all other bands are kept
    too. One percent below the top of the first band weighs as much as one percent of mean
    deviation from the ratios. Where multiples of `step` leap over the band, as with one stage they
    may, it takes multiples of step / 2, step / 4, ... down to 2. Deterministic.
    Units: as `Band`; image_size in pixels.
    Raises: UnreachableError, a SpaceError that names the nearest reachable cost.
    """
    if not bands:
        return config
    counter = _Counter(config, bands, image_size, convention)
    shape = tuple(float(stage.width) for stage in config.stages)
    finer = step
    while True:
        found = _fit(counter, shape, finer)
        if found is not None:
            return with_widths(config, found.widths)
        too_large = _climb(counter, shape, 0.0, finer)[0] is None
        if too_large or finer % 2 or finer // 2 < FINEST_STEP:
            raise _unreachable(counter, shape, finer, image_size, convention)
        finer //= 2


def with_widths(config: BackboneConfig, widths: Sequence[int]) -> BackboneConfig:
    """Return the config with other stage widths."""
    stages = tuple(
        stage.model_copy(update={"width": width}) for stage, width in zip(config.stages, widths)
    )
    return config.model_copy(update={"stages": stages})


# --- the ladder --------------------------------------------------------------------------------


def _rounded(shape: Sequence[float], scale: float, tilt: float, step: int) -> Widths:
    middle = (len(shape) - 1) / 2
    return tuple(
        max(step, step * round(scale * width * 2 ** (tilt * (i - middle)) / step))
        for i, width in enumerate(shape)
    )


def _climb(
    counter: _Counter, shape: Sequence[float], tilt: float, step: int
) -> tuple[_Rung | None, float]:
    """Return the highest rung that exceeds no band and its scale; None when even the first does."""

    def rung(scale: float) -> _Rung:
        return counter(_rounded(shape, scale, tilt, step))

    low, high = 1.0, 1.0
    if counter.under(rung(low)):
        while counter.under(rung(high)):
            low, high = high, 2 * high
    else:
        while not counter.under(rung(low)):
            if all(w == step for w in rung(low).widths):
                return None, low
            low, high = low / 2, low
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        if rung(low).widths == rung(high).widths:
            break
        if counter.under(rung(middle)):
            low = middle
        else:
            high = middle
    return rung(low), low


def _fit(counter: _Counter, shape: Sequence[float], step: int) -> _Rung | None:
    """Return the best rung inside all bands, or None."""
    level, _ = _climb(counter, shape, 0.0, step)
    if level is None:
        return None
    best = _refine(counter, shape, level, step)
    if best is not None or len(counter.bands) == 1 or len(shape) == 1:
        return best
    return _tilted(counter, shape, level, step)


def _refine(counter: _Counter, shape: Sequence[float], start: _Rung, step: int) -> _Rung | None:
    """Return the best rung within one step of each stage, up to three stages at once."""
    singles: dict[tuple[int, int], tuple[float, ...]] = {}
    for i, width in enumerate(start.widths):
        for move in (-step, step):
            if width + move >= step:
                after = counter(_moved(start.widths, {i: move})).spent
                singles[i, move] = tuple(a - b for a, b in zip(after, start.spent))
    ranked: list[tuple[float, Widths]] = []
    for many in range(min(3, len(shape)) + 1):
        for stages in combinations(range(len(shape)), many):
            for signs in product((-step, step), repeat=many):
                moves = dict(zip(stages, signs))
                if any((i, m) not in singles for i, m in moves.items()):
                    continue
                spent = [
                    s + sum(singles[i, m][k] for i, m in moves.items())
                    for k, s in enumerate(start.spent)
                ]
                over = max(s / b.hi - 1 for s, b in zip(spent, counter.bands))
                under = max(1 - s / b.lo if b.lo else 0.0 for s, b in zip(spent, counter.bands))
                widths = _moved(start.widths, moves)
                # What is predicted out of the bands by more than the prediction's error is last.
                outside = 1e3 * max(0.0, over - 1e-3, under - 1e-3)
                ranked.append((outside + _badness(counter, shape, widths, spent), widths))
    ranked.sort()
    fitting = [r for r in (counter(w) for _, w in ranked[:CHECKED]) if counter.inside(r)]
    return min(
        fitting, key=lambda r: (_badness(counter, shape, r.widths, r.spent), r.widths), default=None
    )


def _moved(widths: Widths, moves: dict[int, int]) -> Widths:
    return tuple(w + moves.get(i, 0) for i, w in enumerate(widths))


def _badness(
    counter: _Counter, shape: Sequence[float], widths: Widths, spent: Sequence[float]
) -> float:
    """Return the share of the first band's top that is left, plus the bend of the ratios."""
    return abs(1 - spent[0] / counter.bands[0].hi) + bend(widths, shape)


def _tilted(counter: _Counter, shape: Sequence[float], level: _Rung, step: int) -> _Rung | None:
    """Return the best rung of the smallest tilt that satisfies every band.

    level: the highest rung without tilt, short of a band. Later stages hold more parameters an
    operation, so a lack of parameters tilts towards them and a lack of operations away.
    """
    short = next((b for b, s in zip(counter.bands, level.spent) if s < b.lo), counter.bands[0])
    slot = counter.bands.index(short)
    sign = 1 if short.metric == "params" else -1

    def at(tilt: float) -> _Rung | None:
        return _climb(counter, shape, sign * tilt, step)[0]

    def enough(rung: _Rung | None) -> bool:
        return rung is not None and rung.spent[slot] >= short.lo

    low, high = 0.0, TILT_LIMIT
    if not enough(at(high)):
        return None
    for _ in range(TILTS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(at(middle)) else (middle, high)
    for tilt in (high, low):
        found = at(tilt)
        best = None if found is None else _refine(counter, found.widths, found, step)
        if best is not None:
            return best
    return None


# --- errors ------------------------------------------------------------------------------------


def _unreachable(
    counter: _Counter,
    shape: Sequence[float],
    step: int,
    image_size: ImageSize,
    convention: str,
) -> UnreachableError:
    """Say which cost is nearest to the bands, and at which widths."""
    below, scale = _climb(counter, shape, 0.0, step)
    too_large = below is None
    if below is None:
        near = counter((step,) * len(shape))
        reason = "its narrowest form"
    else:
        above = counter(_rounded(shape, scale * (1 + step / min(below.widths)), 0.0, step))
        misses = (abs(r.spent[0] / counter.bands[0].hi - 1) for r in (below, above))
        near = min(zip(misses, (below, above)), key=lambda m: m[0])[1]
        reason = "the nearest"
    costs = " and ".join(f"{amount(s)} {b.metric}" for s, b in zip(near.spent, counter.bands))
    wanted = " and ".join(str(b) for b in counter.bands)
    remedy = "raise the budget or make the design smaller" if too_large else "widen the band"
    side = image_size if isinstance(image_size, int) else "x".join(map(str, image_size))
    return UnreachableError(
        f"no width reaches {wanted} ({convention}, {side} px): {reason}, widths "
        f"{', '.join(map(str, near.widths))}, costs {costs}; {remedy}",
        spent=near.spent[0],
        too_large=too_large,
    )
