"""Do the levels of one choice score differently: the F test with blocks and seeds taken out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, fdtri, ncfdtr

from nas.evidence.paired import Floats
from nas.evidence.quantiles import LEVEL, POWER


@dataclass(frozen=True, slots=True)
class LevelRun:
    """One run: its level of the choice, what it shares beside it (block), its seed and score."""

    level: str
    block: str
    seed: int
    score: float


@dataclass(frozen=True, slots=True)
class LevelTest:
    """Whether levels differ.

    eta_squared: share of what blocks and seeds leave of the variance; epsilon_squared: the same,
    corrected for chance. spread: between the best and the worst level. detectable: spread of two
    levels (the others halfway) that would have been seen with 80 % power.
    """

    levels: tuple[str, ...]
    runs: int
    eta_squared: float
    epsilon_squared: float
    p_value: float
    spread: float
    detectable: float


def level_test(runs: Sequence[LevelRun], level: float = LEVEL) -> LevelTest:
    """Fit score = block + seed + level + noise by least squares and test the level.

    Blocks with one level alone say nothing of it and are left out.
    """
    seen: dict[str, set[str]] = {}
    for r in runs:
        seen.setdefault(r.block, set()).add(r.level)
    rows = [r for r in runs if len(seen[r.block]) > 1]
    levels = sorted({r.level for r in rows})
    blocks, seeds = sorted({r.block for r in rows}), sorted({r.seed for r in rows})
    y = np.array([r.score for r in rows])
    given = np.array(
        [[r.block == b for b in blocks] + [r.seed == s for s in seeds[1:]] for r in rows],
        dtype=float,
    )
    own = np.array([[r.level == v for v in levels[1:]] for r in rows], dtype=float)
    whole = np.hstack([given, own])
    (beta, rest), (_, left) = _least_squares(whole, y), _least_squares(given, y)
    df1, df2 = len(levels) - 1, len(y) - whole.shape[1]
    noise, explained = rest / df2, left - rest
    effects = [0.0, *beta[given.shape[1] :]]
    return LevelTest(
        levels=tuple(levels),
        runs=len(y),
        eta_squared=explained / left,
        epsilon_squared=(explained - df1 * noise) / left,
        p_value=float(fdtrc(df1, df2, explained / df1 / noise)),
        spread=float(max(effects) - min(effects)),
        detectable=detectable_spread(df1, df2, noise, len(y) / len(levels), level),
    )


def detectable_spread(
    df1: int, df2: float, noise: float, per_level: float, level: float = LEVEL
) -> float:
    """Return the smallest spread of two levels that the F test sees with 80 % power.

    df1, df2: degrees of freedom of the levels and of the noise. noise: variance of a run.
    per_level: runs of each level.
    Source: the noncentral F distribution; levels equally often, the others halfway.
    """
    crit = float(fdtri(df1, df2, level))
    low, high = 0.0, 1.0
    while 1 - ncfdtr(df1, df2, high, crit) < POWER:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        if 1 - ncfdtr(df1, df2, middle, crit) < POWER:
            low = middle
        else:
            high = middle
    return math.sqrt(2 * high * noise / per_level)


def _least_squares(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Return coefficients and the sum of squares that is left."""
    beta: Floats = np.linalg.lstsq(x, y, rcond=None)[0].astype(float)
    return beta, float(((y - x @ beta) ** 2).sum())
