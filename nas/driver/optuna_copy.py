"""Optuna's copy of a study, so that its dashboard and command line read it as any other.

Our rows are the truth. A trial is created whole, with every parameter, when its proposal has its
row; it is finished when the row says so. Both steps can be repeated: a death between row and copy
leaves the copy behind, never ahead, and the next driver brings it up to date.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from nas.errors import StoreError, StudyError
from nas.planning.strategies.encoding import distributions
from nas.store import runs
from nas.store.history import architecture
from nas.store.session import Store, engine_options, prepare
from nas.store.tables import Architecture, Run
from nas.study.attempts import ENDED
from nas.study.outcomes import Outcome
from nas.study.settings import OBJECTIVES, Settings

T = TypeVar("T")

RUN_ID = "scannas_run"
_TABLE_TRIES = 10
_STATES = {o.value: TrialState.FAIL for o in Outcome}
_STATES |= {Outcome.COMPLETE.value: TrialState.COMPLETE, Outcome.PRUNED.value: TrialState.PRUNED}


class Projection:
    """Writes one study's trials through Optuna's storage."""

    def __init__(self, store: Store, study_id: int, name: str, settings: Settings) -> None:
        self.store, self.study_id = store, study_id
        self.distributions = distributions(settings.space)
        self.storage = open_optuna(store)
        directions = [
            StudyDirection.MAXIMIZE if OBJECTIVES[o] else StudyDirection.MINIMIZE
            for o in settings.objectives
        ]
        self.optuna_id = _find_or_create(self.storage, name, directions)

    def close(self) -> None:
        """Close the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def restore(self) -> int:
        """Make again what another program has deleted from Optuna's copy; return how much.

        Numbers are dense, so that a missing one means that all later ones are missing.
        """
        last = self.store.read(lambda s: runs.last_number(s, self.study_id))
        if last is None or self._exists(last):
            return 0
        known = self.store.read(lambda s: runs.numbered(s, self.study_id))
        lost = [run for run in known if not self._exists(run.trial_number)]
        for run in lost:
            design = self.store.read(partial(architecture, run=run))
            trial_id = self._patiently(
                partial(self.storage.create_new_trial, self.optuna_id, self._template(run, design))
            )
            number = self.storage.get_trial_number_from_id(trial_id)
            if number != run.trial_number:
                raise StoreError(
                    f"{self.store.shown}: Optuna's copy of the study has a trial {number} that "
                    f"should be {run.trial_number}; delete the copy with `optuna delete-study`, "
                    "it is made again"
                )
        return len(lost)

    def _exists(self, number: int | None) -> bool:
        try:
            self.storage.get_trial_id_from_study_id_trial_number(self.optuna_id, number or 0)
        except KeyError:
            return False
        return True

    def catch_up(self, is_orphan: Callable[[Run], bool]) -> int:
        """Create and finish what Optuna's copy lacks; return how many results it lacked.

        is_orphan: whether nobody else is about to do so.
        """
        for run in self.store.read(lambda s: runs.unnumbered(s, self.study_id)):
            if is_orphan(run):
                self.create(run, search=True)
        behind = self.store.read(lambda s: runs.untold(s, self.study_id))
        behind = [run for run in behind if is_orphan(run)]
        for run in behind:
            self.tell(run)
        return len(behind)

    def create(self, run: Run, *, design: Architecture | None = None, search: bool = False) -> int:
        """Create the trial of a run and return its number.

        design: of the run, where it is at hand. search: look for the trial first, for it may
        exist from before an interruption.
        """
        made = design or self.store.read(lambda s: architecture(s, run))
        tries = 0

        def attempt() -> tuple[int, bool]:
            nonlocal tries
            tries += 1
            if search or tries > 1:  # the try before may have gone through unseen
                found = self._search(run.id)
                if found is not None:
                    return found, False
            trial_id = self.storage.create_new_trial(self.optuna_id, self._template(run, made))
            return self._number_of(trial_id, likely=run.proposal), True

        number, fresh = self._patiently(attempt)
        told = run.told or (fresh and run.state in ENDED)
        held = self.store.write(lambda s: runs.set_trial_number(s, run.id, number, told))
        if held != number:
            # This driver was believed dead and has been stood in for; its copy is one too many.
            self._patiently(lambda: self._close(number, "duplicate"))
        run.trial_number, run.told = held, told
        return held

    def tell(self, run: Run) -> None:
        """Finish the trial of a run that has ended."""
        if run.trial_number is None:
            self.create(run, search=True)
        number = run.trial_number
        assert number is not None

        values = run.objectives if _STATES[run.state] is not TrialState.FAIL else None
        self._patiently(lambda: self._close(number, run.state, values))
        self.store.write(lambda session: runs.mark_told(session, run.id))

    def _close(self, number: int, outcome: str, values: list[float] | None = None) -> None:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.optuna_id, number)
        try:
            if outcome != Outcome.COMPLETE.value:
                self.storage.set_trial_user_attr(trial_id, "outcome", outcome)
            state = _STATES.get(outcome, TrialState.FAIL)
            self.storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            pass  # told before an interruption

    def _number_of(self, trial_id: int, likely: int) -> int:
        # Optuna reads a whole trial to answer this; a guess that one small query confirms is
        # right unless other drivers propose at the same moment.
        try:
            found = self.storage.get_trial_id_from_study_id_trial_number(self.optuna_id, likely)
        except KeyError:
            found = None
        return likely if found == trial_id else self.storage.get_trial_number_from_id(trial_id)

    def _search(self, run_id: int) -> int | None:
        """Find the trial of a run among those that belong to no run yet."""
        taken = self.store.read(lambda s: runs.trial_numbers(s, self.study_id))
        number = 0
        while True:
            if number not in taken:
                try:
                    trial_id = self.storage.get_trial_id_from_study_id_trial_number(
                        self.optuna_id, number
                    )
                except KeyError:
                    return None
                if self.storage.get_trial_user_attrs(trial_id).get(RUN_ID) == run_id:
                    return number
            number += 1

    def _template(self, run: Run, design: Architecture) -> FrozenTrial:
        state = _STATES.get(run.state, TrialState.RUNNING)
        attrs: dict[str, Any] = {
            RUN_ID: run.id,
            "fingerprint": run.fingerprint,
            "flops": design.flops,
            "params": design.params,
            "role": run.role,
        }
        if run.label is not None:
            attrs["label"] = run.label
        if state is TrialState.FAIL:
            attrs["outcome"] = run.state
        values = None if state in (TrialState.RUNNING, TrialState.FAIL) else run.objectives
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=datetime.fromtimestamp(run.created_at),
            datetime_complete=None
            if state is TrialState.RUNNING or run.finished_at is None
            else datetime.fromtimestamp(run.finished_at),
            params=dict(run.params),
            distributions={name: self.distributions[name] for name in run.params},
            user_attrs=attrs,
            system_attrs={},
            intermediate_values={},
        )

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Run an Optuna call with our store's patience for a server that is away."""
        return self.store.outlast(attempt, StorageInternalError)


def open_optuna(store: Store) -> RDBStorage:
    """Open Optuna's storage in our database, with our settings for it.

    Raises: StoreError when its tables are of another Optuna version.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    storage = _make_tables(store)
    storage.remove_session()
    storage.engine.dispose()
    prepare(storage.engine, always_writing=True)
    return storage


def _make_tables(store: Store) -> RDBStorage:
    """Open Optuna's storage, making its tables where there are none.

    Optuna looks for its tables and then makes them, without a lock: of several drivers that
    start at once all but one fail, and find the tables there a moment later.
    """
    url = store.url.render_as_string(hide_password=False)
    for left in reversed(range(_TABLE_TRIES)):
        try:
            return RDBStorage(url, engine_kwargs=engine_options(store.url))
        except RuntimeError as error:
            raise StoreError(
                f"{store.shown}: {str(error).splitlines()[0]}; run `optuna storage upgrade`"
            ) from None
        except exc.DBAPIError as error:
            if not left:
                raise StoreError(
                    f"{store.shown}: Optuna's tables cannot be opened: "
                    f"{str(error.orig).splitlines()[0]}; run `db check`"
                ) from None
            time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError("the last try returns or raises")


def _find_or_create(storage: RDBStorage, name: str, directions: list[StudyDirection]) -> int:
    try:
        return storage.create_new_study(directions, name)
    except DuplicatedStudyError:
        found = storage.get_study_id_from_name(name)
    if storage.get_study_directions(found) != directions:
        raise StudyError(
            f"study {name!r} exists in this database with other objectives, made by another "
            "program; choose another --study"
        )
    return found
