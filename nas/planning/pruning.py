"""Asynchronous successive halving: at each rung only the best third of the designs goes on.

The rungs are epochs; what other trials showed there is handed in, so that a study that is
continued, or has several drivers, prunes as one.

Source: ASHA, Li et al., arXiv 1810.05934, algorithm 2, in the form that stops trials in place of
promoting them. Differs: baselines are the yardstick and always run to the end.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_RUNG = 1
FACTOR = 3


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a trial may be stopped."""
    found, epoch = [], FIRST_RUNG
    while epoch < epochs:
        found.append(epoch)
        epoch *= FACTOR
    return tuple(found)


class Pruner:
    """Remembers what trials showed at the rungs, and decides who stops."""

    def __init__(self, epochs: int) -> None:
        self.rungs = rungs(epochs)
        self.seen: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}

    def learn(self, shown: Iterable[tuple[int, int, float]]) -> None:
        """Take over (run, epoch, score) of candidates at the rungs."""
        for run_id, epoch, score in shown:
            self.seen[epoch][run_id] = score

    def stops(self, run_id: int, epoch: int, score: float) -> bool:
        """Record a candidate's epoch; return whether it shall be its last."""
        rung = self.seen.get(epoch)
        if rung is None:
            return False
        rung[run_id] = score
        better = sum(value > score for value in rung.values())
        return len(rung) >= FACTOR and better >= len(rung) / FACTOR
