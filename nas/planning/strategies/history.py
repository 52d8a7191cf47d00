"""The history of a study in memory, as Optuna's samplers want to read it.

The rows of the database are the truth. This copy holds every proposal at its index, in whatever
order they ended, and one trial that is being made up. Samplers may attach attributes to that
trial and to the study; everything else is closed, because nothing here may differ from the rows.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_STUDY_ID = 0


class History(BaseStorage):
    """Trials by proposal index. Ids are indices; the next index is the trial being made up.

    draft: that trial, which stands among the others while it is being made up, as in any storage.
    """

    def __init__(self, name: str, directions: Sequence[StudyDirection]) -> None:
        self.name = name
        self.directions = list(directions)
        self.trials: list[FrozenTrial] = []
        self.memory: dict[str, Any] = {}
        self.draft: FrozenTrial | None = None

    def put(self, trial: FrozenTrial) -> None:
        """Add the next trial, or replace one that has changed."""
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial

    # --- what samplers read ---

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials by index; never copies of them, which nobody changes."""
        trials = self.trials if self.draft is None else [*self.trials, self.draft]
        return [t for t in trials if states is None or t.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return one trial."""
        drafted = self.draft is not None and trial_id == self.draft.number
        return self.draft if drafted and self.draft is not None else self.trials[trial_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the directions of the objectives."""
        return self.directions

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what strategies remember."""
        return dict(self.memory)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return nothing: ours are in the database."""
        return {}

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of the only study."""
        return _STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of the only study."""
        return self.name

    # --- what samplers write ---

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Remember something beside the trials."""
        self.memory = {**self.memory, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Attach something to the trial that is being made up."""
        if self.draft is None or trial_id != self.draft.number:
            _closed()
        self.draft.system_attrs[key] = value

    # --- what nobody does ---

    def get_all_studies(self) -> list[Any]:
        """Refuse."""
        _closed()

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Refuse."""
        _closed()

    def delete_study(self, study_id: int) -> None:
        """Refuse."""
        _closed()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Refuse."""
        _closed()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Refuse."""
        _closed()

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Refuse."""
        _closed()

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Refuse."""
        _closed()

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Refuse."""
        _closed()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Refuse."""
        _closed()


def _closed() -> NoReturn:
    raise RuntimeError("the history is a copy of the database; write there, then read it again")
