"""What Ray Tune is handed: a searcher, a scheduler, a callback. Imports Ray."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas.driver.access import Done
from nas.executors.ray_desk import Desk
from nas.executors.wire import attempt_to


class StartBell(tune.Callback):  # type: ignore[misc]
    """Says when a trial has got its resources."""

    def __init__(self, desk: Desk) -> None:
        self.desk: Desk | None = desk

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take down that a trial has begun, and how its worker is killed."""
        if self.desk is not None:
            self.desk.began(trial.trial_id, lambda: _kill(trial))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open database behind."""
        return {"desk": None}


def _kill(trial: Any) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


def _error_of(trial: Any) -> Exception | None:
    """Return what Ray says of a trial's end; where it ran out of memory Tune keeps the words."""
    # Tune's own readers look where these files are copied to, later.
    if trial.pickled_error_file is not None:
        error: Exception = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    if trial.error_file is None:
        return None
    return RuntimeError(Path(trial.error_file).read_text().partition("\n")[2])  # after the time


class StudySearcher(Searcher):  # type: ignore[misc]
    """Gives Tune what the coordinator has leased."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk: Desk | None = desk

    def suggest(self, trial_id: str) -> Any:
        """Return an attempt, None for later, or FINISHED."""
        assert self.desk is not None
        work = self.desk.hand_out(trial_id)
        if isinstance(work, Done):
            return Searcher.FINISHED
        return None if work is None else {"attempt": attempt_to(work)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn that a trial has ended."""
        if self.desk is not None:
            self.desk.ended(trial_id, failed=error)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the database has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open database behind when Tune pickles its searcher."""
        return {**self.__dict__, "desk": None}


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Writes epochs down and ends trials that the study wants ended."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk: Desk | None = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Take an epoch or a final result."""
        assert self.desk is not None
        goes_on = self.desk.epoch(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Learn why a worker died, before the searcher hears that it did."""
        if self.desk is not None:
            self.desk.died(trial.trial_id, _error_of(trial))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open database behind."""
        return {**self.__dict__, "desk": None}
