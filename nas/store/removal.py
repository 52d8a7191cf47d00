"""Giving a study another name, and taking one out of a database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from nas.store.now import Time
from nas.store.runs import change_study
from nas.store.session import lock_study
from nas.store.tables import Architecture, Epoch, Export, Measurement, Run, Study
from nas.study.attempts import ENDED, RUNNING


def owners_at_work(session: Session, study_id: int, now: Time) -> list[str]:
    """Return the drivers that hold a trial of a study under a lease that has not run out."""
    query = select(Run.lease_owner).where(
        Run.study_id == study_id, Run.state == RUNNING, Run.lease_expires > now
    )
    return [owner for owner in session.scalars(query.distinct()) if owner is not None]


def contents(session: Session, study_id: int) -> dict[str, Any]:
    """Return what a study holds: counts of rows, the hours trained, files exported, the best."""
    mine = Run.study_id == study_id
    trials, attempts, ended, seconds, best = session.execute(
        select(
            func.count().filter(Run.newest),
            func.count(),
            func.count().filter(Run.newest, Run.state.in_(ENDED)),
            func.sum(Run.finished_at - Run.started_at),
            func.max(Run.score).filter(Run.newest),
        ).where(mine)
    ).one()
    epochs = select(func.count()).select_from(Epoch).join(Run, Run.id == Epoch.run_id).where(mine)
    exports = select(Export.path).join(Run, Run.id == Export.run_id).where(mine)
    return {
        "trials": trials,
        "ended": ended,
        "attempts": attempts,
        "epochs": session.scalar(epochs) or 0,
        "hours": (seconds or 0.0) / 3600,
        "best_score": best,
        "exports": list(session.scalars(exports)),
    }


def rename(session: Session, study_id: int, name: str) -> None:
    """Give a study another name; IntegrityError where it is taken."""
    lock_study(session, study_id)
    change_study(session, study_id, name=name)


def remove(session: Session, study_id: int) -> None:
    """Delete a study's rows, and the designs that no other study has."""
    lock_study(session, study_id)
    mine = select(Run.id).where(Run.study_id == study_id)
    designs = list(
        session.scalars(select(Run.architecture_id).where(Run.study_id == study_id).distinct())
    )
    for table in (Epoch, Export):
        session.execute(delete(table).where(table.run_id.in_(mine)))
    session.execute(delete(Run).where(Run.study_id == study_id))
    session.execute(delete(Study).where(Study.id == study_id))
    for start in range(0, len(designs), 500):
        some = designs[start : start + 500]
        used = select(Run.architecture_id).where(Run.architecture_id.in_(some))
        measured = select(Measurement.architecture_id).where(Measurement.architecture_id.in_(some))
        session.execute(
            delete(Architecture).where(
                Architecture.id.in_(some),
                Architecture.id.not_in(used),
                Architecture.id.not_in(measured),
            )
        )
