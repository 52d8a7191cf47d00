"""Critical values for several comparisons at once, by simulation with a fixed seed.

Each family of comparisons has a statistic, the largest of its differences in standard errors
where all designs are equal. Its distribution with known noise is drawn once; that the noise is
estimated is brought in by integrating over the chi distribution. Equal numbers of runs are
taken for granted in the correlations, which is conservative otherwise (Hayter 1984).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, nctdtr, stdtrit

LEVEL = 0.95
POWER = 0.8

_DRAWS = 200_000
_SEED = 19840201  # fixes the draws: the same table gives the same verdict on every machine
_NODES = 200
_MANY = 2000.0  # degrees of freedom from which the noise counts as known
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Family:
    """Which differences are looked at together.

    pairs: all of `first` designs with each other (Tukey 1953).
    control: one of them, named beforehand, with `first` others, two-sided (Dunnett 1955).
    best: whether `first` others are above one, one-sided (Hsu 1984, Gupta 1965).
    leader: the best looking of `first` candidates with `second` baselines and with the second
    best candidate. The leader is chosen by the scores that are then compared, which Dunnett's
    value does not allow for; this one does.
    """

    kind: Literal["pairs", "control", "best", "leader"]
    first: int
    second: int = 0


def critical(family: Family, df: float, level: float = LEVEL) -> float:
    """Return the number of standard errors that the family's largest difference stays under."""
    return _critical(family, _rounded(df), level)


def _rounded(df: float) -> float:
    """Round down, so that values are found again; the steps change a critical value by < 1 %."""
    if df > _MANY:
        return math.inf
    step = 0.2 if df < 10 else 0.5 if df < 30 else 5.0 if df < 200 else 50.0
    return max(math.floor(df / step) * step, 0.2)


@functools.lru_cache(maxsize=4096)
def _critical(family: Family, df: float, level: float) -> float:
    return max(_quantile(drawn, df, level) for drawn in _drawn(family))


def _quantile(drawn: Floats, df: float, level: float) -> float:
    """Solve P(drawn <= c s) = level for c, where s is the noise's estimate over the noise."""
    if math.isinf(df):
        return float(np.quantile(drawn, level))
    shares = (np.arange(_NODES) + 0.5) / _NODES
    scale = np.sqrt(2 * gammaincinv(df / 2, shares) / df)
    low, high = 0.0, 1.0
    while np.searchsorted(drawn, high * scale).mean() < level * len(drawn):
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        if np.searchsorted(drawn, middle * scale).mean() < level * len(drawn):
            low = middle
        else:
            high = middle
    return high


@functools.lru_cache(maxsize=256)
def _drawn(family: Family) -> tuple[Floats, ...]:
    """Draw the family's statistic with known noise, sorted; several where the worst case varies."""
    rng = np.random.default_rng(_SEED)
    n = family.first
    if family.kind == "best":
        top = _largest(rng, n)
        return (np.sort((top - rng.standard_normal(_DRAWS)) / math.sqrt(2)),)
    if family.kind == "control":
        z = rng.standard_normal((_DRAWS, n + 1), dtype=np.float32)
        return (_sorted(np.abs(z[:, 1:] - z[:, :1]).max(1)),)
    if family.kind == "pairs":
        z = rng.standard_normal((_DRAWS, n), dtype=np.float32)
        return (_sorted(z.max(1) - z.min(1)),)
    baselines = rng.standard_normal((_DRAWS, family.second), dtype=np.float32)
    z = rng.standard_normal((_DRAWS, n), dtype=np.float32)
    # Either one candidate is far above the others and leads, or all are equal and luck leads.
    alone = _row(z[:, 0], baselines, z[:, 1:].max(1) - z[:, 0] if n > 1 else None)
    if n == 1:
        return (alone,)
    ordered = np.sort(z, axis=1)
    return alone, _row(ordered[:, -1], baselines, ordered[:, -1] - ordered[:, -2])


def _row(
    leader: npt.NDArray[np.float32], baselines: npt.NDArray[np.float32], other: object
) -> Floats:
    gaps = np.abs(leader[:, None] - baselines)
    columns = [gaps] if other is None else [gaps, np.asarray(other)[:, None]]
    return _sorted(np.concatenate(columns, axis=1).max(1))


def _sorted(differences: npt.NDArray[np.float32]) -> Floats:
    return np.sort(differences.astype(np.float64) / math.sqrt(2))


def _largest(rng: np.random.Generator, n: int) -> Floats:
    """Draw the largest of n normal numbers, however large n is."""
    from scipy.special import ndtri

    return np.asarray(ndtri(rng.random(_DRAWS) ** (1 / n)))


def detectable(crit: float, df: float, power: float = POWER) -> float:
    """Return the true difference, in standard errors, that passes `crit` with this power.

    Source: the noncentral t distribution; the far tail, a difference of the wrong sign, is left
    out.
    """
    return _detectable(crit, min(_rounded(df), _MANY), power)


@functools.lru_cache(maxsize=4096)
def _detectable(crit: float, df: float, power: float) -> float:
    low, high = 0.0, crit + 10.0
    while 1 - nctdtr(df, high, crit) < power:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        if 1 - nctdtr(df, middle, crit) < power:
            low = middle
        else:
            high = middle
    return high


def student(level: float, df: float) -> float:
    """Return Student's t quantile."""
    return float(stdtrit(df, level))
