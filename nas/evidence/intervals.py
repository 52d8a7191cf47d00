"""Differences of designs with simultaneous intervals, what they could show, what more would cost.

All functions take a `Fit` and a `Family`, which names what is said together and must hold
together.
"""

from __future__ import annotations

import math

import numpy as np

from nas.evidence.paired import Bools, Fit, Floats
from nas.evidence.quantiles import LEVEL, Family, critical, detectable
from nas.evidence.verdict import Comparison, Word

MOST_SEEDS = 200  # more than that is not an affordable answer


def compare(
    fit: Fit, design: str, other: str, family: Family, level: float = LEVEL, more: bool = True
) -> Comparison:
    """Compare two designs as one of a family of comparisons.

    more: whether to work out how many seeds more would decide.
    """
    a, b = fit.index(design), fit.index(other)
    se = float(fit.se()[a, b])
    df = float(min(fit.free[a], fit.free[b]))
    crit = critical(family, df, level)
    estimate = float(fit.means[a] - fit.means[b])
    half = crit * se
    word: Word = "not distinguishable"
    if abs(estimate) > half:
        word = "better" if estimate > 0 else "worse"
    equal = critical(family, df, 1 - 2 * (1 - level)) * se
    wanted = None
    if more and word == "not distinguishable":
        shared = int(min(fit.runs[a], fit.runs[b]))
        pair = float(fit.variances[a] + fit.variances[b]) ** 0.5
        wanted = more_seeds(abs(estimate), pair, shared, len(fit.designs), family, level)
    return Comparison(
        design=design,
        other=other,
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        word=word,
        detectable=detectable(crit, df) * se,
        within=abs(estimate) + equal,
        more_seeds=wanted,
    )


def more_seeds(
    effect: float, pair_sd: float, now: int, designs: int, family: Family, level: float = LEVEL
) -> int | None:
    """Return how many seeds beyond `now` would show `effect` with 80 % power, None if too many.

    pair_sd: standard deviation of a paired difference of two runs. All designs are taken to run
    with every seed.
    """
    if effect <= 0:
        return None

    def shows(seeds: int) -> bool:
        return smallest_detectable(pair_sd, seeds, designs, family, level) <= effect

    if not shows(MOST_SEEDS):
        return None
    low, high = now, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return max(high - now, 1)


def smallest_detectable(
    pair_sd: float, seeds: int, designs: int, family: Family, level: float = LEVEL
) -> float:
    """Return the true difference that `seeds` common seeds of `designs` show with 80 % power.

    Plans a confirmation before it is run: `--confirm 5x5` with a known noise has
    `smallest_detectable(noise * 2**0.5, 5, 9, Family("leader", 5, 4))`.
    """
    df = (designs - 1) * (seeds - 1)
    if df < 1:
        return math.inf
    crit = critical(family, df, level)
    return detectable(crit, float(df)) * pair_sd / math.sqrt(seeds)


def may_be_best(fit: Fit, level: float = LEVEL) -> tuple[Bools, Floats, Floats]:
    """Return which designs may be the best, and intervals of each one's lead over the others.

    Shapes: three arrays (designs,). The true best is among those marked with probability
    `level`; all intervals hold together. The lead is the design's mean minus the best of the
    others', so at most one true lead is positive.
    Source: Hsu 1984, Constrained simultaneous confidence intervals for multiple comparisons with
    the best; unequal standard errors as in Edwards and Hsu 1983.
    """
    count = len(fit.designs)
    if count == 1:
        return np.array([True]), np.zeros(1), np.zeros(1)
    half = criticals(fit, Family("best", count - 1), level) * fit.se()
    gap = fit.means[:, None] - fit.means[None, :]
    np.fill_diagonal(gap, np.inf)
    upper = np.maximum((gap + half).min(1), 0.0)
    able = upper > 0
    low = np.where(able[None, :], gap - half, np.inf).min(1)
    lower = np.where(np.isinf(low), 0.0, np.minimum(low, 0.0))
    return able, lower, upper


def criticals(fit: Fit, family: Family, level: float) -> Floats:
    """Return the critical value of every difference, by the less sure design of the two.

    Shapes: (designs, designs).
    """
    values = np.array([critical(family, float(f), level) for f in fit.free])
    return np.asarray(np.maximum(values[:, None], values[None, :]))


def holm(p_values: tuple[float, ...]) -> tuple[float, ...]:
    """Return p-values adjusted so that all together keep their level. Source: Holm 1979."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    so_far = 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = so_far
    return tuple(adjusted)
