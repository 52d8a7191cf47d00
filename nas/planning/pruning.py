"""Asynchronous successive halving: at each rung only the best third of the designs goes on.

The rungs are epochs; what other trials showed there is read from the database, so that a study
that is continued, or has several drivers, prunes as one.

Source: ASHA, Li et al., arXiv 1810.05934, algorithm 2, in the form that stops trials in place of
promoting them. Differs: baselines are the yardstick and always run to the end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.store.tables import Epoch, Run
from nas.study.proposals import CANDIDATE

if TYPE_CHECKING:
    from nas.study.recipe import Recipe

PRUNERS = ("none", "asha")
FIRST_RUNG = 1
FACTOR = 3


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a trial may be stopped."""
    found, epoch = [], FIRST_RUNG
    while epoch < epochs:
        found.append(epoch)
        epoch *= FACTOR
    return tuple(found)


def epoch_score(recipe: Recipe, val_top1: float, val_loss: float | None) -> float:
    """Return the score of an epoch as the recipe defines it; of no finite loss, zero."""
    if recipe.score == "top1":
        return val_top1
    return 0.0 if val_loss is None or not math.isfinite(val_loss) else math.exp(-val_loss)


class Pruner:
    """Remembers what trials showed at the rungs, and decides who stops."""

    def __init__(self, study_id: int, recipe: Recipe) -> None:
        self.study_id, self.recipe = study_id, recipe
        self.rungs = rungs(recipe.epochs)
        self.seen: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}

    def learn(self, session: Session) -> None:
        """Read the rungs of all candidates of the study."""
        query = (
            select(Run.id, Epoch.epoch, Epoch.metrics)
            .join(Run, Run.id == Epoch.run_id)
            .where(
                Run.study_id == self.study_id,
                Run.newest,
                Run.role == CANDIDATE,
                Epoch.epoch.in_(self.rungs),
            )
        )
        for run_id, epoch, metrics in session.execute(query):
            self.seen[epoch][run_id] = self._score(metrics)

    def stops(self, run_id: int, metrics: dict[str, Any]) -> bool:
        """Record a candidate's epoch; return whether it shall be its last."""
        rung = self.seen.get(metrics["epoch"])
        if rung is None:
            return False
        mine = rung[run_id] = self._score(metrics)
        better = sum(value > mine for value in rung.values())
        return len(rung) >= FACTOR and better >= len(rung) / FACTOR

    def _score(self, metrics: dict[str, Any]) -> float:
        return epoch_score(self.recipe, metrics["val_top1"] or 0.0, metrics["val_loss"])
