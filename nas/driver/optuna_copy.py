"""Optuna's copy of a study, so that its dashboard and command line read it as any other.

Our rows are the truth, trial numbers included. `sync` brings the copy up to the rows in one pass:
trials are added in the order of their numbers, whole, and what is there is never written twice. A
death in mid-pass leaves the copy behind, never ahead, and the next pass goes on from there. One
process at a time copies a study, because Optuna numbers its trials in the order they are added.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import optuna
from optuna.exceptions import DuplicatedStudyError, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from nas.driver.clock import Clock
from nas.driver.progress import Notice, Progress
from nas.errors import StoreError, StudyError
from nas.planning.strategies.encoding import distributions
from nas.store import runs
from nas.store.runs import Shown
from nas.store.session import Store, engine_options, prepare
from nas.store.tables import Run
from nas.study.attempts import ENDED
from nas.study.outcomes import Outcome
from nas.study.proposals import SEARCH
from nas.study.settings import OBJECTIVES, Settings

# How old the copy may grow while a driver works, and how long a driver that ends waits for another
# one that is copying.
EVERY_S, WAIT_S = 60.0, 60.0
_BATCH = 100
_TABLE_TRIES = 10
_STATES = {o.value: TrialState.FAIL for o in Outcome}
_STATES |= {Outcome.COMPLETE.value: TrialState.COMPLETE, Outcome.PRUNED.value: TrialState.PRUNED}


def _state(run: Run) -> TrialState:
    """Return the state in which a trial shows a run; a confirmation is never Optuna's best."""
    state = _STATES.get(run.state, TrialState.RUNNING)
    aside = run.stage != SEARCH and state is TrialState.COMPLETE
    return TrialState.PRUNED if aside else state


class Copier:
    """Keeps the copy of a driver's study from growing old; trouble with it ends no search."""

    def __init__(
        self,
        store: Store,
        study_id: int,
        name: str,
        settings: Settings,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._sync = partial(sync, store, study_id, name, settings)
        self._clock, self._progress = clock, progress
        self._next = clock.now() + EVERY_S

    def now_and_then(self) -> None:
        """Copy when the last time was EVERY_S ago, unless another driver is doing so."""
        if self._clock.now() >= self._next:
            self.copy(wait_s=0.0)
            self._next = self._clock.now() + EVERY_S

    def copy(self, wait_s: float = WAIT_S) -> None:
        """Copy what there is."""
        try:
            self._sync(wait_s=wait_s)
        except (StoreError, StudyError, OptunaError) as error:
            self._progress(Notice(f"Optuna's copy of the study is out of date: {error}"))


def sync(
    store: Store, study_id: int, name: str, settings: Settings, *, wait_s: float = WAIT_S
) -> int:
    """Bring Optuna's copy of a study up to date; return how many trials it lacked or had wrong.

    wait_s: for another process that is copying; after that 0 is returned.
    Raises: StoreError when Optuna's tables are of another version, or its study holds trials of
        another program; StudyError when another program has made a study of this name.
    """

    def one_pass() -> int:
        with store.alone(study_id, wait_s) as alone:
            if not alone:
                return 0
            with open_optuna(store) as storage:
                return _Pass(store, storage, study_id, name, settings).catch_up()

    # A server that goes away in mid-pass takes the lock with it: begin again.
    return store.outlast(one_pass, StorageInternalError)


class _Spoilt(Exception):
    """The copy holds other trials than our rows say."""


class _Pass:
    """One pass, by the only process that copies this study at this moment."""

    def __init__(
        self, store: Store, storage: RDBStorage, study_id: int, name: str, settings: Settings
    ) -> None:
        self.store, self.storage, self.study_id, self.name = store, storage, study_id, name
        self.distributions = distributions(settings.space)
        self.directions = [
            StudyDirection.MAXIMIZE if OBJECTIVES[o] else StudyDirection.MINIMIZE
            for o in settings.objectives
        ]
        self.copy_id = self._find_or_create()

    def catch_up(self) -> int:
        """Add and finish trials; make the copy anew where it was spoilt or has been deleted."""
        behind = self.store.read(lambda s: runs.uncopied(s, self.study_id))
        whole = self.store.read(lambda s: runs.last_copied(s, self.study_id))
        try:
            if whole is None or self._find(whole) is not None:
                return self._bring(behind)
        except _Spoilt:
            self._discard()
        return self._again()

    def _again(self) -> int:
        everything = self.store.read(lambda s: runs.uncopied(s, self.study_id, everything=True))
        try:
            return self._bring(everything)
        except _Spoilt as error:
            raise StoreError(f"{self.store.shown}: {error}; {_REMEDY}") from None

    def _bring(self, behind: list[Shown]) -> int:
        # One that still runs is shown when a later one needs its number to be taken.
        while behind and behind[-1].run.state not in ENDED:
            behind.pop()
        missing = False
        for start in range(0, len(behind), _BATCH):
            batch = behind[start : start + _BATCH]
            for run, flops, params in batch:
                there = None if missing else self._find(run.trial_number)
                if there is None:
                    missing = True  # and so are all later ones
                    there = self.storage.create_new_trial(
                        self.copy_id, self._shown(run, flops, params)
                    )
                else:
                    self._finish(there, run)
            # Numbers are dense: when the last is right, all are.
            if missing and self._find(run.trial_number) != there:
                raise _Spoilt(f"Optuna's study {self.name!r} has another trial {run.trial_number}")
            self.store.write(partial(runs.mark_copied, copied=[shown.run for shown in batch]))
        return len(behind)

    def _finish(self, trial_id: int, run: Run) -> None:
        """End a trial that was shown as running, or check one that a death left unnoted."""
        trial = self.storage.get_trial(trial_id)
        if trial.user_attrs.get("fingerprint") != run.fingerprint:
            raise _Spoilt(f"trial {run.trial_number} of Optuna's study {self.name!r} is not ours")
        if run.state not in ENDED or trial.state is _state(run):
            return
        if trial.state.is_finished():  # it was put back since, and has ended otherwise
            raise _Spoilt(f"trial {run.trial_number} of Optuna's study {self.name!r} is outdated")
        if run.state != Outcome.COMPLETE.value:
            self.storage.set_trial_user_attr(trial_id, "outcome", run.state)
        state = _state(run)
        values = None if state is TrialState.FAIL else run.objectives
        self.storage.set_trial_state_values(trial_id, state, values)

    def _shown(self, run: Run, flops: int, params: int) -> FrozenTrial:
        """Return the trial that shows a run."""
        state = _state(run)
        attrs = {
            "fingerprint": run.fingerprint,
            "flops": flops,
            "params": params,
            "role": run.role,
            "label": run.label,
            "outcome": run.state if state is TrialState.FAIL else None,
        }
        scored = state in (TrialState.COMPLETE, TrialState.PRUNED)
        ended = state.is_finished() and run.finished_at is not None
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=run.objectives if scored else None,
            datetime_start=datetime.fromtimestamp(run.created_at),
            datetime_complete=datetime.fromtimestamp(run.finished_at or 0.0) if ended else None,
            params=dict(run.params),
            distributions={name: self.distributions[name] for name in run.params},
            user_attrs={key: value for key, value in attrs.items() if value is not None},
            system_attrs={},
            intermediate_values={},
        )

    def _find(self, number: int | None) -> int | None:
        try:
            return self.storage.get_trial_id_from_study_id_trial_number(self.copy_id, number or 0)
        except KeyError:
            return None

    def _find_or_create(self) -> int:
        try:
            return self.storage.create_new_study(self.directions, self.name)
        except DuplicatedStudyError:
            found = self.storage.get_study_id_from_name(self.name)
        if self.storage.get_study_directions(found) != self.directions:
            raise StudyError(
                f"study {self.name!r} exists in this database with other objectives, made by "
                "another program; choose another --study"
            )
        return found

    def _discard(self) -> None:
        """Delete a copy that is wrong, and ours alone."""
        trials = self.storage.get_all_trials(self.copy_id, deepcopy=False)
        foreign = [t.number for t in trials if "fingerprint" not in t.user_attrs]
        if foreign:
            raise StoreError(
                f"{self.store.shown}: Optuna's study {self.name!r} holds trials of another "
                f"program (trial {foreign[0]}); {_REMEDY}"
            )
        self.storage.delete_study(self.copy_id)
        self.copy_id = self._find_or_create()


_REMEDY = "delete it with `optuna delete-study`, and it is made again"


@contextmanager
def open_optuna(store: Store, *, writing: bool = True) -> Iterator[RDBStorage]:
    """Open Optuna's storage in our database, with our settings for it.

    writing: whether its transactions take SQLite's write lock; one that only reads holds up nobody.
    Raises: StoreError when its tables are of another Optuna version.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    storage = _make_tables(store)
    storage.remove_session()
    storage.engine.dispose()
    prepare(storage.engine, always_writing=writing)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


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
