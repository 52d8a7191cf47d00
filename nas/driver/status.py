"""What goes on in a study at this moment: what runs, what waits, who has gone silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nas.driver.clock import SystemClock
from nas.driver.disk import shortage
from nas.store.history import find_study
from nas.store.now import Now
from nas.store.queries import COMPLETE, counts
from nas.store.session import opened
from nas.store.tables import Epoch, Run, Study
from nas.study.attempts import CANARY, ENDED, RUNNING, WAITING
from nas.study.outcomes import UNCLEAR, Outcome
from nas.study.proposals import CANDIDATE, REPLAY

# Ended runs among which the last of every machine is looked for.
_LATELY = 200


def status(study: str, storage: str, *, now: float | None = None) -> dict[str, Any]:
    """Return what runs, what waits, what failed by class, the time left, the last activity.

    blocked: why no trial can start (a full disk, no resources). advice: what to do. Or None each.
    failing: machines that train nothing, with their last error.
    now: seconds since 1970; the database's present by default.
    Raises: StoreError; StudyError for an unknown study.
    """
    with opened(storage) as store:
        found = store.read(lambda s: _status(s, find_study(s, study, store.shown), now))
        # A disk that is full may have kept the driver from saying so.
        if found["blocked"] is None and store.path is not None:
            found["blocked"] = shortage(store.path.parent)
        return found


def _status(session: Session, study: Study, at: float | None) -> dict[str, Any]:
    now = at if at is not None else session.execute(select(Now())).scalar_one()
    running = _running(session, study, now)
    found = counts(session, study)
    done = session.scalar(
        select(func.count()).where(
            Run.study_id == study.id, Run.newest, Run.role == CANDIDATE, Run.state.in_(ENDED)
        )
    )
    seconds = session.scalar(
        select(func.avg(Run.finished_at - Run.started_at)).where(
            Run.study_id == study.id, Run.newest, Run.state == COMPLETE, Run.role != REPLAY
        )
    )
    left = max(0, study.trials - (done or 0))
    alive = [r for r in running if not r["stale"]]
    eta = None if seconds is None or not alive else left * seconds / len(alive)
    return {
        "study": study.name,
        "trials": study.trials,
        "done": done or 0,
        "running": running,
        "waiting": found.get(WAITING, 0),
        "failed": {
            o.value: found[o.value]
            for o in Outcome
            if o not in (Outcome.COMPLETE, Outcome.PRUNED) and o.value in found
        },
        "complete": found.get(COMPLETE, 0),
        "pruned": found.get(Outcome.PRUNED.value, 0),
        "replayed": found.get(REPLAY, 0),
        "seconds_per_trial": seconds,
        "eta_s": 0.0 if left == 0 and not running else eta,
        "last_activity_s": _silence(session, study, now),
        "blocked": study.blocked,
        "failing": _failing(session, study, now),
        "advice": _advice(study, running, left, found),
    }


def _running(session: Session, study: Study, now: float) -> list[dict[str, Any]]:
    last = (
        select(Epoch.run_id, func.max(Epoch.epoch).label("epoch"), func.max(Epoch.at).label("at"))
        .group_by(Epoch.run_id)
        .subquery()
    )
    query = (
        select(Run, last.c.epoch, last.c.at)
        .outerjoin(last, last.c.run_id == Run.id)
        .where(Run.study_id == study.id, Run.newest, Run.state == RUNNING)
        .order_by(Run.proposal)
    )
    return [
        {
            "trial": run.trial_number,
            "role": run.role,
            "label": run.label,
            "attempt": run.attempt,
            "epoch": epoch or 0,
            "epochs": study.settings["recipe"]["epochs"],
            "owner": run.lease_owner,
            "running_s": None if run.started_at is None else now - run.started_at,
            "stale": _is_gone(run, now),
        }
        for run, epoch, at in session.execute(query)
    ]


def _is_gone(run: Run, now: float) -> bool:
    """Whether the driver of a run is known to be dead, or has not renewed its lease."""
    if run.lease_owner is not None and SystemClock().is_dead(run.lease_owner):
        return True
    return run.lease_expires is not None and run.lease_expires < now


def _silence(session: Session, study: Study, now: float) -> float | None:
    """Return how many seconds ago anything was written for a study."""
    mine = Run.study_id == study.id
    times = session.execute(
        select(func.max(Run.created_at), func.max(Run.started_at), func.max(Run.finished_at)).where(
            mine
        )
    ).one()
    epochs = select(func.max(Epoch.at)).join(Run, Run.id == Epoch.run_id)
    epoch = session.scalar(epochs.where(mine, Run.state == RUNNING))
    seen = [t for t in (*times, epoch) if t is not None]
    return now - max(seen) if seen else None


def _failing(session: Session, study: Study, now: float) -> list[dict[str, Any]]:
    """Return the machines where a known design failed last, and of what, the newest first."""
    query = (
        select(Run.node, Run.state, Run.error, Run.metrics, Run.finished_at)
        .where(Run.study_id == study.id, Run.finished_at.is_not(None), Run.role != REPLAY)
        .order_by(Run.finished_at.desc(), Run.id.desc())  # SQLite's clock has milliseconds
        .limit(_LATELY)
    )
    last = {row.node: row for row in reversed(session.execute(query).all())}
    return [
        {"node": row.node, "error": row.error, "ago_s": now - row.finished_at}
        for row in sorted(last.values(), key=lambda row: -row.finished_at)
        if row.state in {o.value for o in UNCLEAR} and (row.metrics or {}).get(CANARY) is False
    ]


def _advice(
    study: Study, running: Sequence[dict[str, Any]], left: int, found: dict[str, int]
) -> str | None:
    """Return what a user should do, if anything."""
    if any(r["stale"] for r in running):
        return f"a driver has gone silent; `resume {study.name}` continues its trials"
    if not running and (left or found.get(WAITING)):
        return f"nothing is running; `resume {study.name}` continues"
    return None
