"""Which candidates of a search are worth a confirmation: all that single runs cannot put behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.errors import StudyError
from nas.evidence.paired import Design, cheapest_first
from nas.evidence.quantiles import LEVEL, Family, critical
from nas.evidence.reliability import measured_for
from nas.study.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Noise:
    """How far single runs of one design scatter.

    sd: standard deviation of a run's score, as designs are compared (with one seed, where the
    study's designs share it). df: degrees of freedom of that estimate.
    """

    sd: float
    df: float

    def __post_init__(self) -> None:
        if not (self.sd >= 0 and math.isfinite(self.sd) and self.df > 0):
            raise StudyError(f"noise {self.sd} with {self.df} degrees of freedom is no estimate")


def noise_of(recipe: Recipe) -> Noise | None:
    """Return the noise of one run under a recipe, where the shipped measurement is of it."""
    known = measured_for(recipe.fingerprint())
    if known is None:
        return None
    return Noise(known.noise_same_seed, (known.designs - 1) * (known.seeds - 1))


@dataclass(frozen=True, slots=True)
class Finalists:
    """The choice and what it leaves out.

    names: best score first. within: candidates that are not distinguishably behind the best
    score; more than `names` where there was room for `most` only. behind: scores lower than the
    best by more than this are behind.
    """

    names: tuple[str, ...]
    within: int
    behind: float

    @property
    def left_out(self) -> int:
        """Return how many candidates might be the best and are not confirmed for want of room."""
        return self.within - len(self.names)


def choose_finalists(
    scores: Mapping[str, float],
    noise: Noise,
    most: int,
    *,
    designs: Sequence[Design] = (),
    level: float = LEVEL,
) -> Finalists:
    """Return the candidates to confirm, at most `most`, by the scores of their search runs.

    scores: a finished candidate's score, or its mean where it ran more than once (which is taken
    as one run: conservative). designs: their costs; of equal scores the cheaper goes first.
    Without the limit, the best candidate of all is among them with probability `level` (Gupta
    1965); the limit takes the highest scores.
    """
    if most < 1:
        raise StudyError(f"{most} finalists are none; confirm at least 1")
    if not scores:
        raise StudyError("no candidate has a score, so there is nothing to confirm")
    prices = {d.name: i for i, d in enumerate(cheapest_first(designs))}
    ranked = sorted(scores, key=lambda n: (-scores[n], prices.get(n, len(prices)), n))
    behind = math.inf
    if len(ranked) > 1:
        crit = critical(Family("best", len(ranked) - 1), noise.df, level)
        behind = crit * noise.sd * math.sqrt(2)
    within = [n for n in ranked if scores[n] >= scores[ranked[0]] - behind]
    return Finalists(tuple(within[:most]), len(within), behind)
