"""Which candidate a search ends with: of those that one run each cannot tell apart, the cheapest.

Only what the proxy's noise is known of can be called a tie; where it is not, equal scores are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.evidence.finalists import Noise, choose_finalists, noise_of
from nas.evidence.paired import Design, cheapest_first
from nas.evidence.words import Unit, difference, plural
from nas.study.recipe import Recipe

MOST = 10_000  # all that a study may have


@dataclass(frozen=True, slots=True)
class Preferred:
    """The candidate that is taken.

    trial: its number. best: that of the highest score, which may be another. tied: how many others
    cannot be told from the best. behind: lower scores than the best by more than this can. by: what
    decides among them.
    """

    trial: int
    best: int
    tied: int
    behind: float
    by: str

    def sentence(self, unit: Unit) -> str | None:
        """Say why this one is taken; None where nothing is tied with it."""
        if not self.tied:
            return None
        lead = "" if self.trial == self.best else f" in place of trial {self.best}, the best score"
        reach = f" (below {difference(self.behind, unit, sign=False)})" if self.behind else ""
        return (
            f"one run each cannot tell {plural(self.tied, 'other candidate')} from the best score"
            f"{reach}: the cheapest of them by {self.by} is taken, trial {self.trial}{lead}"
        )


def prefer(rows: Sequence[dict[str, Any]], noise: Noise | None) -> Preferred | None:
    """Return the cheapest candidate among those that may be the best; None without candidates.

    rows: trial, score, params and latency_ms (None where it was not measured) of every candidate.
    noise: of one run, None where it is not known. Cheap is by latency where all of the tied have
    one, then by parameters.
    """
    if not rows:
        return None
    of = {str(row["trial"]): row for row in rows}
    every = [
        Design(name=name, latency_ms=row["latency_ms"], params=row["params"])
        for name, row in of.items()
    ]
    scores = {name: row["score"] for name, row in of.items()}
    chosen = choose_finalists(scores, noise or Noise(0.0, 1.0), MOST, designs=every)
    designs = [d for d in every if d.name in set(chosen.names)]
    timed = all(d.latency_ms is not None for d in designs)
    return Preferred(
        trial=of[cheapest_first(designs)[0].name]["trial"],
        best=of[chosen.names[0]]["trial"],
        tied=len(designs) - 1,
        behind=0.0 if noise is None else chosen.behind,
        by="latency" if timed else "parameters",
    )


def preferred(rows: Sequence[dict[str, Any]], recipe: Mapping[str, Any]) -> Preferred | None:
    """Return what `prefer` does, with the noise that was measured of a stored recipe."""
    return prefer(rows, noise_of(Recipe.model_validate(dict(recipe))))
