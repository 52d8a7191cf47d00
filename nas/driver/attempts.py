"""A row of the database as the attempt that is handed out."""

from __future__ import annotations

from nas.store.tables import Architecture, Run
from nas.study.attempts import Attempt, Lease
from nas.study.settings import Settings


def attempt_of(
    run: Run,
    design: Architecture,
    settings: Settings,
    *,
    lease: Lease,
    device: str,
    backend: str,
    checkpoint: str | None = None,
    timeout_s: float | None = None,
) -> Attempt:
    """Return the attempt that a numbered run stands for, under a lease."""
    assert run.trial_number is not None
    cost = {"flops": design.flops, "params": design.params}
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
        recipe=settings.recipe.halved(run.halvings).to_dict(),
        seed=run.seed,
        device=device,
        backend=backend,
        checkpoint=checkpoint,
        timeout_s=timeout_s,
        costs=tuple(float(cost[o]) for o in settings.objectives[1:]),
    )
