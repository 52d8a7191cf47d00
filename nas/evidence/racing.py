"""Which runs a confirmation does next: who is clearly behind is dropped, the rest gets the runs.

Pure and deterministic: the whole course of a race is read off the scores, seed by seed, so that
a driver that was killed asks again and gets the same answer. A run is asked for once; one that
failed by its design's own fault counts as done.

Source: racing after Maron and Moore 1994; dropping by simultaneous one-sided bounds (Hsu 1984),
its error shared evenly over the looks (Bonferroni, so it holds however the looks depend).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import StudyError
from nas.evidence.intervals import may_be_best
from nas.evidence.paired import Scores, fit, restrict

DROP_ERROR = 0.02  # probability that the best finalist is dropped, over the whole race
FIRST_LOOK = 2  # seeds before anything is dropped


@dataclass(frozen=True, slots=True)
class Step:
    """What a race wants now.

    runs: (design, seed) to train, those of one step in any order; empty when the race is over.
    alive: finalists still in it. dropped: those clearly behind, first dropped first.
    """

    runs: tuple[tuple[str, int], ...]
    alive: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether nothing is left to run."""
        return not self.runs


def plan(scores: Scores, *, seeds: Sequence[int], runs: int) -> Step:
    """Return the next runs of a race, or that it is over.

    scores: all finalists (role candidate) and baselines as designs, and what was run so far with
    `seeds`, in the order in which they are used. runs: how many the whole race may take; all
    finalists and baselines with R seeds are `runs = designs * R`. Baselines stay to the end.
    Raises: StudyError where the runs do not suffice for two seeds each.
    """
    finalists = tuple(d.name for d in scores.designs if d.role == "candidate")
    always = tuple(d.name for d in scores.designs if d.role != "candidate")
    if not finalists:
        raise StudyError("a race needs at least one finalist")
    least = FIRST_LOOK * len(scores.designs)
    if runs < least or len(seeds) < FIRST_LOOK:
        raise StudyError(
            f"{runs} runs with {len(seeds)} seeds are too few for {len(scores.designs)} designs "
            f"with {FIRST_LOOK} seeds each; at least {least} runs and {FIRST_LOOK} seeds"
        )
    looks = min(len(seeds), runs // (1 + len(always))) - FIRST_LOOK + 1
    alive, used = finalists, 0
    dropped: tuple[str, ...] = ()
    for done in range(len(seeds)):
        entrants = (*alive, *always)
        if used + len(entrants) > runs or len(entrants) < 2:
            break
        batch = seeds[:FIRST_LOOK] if done < FIRST_LOOK else seeds[done : done + 1]
        if pending := tuple((n, s) for s in batch for n in entrants if not scores.ended(n, s)):
            return Step(pending, alive, dropped)
        used += len(entrants)
        if done + 1 >= FIRST_LOOK:
            behind = clearly_behind(scores, alive, seeds[: done + 1], DROP_ERROR / looks)
            alive = tuple(n for n in alive if n not in behind)
            dropped = (*dropped, *behind)
    return Step((), alive, dropped)


def clearly_behind(
    scores: Scores, alive: Sequence[str], seeds: Sequence[int], error: float
) -> tuple[str, ...]:
    """Return the finalists that are not the best of those alive, at this probability of error.

    All designs of the table tell the noise; a design whose runs all failed is behind as well.
    """
    part = scores.only([d.name for d in scores.designs], seeds)
    scored = [d.name for d, v in zip(part.designs, part.values) if not np.isnan(v).all()]
    lost = [n for n in alive if n not in scored]
    racing = [n for n in alive if n in scored]
    if len(racing) < 2:
        return tuple(lost) if racing else ()
    able, _, _ = may_be_best(restrict(fit(part.only(scored)), racing), 1 - error)
    return (*lost, *(n for n, may in zip(racing, able) if not may))
