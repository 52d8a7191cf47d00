"""Which kinds of choice a recipe's scores see, and whether with the published sign.

All designs of a panel train with common seeds under one recipe; the noise of a run is pooled over
the panel, so that few seeds are enough for each kind of choice. Designs whose runs scatter clearly
more than the others' (some diverge) stay out of the pool, and are compared by noise of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from nas.evidence.intervals import compare, holm
from nas.evidence.levels import LevelRun, detectable_spread, level_test
from nas.evidence.paired import APART, Fit, Scores, fit, restrict
from nas.evidence.quantiles import LEVEL, Family
from nas.evidence.reliability import ChoiceReliability, Direction, Word


@dataclass(frozen=True)
class Published:
    """A direction that a paper reports: one level of a kind of choice over another.

    source: the paper and its values. binding: the proxy ought to agree. tasks: where it is claimed;
    empty for all.
    """

    kind: str
    better: str
    worse: str
    source: str
    binding: bool = False
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """Scores with their fits: of calm designs, and of each noisy one beside them."""

    scores: Scores
    calm: Fit
    noisy: tuple[str, ...]
    everything: Fit

    @classmethod
    def of(cls, scores: Scores) -> Panel:
        """Fit a table. Raises: StudyError as `fit`."""
        noisy = noisier(scores)
        calm = [d.name for d in scores.designs if d.name not in noisy]
        return cls(scores, fit(scores.only(calm)), noisy, fit(scores))

    def fit(self, names: Iterable[str]) -> Fit:
        """Return the fit to compare some designs by: without noisy ones that are none of them."""
        own = set(names) & set(self.noisy)
        if not own:
            return self.calm
        calm = {d.name for d in self.calm.designs}
        return fit(self.scores.only(calm | own))


def noisier(scores: Scores) -> tuple[str, ...]:
    """Return the designs whose runs scatter clearly more than those of the others together.

    One after the other, by the F test of what leaving a design out takes from the residual, at
    `APART` over all designs (Bonferroni).
    """
    found: list[str] = []
    while True:
        kept = [d.name for d in scores.designs if d.name not in found]
        if len(kept) < 4:
            return tuple(found)
        whole, df = _residual(scores, kept)
        tails = {}
        for name in kept:
            rest, without = _residual(scores, [n for n in kept if n != name])
            if df > without > 0 and rest > 0:
                f = (whole - rest) / (df - without) / (rest / without)
                tails[name] = float(fdtrc(df - without, without, max(f, 0.0)))
        worst = min(tails, key=tails.__getitem__, default=None)
        if worst is None or tails[worst] > APART / len(kept):
            return tuple(found)
        found.append(worst)


def _residual(scores: Scores, names: Sequence[str]) -> tuple[float, int]:
    """Return the sum of squares that designs and seeds leave, and its degrees of freedom."""
    part = scores.only(names)
    present = ~np.isnan(part.values)
    df = int(present.sum()) - len(names) - int(present.any(0).sum()) + 1
    return fit(part).noise ** 2 * df, df


def kinds_seen(
    panel: Panel, kinds: Mapping[str, Mapping[str, str]]
) -> tuple[ChoiceReliability, ...]:
    """Test each kind of choice: do its levels differ (F test, Holm over all kinds)?

    kinds: kind -> level -> design. Levels whose design has no score are left out, and kinds of
    fewer than two levels.
    """
    known = {d.name for d in panel.scores.designs}
    whole = {
        kind: present
        for kind, levels in kinds.items()
        if len(present := {v: d for v, d in levels.items() if d in known}) > 1
    }
    strict = 1 - (1 - LEVEL) / max(1, len(whole))
    fits = {kind: panel.fit(levels.values()) for kind, levels in whole.items()}
    tests = {k: _test(panel.scores, fits[k], levels, strict) for k, levels in whole.items()}
    adjusted = holm(tuple(p for p, *_ in tests.values()))
    return tuple(
        ChoiceReliability(
            kind=kind,
            levels=tuple(whole[kind]),
            means=tuple(float(fits[kind].means[fits[kind].index(d)]) for d in whole[kind].values()),
            runs=runs,
            eta_squared=eta,
            epsilon_squared=epsilon,
            p_value=p,
            p_holm=corrected,
            spread=spread,
            detectable=least,
            seen=corrected < 1 - LEVEL,
        )
        for (kind, (p, runs, eta, epsilon, spread, least)), corrected in zip(
            tests.items(), adjusted
        )
    )


def _test(
    scores: Scores, fitted: Fit, levels: Mapping[str, str], strict: float
) -> tuple[float, int, float, float, float, float]:
    """Return p, runs, eta squared, epsilon squared, spread, and the least spread to be seen."""
    part = restrict(fitted, levels.values())
    contrasts = np.hstack([-np.ones((len(levels) - 1, 1)), np.eye(len(levels) - 1)])
    gaps = contrasts @ part.means
    f = float(gaps @ np.linalg.solve(contrasts @ part.covariance @ contrasts.T, gaps))
    df1, df2 = len(levels) - 1, float(part.free.min())
    own = scores.only(levels.values())
    runs = [
        LevelRun(d.name, "all", seed, float(score))
        for d, row in zip(own.designs, own.values)
        for seed, score in zip(own.seeds, row)
        if not np.isnan(score)
    ]
    alone = level_test(runs)
    noise = float(part.variances.mean())
    return (
        float(fdtrc(df1, df2, f / df1)),
        alone.runs,
        alone.eta_squared,
        alone.epsilon_squared,
        float(np.ptp(part.means)),
        detectable_spread(df1, df2, noise, float(part.runs.mean()), strict),
    )


def directions_seen(
    panel: Panel,
    kinds: Mapping[str, Mapping[str, str]],
    published: Sequence[Published],
    task: str,
) -> tuple[Direction, ...]:
    """Say of each published direction that holds for a task whether the scores agree with it.

    Intervals hold together (Bonferroni).
    """
    known = {d.name for d in panel.scores.designs}
    asked = [
        (p, kinds[p.kind][p.better], kinds[p.kind][p.worse])
        for p in published
        if p.kind in kinds
        and (not p.tasks or task in p.tasks)
        and {p.better, p.worse} <= set(kinds[p.kind])
        and {kinds[p.kind][p.better], kinds[p.kind][p.worse]} <= known
    ]
    level = 1 - (1 - LEVEL) / max(1, len(asked))
    words: dict[str, Word] = {"better": "agrees", "worse": "reversed"}
    found = []
    for p, better, worse in asked:
        fitted = panel.fit((better, worse))
        c = compare(fitted, better, worse, Family("control", 1), level, more=False)
        found.append(
            Direction(
                kind=p.kind,
                better=p.better,
                worse=p.worse,
                source=p.source,
                binding=p.binding,
                estimate=c.estimate,
                low=c.low,
                high=c.high,
                detectable=c.detectable,
                proxy=words.get(c.word, "not resolved"),
            )
        )
    return tuple(found)


def best_of(fitted: Fit, variants: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return, of each group of designs, the one with the highest mean; groups without one drop."""
    means = {d.name: float(m) for d, m in zip(fitted.designs, fitted.means)}
    known = {name: [v for v in own if v in means] for name, own in variants.items()}
    return {name: max(own, key=means.__getitem__) for name, own in known.items() if own}
