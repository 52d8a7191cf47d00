"""One recorded trial, trained again alone: does its score come out the same?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.driver.attempts import attempt_of
from nas.driver.clock import Clock
from nas.driver.studies import Study, open_study
from nas.errors import StudyError
from nas.executors.attempt import Brake, Proxy, carry_out
from nas.store import history, measurements
from nas.store.tables import Run
from nas.study.attempts import Attempt, Lease
from nas.study.outcomes import Outcome
from nas.study.place import Place
from nas.study.tasks import Metric, metric_of

if TYPE_CHECKING:
    from nas.training.loop import EpochMetrics


@dataclass(frozen=True)
class Rerun:
    """A recorded trial, trained again alone. same: whether the scores are equal bit for bit."""

    study: str
    trial: int
    outcome: str
    recorded: float | None
    score: float | None
    same: bool
    backend: str | None
    error: str | None
    metric: Metric


def rerun_trial(
    name: str, storage: str, trial: int, *, proxy: Proxy | None = None, clock: Clock | None = None
) -> Rerun:
    """Train one recorded trial again, alone, from its row; the database is left as it is.

    Raises: StudyError for an unknown study or trial.
    """
    study = open_study(name, storage, clock=clock)
    brake = Brake()

    def stop_where_it_was_pruned(metrics: EpochMetrics) -> None:
        brake.pruned = metrics.epoch == pruned_after

    try:
        attempt, recorded, pruned_after = study.store.read(lambda s: _recorded(s, study, trial))
    finally:
        study.close()
    result = carry_out(attempt, stop_where_it_was_pruned, brake, proxy)
    return Rerun(
        study=name,
        trial=trial,
        outcome=result.outcome.value,
        recorded=recorded,
        score=result.score,
        same=result.score == recorded,
        backend=result.backend,
        error=result.error,
        metric=metric_of(attempt.recipe),
    )


def _recorded(
    session: Session, study: Study, trial: int
) -> tuple[Attempt, float | None, int | None]:
    """Return a trial's attempt, its score, and the epoch after which it was ended early."""
    query = select(Run).where(Run.study_id == study.id, Run.trial_number == trial, Run.newest)
    run = session.scalars(query).one_or_none()
    if run is None:
        raise StudyError(
            f"study {study.name!r} has no trial {trial}; `show {study.name}` lists them"
        )
    attempt = attempt_of(
        run,
        history.architecture(session, run),
        study.settings,
        # What "auto" stood for then; the same trial must run on the same kernels.
        Place.of(device=run.device, backend=run.backend).over(study.place),
        lease=Lease(run.id, "rerun", 0),
        measured=measurements.of_design(session, run.architecture_id, study.settings),
    )
    pruned_after = int((run.metrics or {})["epochs"]) if run.state == Outcome.PRUNED.value else None
    return replace(attempt, timeout_s=None), run.score, pruned_after
