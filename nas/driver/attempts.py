"""A row of the database as the attempt that is handed out."""

from __future__ import annotations

from collections.abc import Mapping

from nas.store.tables import Architecture, Run
from nas.study.attempts import Attempt, Lease
from nas.study.place import Place
from nas.study.recipe import Recipe
from nas.study.settings import Settings


def attempt_of(
    run: Run,
    design: Architecture,
    settings: Settings,
    place: Place,
    *,
    lease: Lease,
    checkpoint: str | None = None,
    avoid: tuple[str, ...] = (),
    measured: Mapping[str, float] | None = None,
) -> Attempt:
    """Return the attempt that a numbered run stands for, under a lease.

    measured: of its design, what the study has as objectives and does not count.
    """
    assert run.trial_number is not None
    own = settings.recipe if run.recipe is None else Recipe.model_validate(run.recipe)
    cost = {"flops": design.flops, "params": design.params, **(measured or {})}
    return Attempt(
        lease=lease,
        trial=run.trial_number,
        attempt=run.attempt,
        role=run.role,
        label=run.label,
        kind=run.kind,
        fingerprint=run.fingerprint,
        flops=design.flops,
        params=design.params,
        config=design.config,
        recipe=place.recipe(own).halved(run.halvings).to_dict(),
        seed=run.seed,
        device=place.device,
        backend=place.backend,
        checkpoint=checkpoint,
        timeout_s=place.trial_timeout_s,
        stall_s=place.stall_s,
        avoid=avoid,
        costs=tuple(float(cost[o]) for o in settings.objectives[1:]),
        split=run.split,
    )
