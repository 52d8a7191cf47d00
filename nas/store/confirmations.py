"""Rows of a study's confirmation: what is asked for, what has been trained, what it said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nas.store import comparisons
from nas.store.session import lock_study
from nas.store.tables import Architecture, Run, Study
from nas.study.confirmation import Confirmation
from nas.study.proposals import BASELINE, CANDIDATE, CONFIRMATION


class Searched(NamedTuple):
    """What a search says of a design: its run, and its cost."""

    run: Run
    params: int
    config: dict[str, Any]
    flops: int = 0


def read(session: Session, study_id: int) -> Confirmation | None:
    """Return what is asked for and chosen; None where a study wants no confirmation."""
    stored = session.scalars(select(Study.confirmation).where(Study.id == study_id)).one()
    return None if stored is None else Confirmation.model_validate(stored)


def ask(session: Session, study_id: int, asked: Confirmation | None) -> None:
    """Ask for a confirmation, or for none; the verdict on another one goes."""
    lock_study(session, study_id)
    held = read(session, study_id)
    if held is not None and asked is not None:
        looks = held.looks + bool(held.entrants)
        if held.asked() == asked.model_copy(update={"looks": held.looks}):
            return
        asked = asked.model_copy(update={"looks": looks})
    _write(session, study_id, asked)


def ask_again(session: Session, study_id: int) -> None:
    """Have the entrants chosen anew, because there are other candidates."""
    held = read(session, study_id)
    if held is not None:
        looks = held.looks + bool(held.entrants)
        _write(session, study_id, held.asked().model_copy(update={"looks": looks}))


def choose(session: Session, study_id: int, chosen: Confirmation) -> Confirmation:
    """Write down who is confirmed, unless another driver has or other is asked for by now.

    Returns: the confirmation that holds.
    """
    lock_study(session, study_id)
    held = read(session, study_id)
    if held is None or held != chosen.asked():
        return chosen if held is None else held
    _write(session, study_id, chosen)
    return chosen


def _write(session: Session, study_id: int, value: Confirmation | None) -> None:
    data = None if value is None else value.model_dump(mode="json")
    session.execute(
        update(Study).where(Study.id == study_id).values(confirmation=data, verdict=None)
    )


def set_verdict(
    session: Session, study_id: int, judged: Confirmation, verdict: Mapping[str, Any]
) -> None:
    """Keep the verdict on a confirmation, unless another one is asked for by now."""
    lock_study(session, study_id)
    if read(session, study_id) == judged:
        changed = update(Study).where(Study.id == study_id)
        session.execute(changed.values(verdict=dict(verdict)))


def searched(session: Session, study_id: int) -> list[Searched]:
    """Return the candidates and baselines of a search that have ended, in their order."""
    query = (
        select(Run, Architecture.params, Architecture.config, Architecture.flops)
        .join(Architecture, Run.architecture_id == Architecture.id)
        .where(Run.study_id == study_id, Run.newest, Run.role.in_((CANDIDATE, BASELINE)))
        .order_by(Run.proposal)
    )
    return [Searched(*row) for row in session.execute(query)]


def trained(session: Session, study_id: int) -> list[Run]:
    """Return the newest run of every training that belongs to a confirmation."""
    return comparisons.trained(session, study_id, CONFIRMATION)


def designs(session: Session, study_id: int, trials: list[int]) -> dict[int, Architecture]:
    """Return the designs of some trials."""
    query = (
        select(Run.trial_number, Architecture)
        .join(Architecture, Run.architecture_id == Architecture.id)
        .where(Run.study_id == study_id, Run.newest, Run.trial_number.in_(trials))
    )
    return {number: design for number, design in session.execute(query) if number is not None}
