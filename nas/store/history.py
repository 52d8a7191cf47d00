"""Reading a study's proposals back, for the strategies and for whoever continues it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from kernels.errors import nearest
from nas.errors import StudyError
from nas.store.tables import NEWEST, Architecture, Epoch, Run, Study
from nas.study.attempts import CANARY, ENDED
from nas.study.outcomes import Outcome
from nas.study.proposals import CANDIDATE, Entry


def entries(
    session: Session, study_id: int, after: int = -1, also: Iterable[int] = ()
) -> list[Entry]:
    """Return the newest attempt of each proposal beyond index `after`, and of ended ones in `also`.

    A strategy learns nothing from one in `also` before it has ended, and hundreds may be training.
    """
    mine, found = Run.study_id == study_id, []
    # Two questions: joined by "or" they would be answered by reading the whole study.
    if pending := list(also):
        states = select(Run.proposal, Run.state).where(mine, Run.proposal.in_(pending), NEWEST)
        ended = [row.proposal for row in session.execute(states) if row.state in ENDED]
        query = _ENTRY.where(Run.proposal.in_(ended))
        found = _entries(session, query, study=study_id) if ended else []
    found += _entries(session, _LATER, study=study_id, after=after)
    return sorted(found, key=lambda entry: entry.index)


_ENTRY = select(
    Run.proposal,
    Run.role,
    Run.state,
    Run.fingerprint,
    Run.params,
    Run.sampler,
    Run.objectives,
    Run.metrics,
    Run.stage,
).where(Run.study_id == bindparam("study"), NEWEST)
_LATER = _ENTRY.where(Run.proposal > bindparam("after"))


def _entries(session: Session, query: Any, **values: int) -> list[Entry]:
    return [
        Entry(
            index=row.proposal,
            role=row.role,
            state=row.state,
            fingerprint=row.fingerprint,
            params=row.params,
            sampler=row.sampler,
            objectives=row.objectives,
            epochs=int((row.metrics or {}).get("epochs", 0)),
            stage=row.stage,
            canary=(row.metrics or {}).get(CANARY),
        )
        for row in session.execute(query, values)
    ]


def epochs_of_candidates(
    session: Session, study_id: int, epochs: Sequence[int]
) -> list[tuple[int, int, dict[str, Any]]]:
    """Return (run, epoch, metrics) of all candidates of a study at some epochs."""
    query = (
        select(Run.id, Epoch.epoch, Epoch.metrics)
        .join(Run, Run.id == Epoch.run_id)
        .where(
            Run.study_id == study_id,
            Run.newest,
            Run.role == CANDIDATE,
            Epoch.epoch.in_(epochs),
        )
    )
    return [tuple(row) for row in session.execute(query)]


def scores_of_candidates(session: Session, study_id: int) -> list[float | None]:
    """Return the scores of the candidates that have ended, in the order they did."""
    query = select(Run.score).where(
        Run.study_id == study_id, Run.newest, Run.role == CANDIDATE, Run.state.in_(ENDED)
    )
    return list(session.scalars(query.order_by(Run.finished_at, Run.proposal)))


def scored_on(session: Session, study_id: int) -> set[tuple[str, str]]:
    """Return the kinds of device and the backends that a study's scores were made on."""
    query = select(Run.device, Run.backend).where(
        Run.study_id == study_id, Run.newest, Run.state == Outcome.COMPLETE.value
    )
    found = session.execute(query.distinct()).all()
    return {
        (row.device.partition(":")[0], row.backend) for row in found if row.device and row.backend
    }


def find_study(session: Session, name: str, shown: str) -> Study:
    """Return a study by its name.

    Raises: StudyError for an unknown name, with the nearest known one.
    """
    study = session.scalars(select(Study).where(Study.name == name)).one_or_none()
    if study is None:
        names = list(session.scalars(select(Study.name)))
        hint = nearest(name, names, "`studies` lists them")
        raise StudyError(f"no study {name!r} in {shown}; {hint}")
    return study


def architecture(session: Session, run: Run) -> Architecture:
    """Return the design of a run."""
    return session.get_one(Architecture, run.architecture_id)


def baseline_labels(session: Session, study_id: int) -> set[str]:
    """Return the presets that have been proposed as baselines."""
    query = select(Run.label).where(Run.study_id == study_id, Run.label.is_not(None))
    return {label for label in session.scalars(query) if label is not None}
