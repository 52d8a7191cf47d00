"""Does a choice matter: levels of one choice, common seeds, and a rule when to stop.

After each seed, from the third, two questions are asked: do any two levels differ (Tukey's
simultaneous intervals), and do all lie within the margin of each other (two one-sided tests for
each pair; all must pass, so no correction is due: Berger 1982, Schuirmann 1987)? The first yes
ends it. Each question may err in 5 % over all looks (`sequential`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import StudyError
from nas.evidence.findings import Ablation
from nas.evidence.intervals import MOST_SEEDS, compare, may_be_best, more_seeds
from nas.evidence.paired import Fit, Scores, cheapest_first, fit, restrict
from nas.evidence.quantiles import LEVEL, POWER, Family, student
from nas.evidence.sequential import look_errors
from nas.evidence.verdict import Comparison
from nas.evidence.words import Unit

ERROR = 1 - LEVEL
FIRST_LOOK = 3
# Few levels and many looks: a noisy level does more harm than in a confirmation, and setting it
# apart sooner costs no power that simulations show.
APART = 0.05


@dataclass(frozen=True, slots=True)
class Next:
    """What an ablation wants now: runs, or nothing more, and what is known so far."""

    runs: tuple[tuple[str, int], ...]
    found: Ablation | None


def plan(
    scores: Scores,
    *,
    choice: str,
    unit: Unit,
    margin: float,
    seeds: Sequence[int],
    allowed: float = ERROR,
) -> Next:
    """Return the next runs of an ablation, or its finding.

    scores: levels (role candidate) and controls, and what was run so far. seeds: all that may be
    used, in order; fixed before the first look, since the errors are shared out over them.
    allowed: error of each of the two questions, over all looks. The
    finding is None before the first look, and provisional while there are runs to do.
    Raises: StudyError for a margin that is not positive, fewer than two levels, or three seeds.
    """
    if not margin > 0:
        raise StudyError(f"margin {margin} must be positive: the difference too small to care for")
    if sum(d.role == "candidate" for d in scores.designs) < 2:
        raise StudyError(f"choice {choice!r} needs at least two levels to compare")
    if len(seeds) < FIRST_LOOK:
        raise StudyError(f"{len(seeds)} seeds are too few; an ablation needs {FIRST_LOOK}")
    looks, levels = len(seeds) - FIRST_LOOK + 1, sum(d.role == "candidate" for d in scores.designs)
    differ = look_errors(levels, FIRST_LOOK, looks, allowed)
    equal = look_errors(1, FIRST_LOOK, looks, allowed)
    found: Ablation | None = None
    for done in range(FIRST_LOOK, len(seeds) + 1):
        batch = seeds[:FIRST_LOOK] if done == FIRST_LOOK else seeds[done - 1 : done]
        names = [d.name for d in scores.designs]
        if pending := tuple((n, s) for s in batch for n in names if not scores.ended(n, s)):
            return Next(pending, found)
        look = done - FIRST_LOOK
        found = decide(
            scores.only(names, seeds[:done]),
            choice=choice,
            unit=unit,
            margin=margin,
            error=differ[look],
            equal_error=equal[look],
        )
        if found.outcome != "not resolved":
            break
    return Next((), found)


def decide(
    scores: Scores,
    *,
    choice: str,
    unit: Unit,
    margin: float,
    error: float = ERROR,
    equal_error: float = ERROR,
) -> Ablation:
    """Return what one look at the scores says.

    error: of saying falsely that levels differ; equal_error: that they do not, beyond margin.
    Levels of which a run failed are left out. Raises: StudyError where fewer than two remain.
    """
    bad = [d.name for d, f in zip(scores.designs, scores.failed) if f.any()]
    levels = [d for d in scores.designs if d.role == "candidate" and d.name not in bad]
    if len(levels) < 2:
        raise StudyError(f"choice {choice!r}: fewer than two levels are left without a failed run")
    controls = [d for d in scores.designs if d.role == "control" and d.name not in bad]
    fitted = fit(scores.only([d.name for d in (*levels, *controls)]), APART)
    part = restrict(fitted, [d.name for d in levels])
    order = [part.designs[i].name for i in np.argsort(-part.means, kind="stable")]
    family = Family("pairs", len(levels))
    comparisons = tuple(
        compare(part, order[0], other, family, 1 - error, more=False) for other in order[1:]
    )
    within = _all_within(part, equal_error)
    differ = any(c.word == "better" for c in comparisons)
    marks, _, _ = may_be_best(part, 1 - error)
    able = [d for d, m in zip(part.designs, marks) if m]
    equal = within <= margin
    cheapest = cheapest_first(part.designs if equal else able)[0].name
    return Ablation(
        choice=choice,
        unit=unit,
        outcome="does not matter" if equal else "matters" if differ else "not resolved",
        margin=margin,
        seeds=int(fitted.runs.max()),
        noise=fitted.noise,
        best=order[0],
        comparisons=comparisons,
        within=within,
        chosen=cheapest,
        may_be_best=tuple(d.name for d in cheapest_first(able)),
        controls=_against(fitted, order[0], [d.name for d in controls], len(levels), error),
        more_seeds=None
        if equal or differ
        else _resolving(part, comparisons[-1], margin, error, equal_error),
        failed=tuple(bad),
    )


def _against(
    fitted: Fit, best: str, controls: Sequence[str], levels: int, error: float
) -> tuple[Comparison, ...]:
    """Compare the best looking level with the controls, its selection allowed for."""
    family = Family("leader", levels, len(controls))
    return tuple(compare(fitted, best, c, family, 1 - error, more=False) for c in controls)


def _all_within(part: Fit, error: float) -> float:
    """Return the smallest margin within which all levels are equal by two one-sided tests."""
    gaps = np.abs(part.means[:, None] - part.means[None, :])
    reach = np.array([student(1 - error, float(f)) for f in part.free])
    return float((gaps + np.maximum(reach[:, None], reach[None, :]) * part.se()).max())


def _resolving(
    part: Fit, largest: Comparison, margin: float, error: float, equal_error: float
) -> int | None:
    """Return how many more seeds would show the largest difference, or that all are equal."""
    sd = float(np.sqrt(2 * part.variances.mean()))
    now, count = int(part.runs.min()), len(part.designs)
    family = Family("pairs", count)
    found = more_seeds(largest.estimate, sd, now, count, family, 1 - error)
    spare = margin - largest.estimate
    if spare > 0:
        reach = student(1 - equal_error, part.df) + student(POWER, part.df)
        needed = int(np.ceil((reach * sd / spare) ** 2))
        if needed <= MOST_SEEDS:
            equal = max(needed - now, 1)
            found = equal if found is None else min(found, equal)
    return found
