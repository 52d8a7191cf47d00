"""Rows of what else is asked of a study: the question, and what has been found."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.errors import StudyError
from nas.store.runs import change_study
from nas.store.session import lock_study
from nas.store.tables import Epoch, Run, Study
from nas.study.comparison import Asked, Held
from nas.study.outcomes import Outcome
from nas.study.proposals import CANDIDATE


def read(session: Session, study_id: int) -> list[Held]:
    """Return all that is asked of a study, in the order of asking."""
    stored = session.scalars(select(Study.comparisons).where(Study.id == study_id)).one()
    return [Held.model_validate(one) for one in (stored or {}).values()]


def ask(session: Session, study_id: int, asked: Asked) -> None:
    """Ask something of a study; asking the same again changes nothing.

    More seeds of the same designs are another look, and the finding so far goes.
    Raises: StudyError where the study was asked something else of this kind.
    """
    lock_study(session, study_id)
    held = {str(one.asked.kind): one for one in read(session, study_id)}
    before = held.get(asked.kind)
    if before is not None:
        same = {"seeds": None, "looks": None}
        if before.asked.model_copy(update=same) != asked.model_copy(update=same):
            raise StudyError(
                f"this study has another {asked.kind} already (other designs, margin or recipes); "
                "repeat it as it was, or give another --study"
            )
        if getattr(asked, "seeds", 0) <= getattr(before.asked, "seeds", 0):
            return
        looks = before.asked.looks + (before.found is not None)
        asked = asked.model_copy(update={"looks": looks})
    _write(session, study_id, held | {asked.kind: Held(asked=asked)})


def keep(session: Session, study_id: int, answered: Held) -> None:
    """Keep what has been found, unless something else is asked by now."""
    lock_study(session, study_id)
    held = {str(one.asked.kind): one for one in read(session, study_id)}
    kind = answered.asked.kind
    if kind in held and held[kind].asked == answered.asked:
        _write(session, study_id, held | {kind: answered})


def _write(session: Session, study_id: int, held: dict[str, Held]) -> None:
    data: dict[str, Any] = {kind: one.model_dump(mode="json") for kind, one in held.items()}
    change_study(session, study_id, comparisons=data)


def searched(session: Session, study_id: int) -> dict[str, tuple[float, list[dict[str, Any]]]]:
    """Return score and epochs, in order, of a search's complete candidates, by fingerprint."""
    query = select(Run.id, Run.fingerprint, Run.score).where(
        Run.study_id == study_id,
        Run.newest,
        Run.role == CANDIDATE,
        Run.state == Outcome.COMPLETE.value,
    )
    rows = session.execute(query).all()
    epochs: dict[int, list[dict[str, Any]]] = {row.id: [] for row in rows}
    shown = select(Epoch.run_id, Epoch.metrics).where(Epoch.run_id.in_(list(epochs)))
    for run_id, metrics in session.execute(shown.order_by(Epoch.run_id, Epoch.epoch)):
        epochs[run_id].append(metrics)
    return {row.fingerprint: (row.score, epochs[row.id]) for row in rows}


def trained(session: Session, study_id: int, stage: str) -> list[Run]:
    """Return the newest run of every training of a stage."""
    query = select(Run).where(Run.study_id == study_id, Run.newest, Run.stage == stage)
    return list(session.scalars(query.order_by(Run.proposal)))
