"""How sure each of several looks must be, so that all together err no more than one would.

A look at seed t of T may bring the errors made so far up to the share (t/T)^2 of the whole: late
looks, which see most, get most (Lan and DeMets 1983; Kim and DeMets 1987). What level that is for
one look follows from how the looks depend: paths of sums of independent runs are drawn with known
noise, and the level found carries over to Student's quantiles (Whitehead 1997, section 3.7;
`benchmarks/verdicts.py` measures what comes of it).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_PATHS = 100_000
_SEED = 19830101


@functools.lru_cache(maxsize=128)
def look_errors(levels: int, first: int, looks: int, error: float) -> tuple[float, ...]:
    """Return the probability of error of each look taken alone, `error` over all of them.

    levels: how many designs are compared with each other, two-sided; 1: a single one-sided
    test. first: seeds at the first look; each later one has one more.
    Never below what Bonferroni gives.
    """
    alive = np.ones(_PATHS, dtype=bool)
    found, spent = [], 0.0
    for look, statistic in enumerate(_paths(levels, first, looks), 1):
        target = error * (look / looks) ** 2
        allowed = max(round(target * _PATHS) - int((~alive).sum()), 0)
        inside = np.sort(statistic[alive])
        bound = inside[len(inside) - 1 - allowed]
        alive &= statistic <= bound
        found.append(max(float((statistic > bound).mean()), target - spent))
        spent = target
    return tuple(found)


def _paths(levels: int, first: int, looks: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the statistic at each look, in standard errors. Shapes: (paths,)."""
    rng = np.random.default_rng(_SEED)
    sums = math.sqrt(first) * rng.standard_normal((_PATHS, levels), dtype=np.float32)
    for seeds in range(first, first + looks):
        if seeds > first:
            sums += rng.standard_normal((_PATHS, levels), dtype=np.float32)
        spread = sums[:, 0] if levels == 1 else (sums.max(1) - sums.min(1)) / math.sqrt(2)
        yield spread / math.sqrt(seeds)
