"""When further candidates have stopped to pay: the best score moves no more than noise does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.evidence.finalists import noise_of
from nas.evidence.words import difference
from nas.study.recipe import Recipe
from nas.study.tasks import metric_of


def noise_of_best(best: float, recipe: Recipe) -> tuple[float, str]:
    """Return how far a best score moves by chance, and how that is known.

    One standard deviation: as measured for the recipe, else that of counting right answers on as
    many images as the validation split has, which leaves out what training adds.
    """
    if (measured := noise_of(recipe)) is not None:
        return measured.sd, "the noise of one run"
    if recipe.score == "top1" and recipe.val_size and 0 <= best <= 1:
        counted = math.sqrt(best * (1 - best) / recipe.val_size)
        return counted, f"what {recipe.val_size} validation images tell at best"
    return 0.0, "anything: the noise of this recipe is not known"


def settled(scores: Sequence[float | None], patience: int, recipe: Recipe) -> str | None:
    """Return why a search is over, in words; None while it is not.

    scores: of the candidates in the order they ended, None for one without. patience: how many
    of the last ones may leave the best where it was.
    """
    before = [s for s in scores[:-patience] if s is not None]
    if not before:
        return None
    was, now = max(before), max(s for s in scores if s is not None)
    noise, known_as = noise_of_best(was, recipe)
    if now - was > noise:
        return None
    size = difference(noise, metric_of(recipe.to_dict()).unit, sign=False)
    moved = f"by {size}, {known_as}," if noise else f"by {known_as}"
    return f"the best score has not moved {moved} for {patience} candidates"
