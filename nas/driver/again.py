"""Designs that train again with common seeds: writing the next training, reading the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from backbones.config import BackboneConfig
from backbones.outside import read_design
from nas.driver.access import Access
from nas.driver.proposing import Proposing
from nas.evidence.paired import Design, Scores
from nas.planning.meters import measured
from nas.store.tables import Architecture, Run
from nas.study.attempts import ENDED
from nas.study.comparison import Compared
from nas.study.outcomes import Outcome
from nas.study.proposals import NewProposal
from nas.study.recipe import Recipe


def write(
    access: Access,
    proposing: Proposing,
    design: Architecture | Compared,
    *,
    role: str,
    kind: str,
    label: str,
    index: int,
    split: str,
    recipe: Recipe | None = None,
) -> tuple[Run, Architecture] | None:
    """Write a training with the study's `index`-th seed; None when another driver was faster.

    recipe: to train with, and to name in the row; the study's own by default.
    """
    settings = access.settings
    proposing.sync()
    known: dict[str, float] = {}
    config = read_design(design.config) if settings.measures else None
    if isinstance(config, BackboneConfig):  # of another, what was measured once stands
        known = measured(config, settings)
    answer = proposing.write(
        NewProposal(
            index=proposing.planner.known,
            role=role,
            kind=kind,
            label=label,
            fingerprint=design.fingerprint,
            config=design.config,
            flops=design.flops,
            params_count=design.params,
            measured=known,
            convention=settings.budget.convention,
            image_size=settings.image_size,
            seed=settings.training_seed(design.fingerprint, index),
            seed_index=index,
            split=split,
            recipe=None if recipe is None else recipe.to_dict(),
            recipe_id="" if recipe is None else recipe.fingerprint(),
        )
    )
    return answer if isinstance(answer, tuple) else None


def scores_of(
    designs: Sequence[Design], names: Mapping[str, str], indices: Collection[int], runs: list[Run]
) -> tuple[Scores, set[tuple[str, int]]]:
    """Return the table of what has ended, and which trainings exist at all.

    names: by fingerprint. A run that was ended by its machine too often to be tried again counts
    as failed.
    """
    ended, started = [], set()
    for run in runs:
        name = names.get(run.fingerprint)
        if name is None or run.seed_index not in indices:
            continue
        started.add((name, run.seed_index))
        if run.state in ENDED:
            score = run.score if run.state == Outcome.COMPLETE.value else None
            ended.append((name, run.seed_index, score))
    return Scores.of(designs, ended), started
