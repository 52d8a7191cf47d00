"""How far scores agree: with themselves over seeds (intraclass correlation), and two rankings.

What `benchmarks/proxy_reliability.py` and `fidelity` measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri

from nas.errors import StudyError
from nas.evidence.findings import Estimate, Fidelity
from nas.evidence.paired import Floats
from nas.evidence.quantiles import LEVEL
from nas.evidence.words import Unit

SETTLED = 0.9  # Kendall's tau to the last ranking from which on a ranking counts as settled
_RESAMPLES = 2000
_SEED = 19380601


def icc(groups: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return ICC(1) of single runs with its interval: the share of variance between designs.

    Shapes: groups (designs, runs). Runs are taken as exchangeable: what a seed does to all
    designs alike counts as noise.
    Source: Shrout and Fleiss 1979, ICC(1,1); the interval from the F distribution.
    """
    x = np.asarray(groups, dtype=float)
    n, k = x.shape
    between = k * x.mean(1).var(ddof=1)
    within = x.var(axis=1, ddof=1).mean()
    return _intraclass(between / within, n - 1, n * (k - 1), k, level)


def icc_same_seed(groups: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return ICC(C,1) with its interval: column j of every design was run with the same seed.

    Shapes: groups (designs, seeds). Source: McGraw and Wong 1996, case 3, consistency.
    """
    x = np.asarray(groups, dtype=float)
    n, k = x.shape
    between = k * x.mean(1).var(ddof=1)
    return _intraclass(between / paired_variance(x), n - 1, (n - 1) * (k - 1), k, level)


def paired_variance(x: Floats) -> float:
    """Return the variance that neither designs nor seeds explain. Shapes: x (designs, seeds)."""
    n, k = x.shape
    rest = x - x.mean(1, keepdims=True) - x.mean(0, keepdims=True) + x.mean()
    return float((rest**2).sum() / ((n - 1) * (k - 1)))


def _intraclass(f: float, df1: int, df2: int, k: int, level: float) -> Estimate:
    tail = (1 - level) / 2
    ratios = f, f / fdtri(df1, df2, 1 - tail), f * fdtri(df2, df1, 1 - tail)
    value, low, high = (float((v - 1) / (v + k - 1)) for v in ratios)
    return Estimate(value=value, low=low, high=high)


def tau(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Kendall's tau-b, NaN where either is constant. Source: Kendall 1938, 1945."""
    return float(_weighted_tau(np.ones((1, len(np.asarray(x)))), _signs(x), _signs(y))[0])


def _signs(x: npt.ArrayLike) -> Floats:
    values = np.asarray(x, dtype=float)
    return np.asarray(np.sign(values[:, None] - values[None, :]))


def _weighted_tau(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Return tau-b of resamples. Shapes: weights (resamples, designs), x and y signs of pairs.

    A design that is drawn twice is tied with itself in both rankings, and counts in neither.
    """

    def pairs(of: Floats) -> Floats:
        return np.asarray(((weights @ of) * weights).sum(1))

    norm = np.sqrt(pairs(np.abs(x)) * pairs(np.abs(y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(pairs(x * y) / norm)


def tau_with_interval(x: npt.ArrayLike, y: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return Kendall's tau-b with a percentile bootstrap interval over designs.

    Raises: StudyError for fewer than 4 designs or a constant ranking.
    """
    n = len(np.asarray(x))
    value = tau(x, y) if n > 3 else math.nan
    if math.isnan(value):
        raise StudyError(f"{n} designs with these scores have no ranking to compare; 4 are needed")
    drawn = _weighted_tau(_resamples(n), _signs(x), _signs(y))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high))


def _resamples(n: int) -> Floats:
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES).astype(float)


def regret(proxy: npt.ArrayLike, longer: npt.ArrayLike, top_k: int) -> Estimate:
    """Return how far the best of the proxy's top k lies below the best of all, bootstrapped.

    In the longer training's score, at least 0. Its noise counts in it: with equal designs it is
    not 0. The interval is of percentiles over resampled designs.
    """
    first, second = np.asarray(proxy, dtype=float), np.asarray(longer, dtype=float)
    if not 1 <= top_k <= len(first):
        raise StudyError(f"top {top_k} of {len(first)} designs; give 1 to {len(first)}")

    def of(rows: npt.NDArray[np.int64]) -> float:
        best = rows[np.argsort(-first[rows], kind="stable")[:top_k]]
        return float(second[rows].max() - second[best].max())

    rng = np.random.default_rng(_SEED)
    n = len(first)
    drawn = [of(rng.integers(0, n, n)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=of(np.arange(n)), low=float(low), high=float(high))


def settled(curves: npt.ArrayLike, threshold: float = SETTLED) -> tuple[int | None, list[float]]:
    """Return the first epoch from which the ranking stays like the last one, and tau by epoch.

    Shapes: curves (designs, epochs), epochs counted from 1. None where only the last qualifies.
    """
    x = np.asarray(curves, dtype=float)
    taus = [tau(x[:, e], x[:, -1]) for e in range(x.shape[1])]
    first = x.shape[1]
    while first > 1 and taus[first - 2] >= threshold:
        first -= 1
    return (first if first < x.shape[1] else None), taus


def fidelity(
    proxy: Sequence[float],
    longer: Sequence[float],
    curves: npt.ArrayLike,
    *,
    times_longer: float,
    unit: Unit,
    top_k: int = 3,
) -> Fidelity:
    """Return how well the proxy's scores foretell those of longer trainings.

    proxy, longer: one score a design, means where there are several seeds. curves: the proxy's
    score by epoch. Shapes: curves (designs, epochs).
    """
    if len(proxy) != len(longer):
        raise StudyError(f"{len(proxy)} proxy scores and {len(longer)} longer ones do not pair")
    epoch, taus = settled(curves)
    return Fidelity(
        unit=unit,
        designs=len(proxy),
        times_longer=times_longer,
        tau=tau_with_interval(proxy, longer),
        regret=regret(proxy, longer, min(top_k, len(proxy))),
        top_k=min(top_k, len(proxy)),
        settled=epoch,
        epochs=len(taus),
        tau_by_epoch=tuple(0.0 if math.isnan(t) else t for t in taus),
    )
