"""Running a study: one driver, from its first trial to its last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from nas.driver.access import Done
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Progress, StudyFinished, StudyStarted, silent
from nas.driver.recovery import sweep_checkpoints
from nas.driver.signals import on_signal
from nas.driver.studies import Study
from nas.store import runs
from nas.study.proposals import CANDIDATE
from nas.training.environment import environment


class Executor(Protocol):
    """Runs what a coordinator hands out until it has no more, or is asked to stop."""

    name: str

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until the coordinator has none left for us; return its last word."""
        ...

    def stop(self) -> None:
        """End running trials at their next epoch. May be called from a signal handler."""
        ...


def run(
    study: Study,
    executor: Executor,
    progress: Progress = silent,
    *,
    trials: int | None = None,
    timeout_s: float | None = None,
    checkpoints: Path | None = None,
    max_checkpoint_gb: float | None = None,
) -> StudyFinished:
    """Run a study until its candidates are trained, its time is over, or a signal asks to stop.

    trials: new number of candidates wanted in all. timeout_s: replaces the stored limit.
    checkpoints: folder for them, one that all machines share on a cluster.
    max_checkpoint_gb: what they may take together; a trial beyond it keeps none.
    Returns: the last event, which `progress` has been told as well.
    Raises: StoreError when the database is lost for good; KeyboardInterrupt at a second signal.
        The study is intact and can be continued after either.
    """
    settings = study.settings
    if trials is not None:
        settings = replace(settings, trials=trials)
    if timeout_s is not None:
        settings = replace(settings, timeout_s=timeout_s)
    study.store.write(lambda s: runs.set_trials(s, study.id, settings.trials))
    study.settings = settings
    folder = study.checkpoints if checkpoints is None else checkpoints / study.name
    driver = Coordinator(
        study.store,
        study.id,
        study.name,
        settings,
        clock=study.clock,
        checkpoints=folder,
        environment=environment(),
        progress=progress,
        max_checkpoint_bytes=None if max_checkpoint_gb is None else int(max_checkpoint_gb * 2**30),
    )

    def stop(signal_name: str) -> None:
        driver.stop(f"stopped by {signal_name}")
        executor.stop()
        progress(Notice(f"{signal_name}: stopping after this epoch; once more to stop at once"))

    try:
        progress(_started(study, driver))
        sweep_checkpoints(driver)
        with on_signal(stop):
            last = executor.execute(driver)
        driver.copier.copy()
    finally:
        driver.close()
    done = study.store.read(lambda s: runs.count(s, study.id, CANDIDATE, ended=True))
    best = study.store.read(lambda s: runs.best(s, study.id))  # other drivers' trials as well
    finished = StudyFinished(
        study=study.name,
        reason=last.reason,
        complete=last.complete,
        done=done,
        trials=settings.trials,
        best_trial=None if best is None else best[1],
        best_score=None if best is None else best[0],
    )
    progress(finished)
    return finished


def _started(study: Study, driver: Coordinator) -> StudyStarted:
    done = study.store.read(lambda s: runs.count(s, study.id, CANDIDATE, ended=True))
    wanted = driver.settings.warm_start == "presets"
    return StudyStarted(
        study=study.name,
        storage=study.store.shown,
        trials=driver.settings.trials,
        done=done,
        baselines=len(driver.settings.space.points) if wanted else 0,
        continued=study.continued,
    )
