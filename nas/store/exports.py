"""Recording which files were written for a trial."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.errors import StudyError
from nas.store.history import find_study
from nas.store.session import opened
from nas.store.tables import Export, Run


def record_export(storage: str, study: str, trial: int, path: Path, *, at: float) -> None:
    """Record a verified export of a trial, with the file's hash.

    Raises: StoreError; StudyError for an unknown study or trial.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def add(session: Session, shown: str) -> None:
        row = find_study(session, study, shown)
        run_id = session.scalar(
            select(Run.id).where(Run.study_id == row.id, Run.trial_number == trial, Run.newest)
        )
        if run_id is None:
            raise StudyError(f"study {study!r} has no trial {trial}; `show {study}` lists them")
        where = str(path.absolute())
        session.add(Export(run_id=run_id, path=where, sha256=digest, verified=True, at=at))

    with opened(storage) as store:
        store.write(lambda session: add(session, store.shown))
