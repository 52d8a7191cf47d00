"""Which designs of a search train longer, to see how far its ranking can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import StudyError
from nas.store import confirmations
from nas.store.session import Store
from nas.study.comparison import Compared, FidelityAsked
from nas.study.outcomes import Outcome
from nas.study.proposals import CANDIDATE
from nas.study.recipe import Recipe

LEAST_DESIGNS = 5
TIMES = (4.0, 10.0)


def fidelity_of(
    store: Store,
    study_id: int,
    recipe: Recipe,
    *,
    designs: int,
    times: Sequence[float] = TIMES,
    longer: Recipe | None = None,
) -> FidelityAsked:
    """Return a sample of a search's candidates, one from each stratum of their scores.

    times: how many times longer than the search's recipe. longer: a recipe in place of these.
    Raises: StudyError for too few candidates with a score, or a recipe without epochs.
    """
    ended = store.read(lambda s: confirmations.searched(s, study_id))
    scored = {
        f.run.fingerprint: f
        for f in ended
        if f.run.role == CANDIDATE
        and f.run.state == Outcome.COMPLETE.value
        and f.run.score is not None
    }
    count = min(designs, len(scored))
    if count < LEAST_DESIGNS:
        raise StudyError(
            f"{count} candidates with a score have hardly a ranking; {LEAST_DESIGNS} are needed: "
            "raise --designs, or search on with `resume --trials`"
        )
    if recipe.evaluate is not None and longer is None:
        raise StudyError("your own evaluation has no epochs to add; give a longer --recipe")
    ranked = sorted(scored.values(), key=lambda f: (-(f.run.score or 0.0), f.run.proposal))
    chosen = [ranked[int((i + 0.5) * len(ranked) / count)] for i in range(count)]
    if longer is None:
        recipes = [(t, recipe.model_copy(update={"epochs": _epochs(recipe, t)})) for t in times]
    else:
        recipes = [(longer.epochs / recipe.epochs, longer)]
    return FidelityAsked(
        recipes=tuple((t, r.to_dict()) for t, r in recipes),
        designs=tuple(
            Compared(
                name=f"trial {f.run.trial_number}",
                fingerprint=f.run.fingerprint,
                config=f.config,
                flops=f.flops,
                params=f.params,
            )
            for f in chosen
        ),
    )


def _epochs(recipe: Recipe, times: float) -> int:
    epochs = round(recipe.epochs * times)
    if epochs <= recipe.epochs:
        raise StudyError(
            f"{times:g} times {recipe.epochs} epochs are not longer; give e.g. --times 4 --times 10"
        )
    return epochs
