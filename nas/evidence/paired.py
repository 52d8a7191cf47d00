"""Designs that trained with common seeds: the table of their scores, and what it says of noise.

The model of every comparison is score = design + seed + noise: what a seed does to all designs
alike is taken out, and what is left is pooled over designs, so that three seeds are enough for
a fair guess at the noise where there are several designs.

Assumed: runs are independent beside the common seed; noise is roughly normal. Not assumed: that
all designs are equally noisy. Each design's variance is drawn toward the pooled one as far as
the designs agree (`moderated variances`), which keeps the error rates where one design is three
times as noisy as the rest, where noise has heavy tails, and where a run in twenty diverges
(`benchmarks/verdicts.py` measures it).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, fdtrc, polygamma

from nas.errors import StudyError

Role = Literal["candidate", "baseline", "control"]
Run = tuple[str, int, float | None]  # design, seed, score; None: failed by the design's own fault
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

APART = 0.005  # level at which a design counts as noisier than the others and keeps its variance


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What is compared, and what it costs.

    name: as it is shown, unique in a table. role: a candidate of the search, a published
    baseline, or a control that ought to be worse. outside: a network at its own cost, which is
    compared and never chosen.
    """

    name: str
    role: Role = "candidate"
    latency_ms: float | None = None
    params: int | None = None
    outside: bool = False


def cheapest_first(designs: Iterable[Design]) -> list[Design]:
    """Sort by latency where every design has one, then parameters, then name."""
    listed = list(designs)
    timed = all(d.latency_ms is not None for d in listed)

    def price(d: Design) -> tuple[float, float, str]:
        latency = d.latency_ms if timed and d.latency_ms is not None else 0.0
        return latency, math.inf if d.params is None else d.params, d.name

    return sorted(listed, key=price)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of designs by seed; more is better.

    Shapes: values, failed (designs, seeds). values is NaN where there is no score; failed says
    which of these ended by the design's own fault (out of memory, not finite, too slow): such a
    run is not wanted again, and its design is never called the best.
    """

    designs: tuple[Design, ...]
    seeds: tuple[int, ...]
    values: Floats
    failed: Bools

    @classmethod
    def of(cls, designs: Sequence[Design], runs: Iterable[Run]) -> Scores:
        """Return the table of these runs, seeds in the order in which they first appear.

        Raises: StudyError for a design that is named twice or unknown, a repeated run, or a
        score that is not finite.
        """
        row = {d.name: i for i, d in enumerate(designs)}
        if len(row) != len(designs):
            twice = next(d.name for d in designs if sum(d.name == e.name for e in designs) > 1)
            raise StudyError(f"design {twice!r} is listed twice; names must differ")
        cells: dict[tuple[str, int], float | None] = {}
        for name, seed, score in runs:
            if name not in row:
                raise StudyError(f"run of {name!r}: no such design among {', '.join(row)}")
            if (name, seed) in cells:
                raise StudyError(f"run of {name!r} with seed {seed} is given twice")
            if score is not None and not math.isfinite(score):
                raise StudyError(f"score {score} of {name!r}, seed {seed}: give None for a failure")
            cells[name, seed] = score
        column = {seed: j for j, seed in enumerate(dict.fromkeys(s for _, s in cells))}
        values = np.full((len(row), len(column)), np.nan)
        failed = np.zeros(values.shape, dtype=bool)
        for (name, seed), score in cells.items():
            failed[row[name], column[seed]] = score is None
            values[row[name], column[seed]] = np.nan if score is None else score
        return cls(tuple(designs), tuple(column), values, failed)

    def only(self, names: Iterable[str], seeds: Iterable[int] | None = None) -> Scores:
        """Return the part of the table with these designs and seeds, in the table's order."""
        wanted = set(names)
        rows = [i for i, d in enumerate(self.designs) if d.name in wanted]
        chosen = set(self.seeds if seeds is None else seeds)
        columns = [j for j, s in enumerate(self.seeds) if s in chosen]
        part = np.ix_(rows, columns)
        return Scores(
            tuple(self.designs[i] for i in rows),
            tuple(self.seeds[j] for j in columns),
            self.values[part],
            self.failed[part],
        )

    def ended(self, name: str, seed: int) -> bool:
        """Whether this run has a score or has failed for good."""
        if seed not in self.seeds:
            return False
        i = [d.name for d in self.designs].index(name)
        j = self.seeds.index(seed)
        return bool(self.failed[i, j] or not np.isnan(self.values[i, j]))


@dataclass(frozen=True, eq=False)
class Fit:
    """What a table says: the designs' means, seeds taken out, and how sure they are.

    Shapes: means, variances, free, runs (designs,); covariance (designs, designs), of the means.
    noise: standard deviation of one run beside what its seed does to all, pooled. variances, free:
    each design's, and the degrees of freedom of it.
    """

    designs: tuple[Design, ...]
    means: Floats
    covariance: Floats
    variances: Floats
    free: Floats
    runs: npt.NDArray[np.int64]
    noise: float

    def index(self, name: str) -> int:
        """Return the row of a design."""
        return [d.name for d in self.designs].index(name)

    def se(self) -> Floats:
        """Return standard errors of all differences. Shapes: (designs, designs)."""
        own = np.diag(self.covariance)
        squares = own[:, None] + own[None, :] - 2 * self.covariance
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    @property
    def df(self) -> float:
        """Return the degrees of freedom of the designs that are like the others."""
        return float(self.free.max())


def fit(scores: Scores, apart: float = APART) -> Fit:
    """Fit score = design + seed + noise by least squares; missing runs are allowed.

    apart: level at which a design counts as noisier than the others. Designs are compared through
    the seeds that they share, directly or over others.
    Raises: StudyError where a design has no score, where the table falls apart into designs
    that share no seed, or where nothing is left to tell the noise from.
    """
    present = ~np.isnan(scores.values)
    for design, row in zip(scores.designs, present):
        if not row.any():
            raise StudyError(f"design {design.name!r} has no score; leave it out")
    solved = _solve(present.tobytes(), *present.shape)
    if not solved.connected:
        raise StudyError("some designs share no seed with the others; train them with common seeds")
    y = scores.values[present]
    df = len(y) - solved.rank
    if df < 1:
        raise StudyError(
            f"{len(y)} runs of {len(scores.designs)} designs leave nothing to tell noise from; "
            "two designs with two common seeds are the least"
        )
    squares = (y - solved.fitted @ y) ** 2
    pooled = float(squares.sum()) / df
    of = np.nonzero(present)[0]
    count = len(scores.designs)
    sums = np.bincount(of, squares, count).astype(float)
    free = np.bincount(of, 1 - np.diag(solved.fitted), count).astype(float)
    variances, moderated = moderate(sums, free, float(df), apart)
    return Fit(
        designs=scores.designs,
        means=solved.weights @ y,
        covariance=(solved.weights * variances[of]) @ solved.weights.T,
        variances=variances,
        free=moderated,
        runs=present.sum(1),
        noise=pooled**0.5,
    )


def restrict(fitted: Fit, names: Iterable[str]) -> Fit:
    """Return the fit of some of its designs, its noise known from all of them."""
    keep = [i for i, d in enumerate(fitted.designs) if d.name in set(names)]
    return Fit(
        designs=tuple(fitted.designs[i] for i in keep),
        means=fitted.means[keep],
        covariance=fitted.covariance[keep][:, keep],
        variances=fitted.variances[keep],
        free=fitted.free[keep],
        runs=fitted.runs[keep],
        noise=fitted.noise,
    )


@dataclass(frozen=True, eq=False)
class _Solution:
    weights: Floats  # (designs, runs): what each run adds to each design's mean
    fitted: Floats  # (runs, runs): the projection onto design + seed
    rank: int
    connected: bool


@functools.lru_cache(maxsize=64)
def _solve(mask: bytes, designs: int, seeds: int) -> _Solution:
    """Solve least squares for one pattern of present runs; means are at the average seed."""
    present = np.frombuffer(mask, dtype=bool).reshape(designs, seeds)
    i, j = np.nonzero(present)
    used = np.unique(j)
    x = np.zeros((len(i), designs + len(used)))
    x[np.arange(len(i)), i] = 1
    x[np.arange(len(i)), designs + np.searchsorted(used, j)] = 1
    inverse = np.linalg.pinv(x)
    average = np.zeros((designs, x.shape[1]))
    average[:, :designs] = np.eye(designs)
    average[:, designs:] = 1 / len(used)
    rank = int(np.linalg.matrix_rank(x))
    return _Solution(average @ inverse, x @ inverse, rank, rank == x.shape[1] - 1)


def moderate(sums: Floats, free: Floats, df: float, apart: float = APART) -> tuple[Floats, Floats]:
    """Return each design's variance drawn toward the pooled one, and its degrees of freedom.

    Shapes: all (designs,); sums of squared residuals and their degrees of freedom, free.
    How far it is drawn depends on how much the designs' variances differ beyond chance: where
    they do not, all are the pooled one. A design that is clearly noisier than the rest together
    keeps its own, with its own few degrees of freedom.
    Source: Smyth 2004, Linear models and empirical Bayes methods (moderated t, equations 3 to 10
    with its estimate of the prior's degrees of freedom).
    Differs: the prior's variance is the pooled one, which is larger and errs to the safe side;
    noisy designs are set apart as in Phipson and others 2016, by an F test each.
    """
    pooled = float(sums.sum()) / df
    usable = (free > 0.25) & (sums > 1e-10 * max(float(sums.max()), 1e-300))
    if usable.sum() < 3:
        return np.full(len(sums), pooled), np.full(len(sums), df)
    half = free[usable] / 2
    logs = np.log(sums[usable] / free[usable]) - digamma(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - polygamma(1, half).mean())
    own = np.where(free > 0, sums / np.maximum(free, 1e-12), pooled)
    variances, degrees = np.full(len(sums), pooled), np.full(len(sums), df)
    if beyond > 0:
        prior = 2 * _trigamma_inverse(beyond)
        variances = (prior * pooled + free * own) / (prior + free)
        degrees = np.full(len(sums), min(prior + float(np.median(free)), df))
    rest = np.maximum((sums.sum() - sums) / np.maximum(df - free, 1e-12), 1e-300)
    tail = fdtrc(np.maximum(free, 1e-6), np.maximum(df - free, 1e-6), own / rest)
    noisy = usable & (tail < apart)
    return np.where(noisy, own, variances), np.where(noisy, np.minimum(free, degrees), degrees)


def _trigamma_inverse(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method. Source: Smyth 2004, appendix."""
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
