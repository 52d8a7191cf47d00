"""What each choice of a space does to the score, from a study's own runs at equal cost.

Main effects by least squares with standard errors that need no equal variance (HC3, MacKinnon
and White 1985), one row a design: repeated runs are averaged first, since runs of one design are
no separate evidence about choices. A study's designs are not drawn at random, and its scores are
of one recipe: effects are of this proxy, in this space.

Assumed: choices act additively beside what the interactions show; a strategy that learns follows
the scores, which leaves effects unbiased as long as the model holds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from nas.errors import StudyError
from nas.evidence.findings import Analysis, FactorEffect, Interaction, LevelEffect
from nas.evidence.intervals import holm
from nas.evidence.paired import Floats
from nas.evidence.quantiles import LEVEL
from nas.evidence.words import Unit

RARE = 3  # designs; a level with fewer is put together with the other rare ones
OTHER = "other"
ABSENT = "absent"  # the level of a choice that a design does not have
_PER_COLUMN = 2.0  # designs that each column of the joint model must have
_STRONGEST = 10
_TREES, _SHUFFLES, _FOLDS, _SEED = 200, 10, 5, 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a study: the design's name and choices, its score, its cost.

    cost: FLOPs or another budgeted number; its logarithm is a covariate. None: not known.
    """

    design: str
    choices: Mapping[str, str]
    score: float
    cost: float | None = None


@dataclass(frozen=True, eq=False)
class _Table:
    """One row a design. Shapes: y, runs (designs,); cost (designs, 0 or 1)."""

    names: tuple[str, ...]
    levels: dict[str, list[str]]
    pooled: dict[str, tuple[str, ...]]
    y: Floats
    runs: Floats
    cost: Floats
    columns: dict[str, Floats] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)


def analyze(
    samples: Sequence[Sample],
    *,
    unit: Unit,
    noise: float | None = None,
    stages: Mapping[str, int] | None = None,
    importance: bool = True,
) -> Analysis:
    """Return effects of all choices that vary, the strongest interactions, and what is left.

    noise: standard deviation of one run, from a confirmation or the proxy's reliability; without
    it, from designs that ran more than once, if there are any.
    stages: choice -> stage, where it belongs to one. importance: whether to fit the forest.
    Where there are fewer than two designs a column, each choice is fitted without the others
    (`adjusted` is False), which confounds choices that went together.
    Raises: StudyError for fewer than 8 designs or no choice that varies.
    """
    table = _tabulate(samples)
    names = list(table.columns)
    joint = _PER_COLUMN * (1 + sum(c.shape[1] for c in table.columns.values())) <= len(table.y)
    fitted = [_effect(table, n, names if joint else [n], stages or {}, joint) for n in names]
    corrected = holm(tuple(f.p_value for f in fitted))
    weights = _importance(table, names) if importance else dict.fromkeys(names)
    factors = tuple(
        f.model_copy(update={"p_holm": p, "importance": weights[f.factor]})
        for f, p in zip(fitted, corrected)
    )
    explained, total = _explained(table, names if joint else [])
    noise = _repeats(samples) if noise is None else noise
    share = left = None
    if noise is not None and total > 0:
        share = min(1.0, noise**2 * float(np.mean(1 / table.runs)) / total)
        left = max(0.0, 1 - explained - share)
    return Analysis(
        unit=unit,
        designs=len(table.y),
        factors=factors,
        interactions=_interactions(table, names) if joint else (),
        explained=explained,
        noise=share,
        unexplained=left,
    )


def _tabulate(samples: Sequence[Sample]) -> _Table:
    """Average the runs of each design and code its choices."""
    of: dict[str, list[Sample]] = {}
    for s in samples:
        if math.isfinite(s.score):
            of.setdefault(s.design, []).append(s)
    if len(of) < 8:
        raise StudyError(f"{len(of)} designs with a score are too few to analyze; 8 are needed")
    firsts = [runs[0] for runs in of.values()]
    names = sorted({n for s in firsts for n in s.choices})
    costs = [s.cost for s in firsts]
    logs = np.log([c for c in costs if c is not None and c > 0])
    vary = len(logs) == len(costs) and float(np.ptp(logs)) > 1e-9
    table = _Table(
        names=tuple(of),
        levels={},
        pooled={},
        y=np.array([float(np.mean([s.score for s in runs])) for runs in of.values()]),
        runs=np.array([float(len(runs)) for runs in of.values()]),
        cost=(logs - logs.mean())[:, None] if vary else np.zeros((len(of), 0)),
    )
    for name in names:
        _code(table, name, [str(s.choices.get(name, ABSENT)) for s in firsts])
    if not table.columns:
        raise StudyError("no choice varies over the study's designs; there is nothing to analyze")
    return table


def _code(table: _Table, name: str, values: list[str]) -> None:
    """Add a choice's indicator columns, rare levels pooled, the most frequent one left out."""
    counts = Counter(values)
    rare = sorted(v for v, n in counts.items() if n < RARE)
    if len(rare) == 1 and counts[rare[0]] == 1 and len(counts) > 2:
        # One design has no spread to tell an interval from; it joins the next rarest level.
        rare = sorted(sorted(counts, key=lambda v: (counts[v], v))[:2])
    if len(rare) > 1:
        values = [OTHER if v in rare else v for v in values]
        counts = Counter(values)
    kept = sorted(v for v, n in counts.items() if n >= 2)
    if len(kept) < 2:
        return
    reference = max(kept, key=lambda v: (counts[v], v))
    shown = [v for v in sorted(counts) if v != reference]
    table.levels[name] = values
    table.pooled[name] = tuple(rare) if len(rare) > 1 else ()
    table.references[name] = reference
    table.shown[name] = shown
    table.columns[name] = np.array([[v == level for level in shown] for v in values], dtype=float)


def _design(table: _Table, names: Sequence[str]) -> Floats:
    ones = np.ones((len(table.y), 1))
    return np.hstack([ones, *(table.columns[n] for n in names), table.cost])


def _least_squares(table: _Table, x: Floats) -> Any:
    from statsmodels.regression.linear_model import OLS

    return OLS(table.y, x).fit(cov_type="HC3", use_t=True)


def _effect(
    table: _Table, name: str, names: Sequence[str], stages: Mapping[str, int], joint: bool
) -> FactorEffect:
    """Fit one factor, others as `names` says, and test it by a robust F test."""
    start = 1 + sum(table.columns[n].shape[1] for n in names[: list(names).index(name)])
    width = table.columns[name].shape[1]
    x = _design(table, names)
    if np.linalg.matrix_rank(x) < x.shape[1] and len(names) > 1:
        # Choices that went together in all designs cannot be told apart: fit this one alone.
        return _effect(table, name, [name], stages, False)
    fitted = _least_squares(table, x)
    low, high = np.asarray(fitted.conf_int(alpha=1 - LEVEL)).T
    counts = Counter(table.levels[name])
    test = fitted.f_test(np.eye(x.shape[1])[start : start + width])
    p_value = float(np.squeeze(test.pvalue))
    return FactorEffect(
        factor=name,
        stage=stages.get(name),
        reference=table.references[name],
        levels=tuple(
            LevelEffect(
                level=level,
                designs=counts[level],
                estimate=float(fitted.params[start + i]),
                low=float(low[start + i]),
                high=float(high[start + i]),
            )
            for i, level in enumerate(table.shown[name])
        ),
        p_value=1.0 if math.isnan(p_value) else p_value,
        p_holm=1.0,
        importance=None,
        adjusted=joint,
        pooled=table.pooled[name],
    )


def _explained(table: _Table, names: Sequence[str]) -> tuple[float, float]:
    """Return adjusted R2 of the joint model, and the whole variance."""
    total = float(np.var(table.y, ddof=1))
    if not names or total == 0:
        return 0.0, total
    x = _design(table, names)
    rank = int(np.linalg.matrix_rank(x))
    rest = table.y - x @ np.linalg.lstsq(x, table.y, rcond=None)[0]
    residual = float((rest**2).sum()) / max(len(table.y) - rank, 1)
    return min(1.0, max(0.0, 1 - residual / total)), total


def _repeats(samples: Sequence[Sample]) -> float | None:
    """Return the standard deviation of runs of one design, pooled; None where none was repeated."""
    of: dict[str, list[float]] = {}
    for s in samples:
        of.setdefault(s.design, []).append(s.score)
    df = sum(len(v) - 1 for v in of.values())
    squares = sum(float(np.var(v)) * len(v) for v in of.values())
    return math.sqrt(squares / df) if df else None


def _interactions(table: _Table, names: Sequence[str]) -> tuple[Interaction, ...]:
    """Test each pair's product beside all main effects, smallest p first.

    The usual F test, since HC3 has no say on cells with one design. A pair is left out where its
    product adds nothing that the data could tell, or leaves fewer than `_PER_COLUMN` designs a
    column.
    """
    from scipy.special import fdtrc

    base = _design(table, names)
    rank, rest = _residual(base, table.y)
    found: list[tuple[str, str, float, float]] = []
    for first, second in combinations(names, 2):
        a, b = table.columns[first], table.columns[second]
        product = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
        wider, less = _residual(np.hstack([base, product]), table.y)
        df1, df2 = wider - rank, len(table.y) - wider
        if df1 < 1 or len(table.y) < _PER_COLUMN * wider or less <= 0:
            continue
        f = (rest - less) / df1 / (less / df2)
        found.append((first, second, float(fdtrc(df1, df2, max(f, 0.0))), 1 - less / rest))
    corrected = holm(tuple(p for _, _, p, _ in found))
    made = [
        Interaction(first=a, second=b, p_value=p, p_holm=q, explained=e)
        for (a, b, p, e), q in zip(found, corrected)
    ]
    return tuple(sorted(made, key=lambda i: i.p_value)[:_STRONGEST])


def _residual(x: Floats, y: Floats) -> tuple[int, float]:
    beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    return int(rank), float(((y - x @ beta) ** 2).sum())


def _importance(table: _Table, names: Sequence[str]) -> dict[str, float | None]:
    """Return the loss of R2 out of sample when a choice is shuffled, all its columns together.

    A random forest, five folds; not below 0. Source: Breiman 2001; scikit-learn's
    permutation_importance, with levels as ordinal codes so that a choice is one column.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    codes = np.array(
        [[sorted(set(table.levels[n])).index(v) for v in table.levels[n]] for n in names],
        dtype=float,
    ).T
    sums = np.zeros(len(names))
    for train, test in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(codes):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=_SEED)
        forest.fit(codes[train], table.y[train])
        shuffled = permutation_importance(
            forest, codes[test], table.y[test], n_repeats=_SHUFFLES, random_state=_SEED,
            scoring="neg_mean_squared_error",
        )  # fmt: skip
        sums += shuffled.importances_mean
    total = float(np.var(table.y))
    return {n: max(0.0, float(s) / _FOLDS / total) if total else 0.0 for n, s in zip(names, sums)}
