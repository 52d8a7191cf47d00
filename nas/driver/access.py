"""What one driver holds of one study, and what it answers whoever asks it for work."""

from __future__ import annotations

from dataclasses import dataclass

from nas.driver.progress import Progress
from nas.driver.studies import Study

POLL_S = 1.0


@dataclass(frozen=True)
class Wait:
    """Nothing to start at this moment; ask again after `seconds`."""

    reason: str
    seconds: float = POLL_S


@dataclass(frozen=True)
class Done:
    """Nothing to start for this driver any more. complete: the study is whole."""

    reason: str
    complete: bool


class Access:
    """One driver's access to one study, under an owner id of its own."""

    def __init__(self, study: Study, progress: Progress) -> None:
        self.store, self.study_id, self.name = study.store, study.id, study.name
        self.settings, self.place, self.clock = study.settings, study.place, study.clock
        self.checkpoints, self.progress = study.checkpoints, progress
        self.trials = study.settings.trials
        self.owner = study.clock.owner()
