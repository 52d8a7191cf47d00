"""Running a study: one driver, from its first trial to its last."""

from __future__ import annotations

from typing import Protocol

from nas.driver.access import Done
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Progress, StudyFinished, StudyStarted, silent
from nas.driver.recovery import offer_retry, sweep_checkpoints
from nas.driver.signals import on_signal
from nas.driver.studies import Study
from nas.store import runs
from nas.study.proposals import CANDIDATE
from nas.study.tasks import metric_of
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
) -> StudyFinished:
    """Run a study until its candidates are trained, its time is over, or a signal asks to stop.

    trials: new number of candidates wanted in all, for every driver of the study.
    Returns: the last event, which `progress` has been told as well.
    Raises: StoreError when the database is lost for good; KeyboardInterrupt at a second signal.
        The study is intact and can be continued after either.
    """
    if trials is not None:
        study.want(trials)
    driver = Coordinator(study, environment=environment(), progress=progress)

    def stop(signal_name: str) -> None:
        driver.stop(f"stopped by {signal_name}")
        executor.stop()
        progress(Notice(f"{signal_name}: stopping after this epoch; once more to stop at once"))

    try:
        progress(_started(study, driver))
        sweep_checkpoints(driver)
        offer_retry(driver)
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
        trials=driver.trials,
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
        trials=driver.trials,
        done=done,
        baselines=len(driver.settings.baselines)
        + (len(driver.settings.space.points) if wanted else 0),
        continued=study.continued,
        metric=metric_of(driver.settings.recipe.to_dict()),
    )
