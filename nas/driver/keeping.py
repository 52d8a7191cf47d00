"""Studies as things one keeps: another name for one, or an end to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import exc
from sqlalchemy.orm import Session

from nas.driver.optuna_copy import open_optuna, sync
from nas.driver.studies import Study, check_name, open_study
from nas.errors import StudyError
from nas.store import removal
from nas.store.now import Now


def contents(name: str, storage: str) -> dict[str, Any]:
    """Return what goes when a study is deleted (`nas.store.removal.contents`) and its checkpoints.

    Raises: StoreError; StudyError for an unknown study.
    """
    study = open_study(name, storage)
    try:
        held = study.store.read(lambda s: removal.contents(s, study.id))
        folder = study.checkpoints
        about = {"study": name, "recipe": study.settings.recipe.to_dict()}
        return held | about | {"checkpoints": str(folder) if folder.is_dir() else None}
    finally:
        study.close()


def delete_study(name: str, storage: str) -> None:
    """Delete a study: rows, Optuna's copy, checkpoints; exported files stay.

    Raises: StoreError; StudyError for an unknown study, or one that a driver trains now.
    """
    study = open_study(name, storage)
    try:

        def remove(session: Session) -> None:
            _refuse_at_work(session, study)
            removal.remove(session, study.id)

        study.store.write(remove, durable=True)
        _drop_copy(study, name)
        shutil.rmtree(study.checkpoints, ignore_errors=True)
    finally:
        study.close()


def rename_study(name: str, new: str, storage: str) -> None:
    """Give a study another name; its trials, seeds and proposals stay what they are.

    Raises: StoreError; StudyError for an unknown study, a bad or taken name, or a study that a
        driver trains now.
    """
    check_name(new)
    study = open_study(name, storage)
    taken = StudyError(f"study {new!r} exists in this database; choose another name")
    try:
        with open_optuna(study.store) as copies:
            if new in optuna.get_all_study_names(copies):
                raise taken

        def rename(session: Session) -> None:
            _refuse_at_work(session, study)
            removal.rename(session, study.id, new)

        try:
            study.store.write(rename, durable=True)
        except exc.IntegrityError:
            raise taken from None
        _drop_copy(study, name)
        sync(study.store, study.id, new, study.settings)  # Optuna renames nothing
        old = study.checkpoints
        study.name = new
        if old.is_dir():
            old.rename(Path(study.checkpoints))
    finally:
        study.close()


def _drop_copy(study: Study, name: str) -> None:
    with open_optuna(study.store) as copies:
        if name in optuna.get_all_study_names(copies):
            optuna.delete_study(study_name=name, storage=copies)


def _refuse_at_work(session: Session, study: Study) -> None:
    owners = removal.owners_at_work(session, study.id, Now())
    alive = [owner for owner in owners if not study.clock.is_dead(owner)]
    if alive:
        host, _, rest = alive[0].partition("/")
        raise StudyError(
            f"study {study.name!r} is being trained on {host} (process {rest.split('/')[2]}); "
            "stop that driver first (Ctrl-C), or wait for it"
        )
