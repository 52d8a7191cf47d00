"""What one driver holds of one study, and what it answers whoever asks it for work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.driver.clock import Clock
from nas.driver.progress import Progress
from nas.store.session import Store
from nas.study.settings import Settings

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
    """One driver's access to one study, under an owner id of its own.

    checkpoints: folder for those of the study's trials.
    """

    def __init__(
        self,
        store: Store,
        study_id: int,
        name: str,
        settings: Settings,
        *,
        clock: Clock,
        checkpoints: Path,
        progress: Progress,
    ) -> None:
        self.store, self.study_id, self.name, self.settings = store, study_id, name, settings
        self.clock, self.checkpoints, self.progress = clock, checkpoints, progress
        self.owner = clock.owner()
