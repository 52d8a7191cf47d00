"""Putting right what a crash left behind, at a driver's start and while it works.

A trial whose driver is gone, known to be dead or silent for longer than its lease, goes back to
the queue with the same design and seed, and is given up after MAX_ATTEMPTS such ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from nas.driver.access import Access
from nas.driver.progress import Notice, Recovered
from nas.errors import StudyError
from nas.store import leases, runs
from nas.store.history import find_study
from nas.store.now import Now, Time
from nas.store.runs import MAX_ATTEMPTS
from nas.store.session import opened
from nas.store.tables import Run
from nas.study.attempts import Lease
from nas.study.outcomes import UNCLEAR, Outcome


def reconcile(driver: Access) -> Recovered:
    """Requeue or give up what other drivers left, and say so when there was anything."""
    requeued = lost = 0
    stamp = driver.clock.stamp()
    for run, silent in driver.store.read(lambda s: runs.running(s, driver.study_id, stamp)):
        if not _is_orphan(driver, run, silent):
            continue
        reason = f"driver {run.lease_owner} is gone; its lease was not renewed"
        outcome = driver.store.write(
            partial(_give_up, run=run, now=driver.clock.stamp(), reason=reason)
        )
        requeued += outcome == "requeued"
        lost += outcome == "lost"
    waiting = driver.store.read(lambda s: runs.count_waiting(s, driver.study_id))
    found = Recovered(requeued, lost, waiting)
    if requeued or lost:
        driver.progress(found)
    return found


def abandon(driver: Access, lease: Lease, reason: str) -> None:
    """Do with a trial of this driver what is done with one of a driver that is gone."""
    run = driver.store.read(lambda s: s.get_one(Run, lease.run_id))
    if run.lease_owner != lease.owner or run.lease_token != lease.token:
        return
    outcome = driver.store.write(
        partial(_give_up, run=run, now=driver.clock.stamp(), reason=reason)
    )
    driver.progress(Recovered(outcome == "requeued", outcome == "lost", 0))


def offer_retry(driver: Access) -> None:
    """Say so when trials have ended that another place might train."""
    states = [str(outcome) for outcome in (*UNCLEAR, Outcome.LOST)]
    number = driver.store.read(lambda s: runs.count_states(s, driver.study_id, states))
    if number:
        trials = f"{number} trial{'s' * (number > 1)}"
        driver.progress(
            Notice(
                f"{trials} ended as error, stalled or lost; `retry {driver.name}` puts them back"
            )
        )


# Ends without a score, which may be those of another place or another time.
PUT_BACK = (
    Outcome.ERROR,
    Outcome.STALLED,
    Outcome.LOST,
    Outcome.TIMEOUT,
    Outcome.OOM,
    Outcome.NAN,
)


def put_back(name: str, storage: str, classes: Sequence[str]) -> int:
    """Queue trials of a study again that ended as one of `classes`; return how many.

    Raises: StoreError; StudyError for an unknown study, or a class that is none.
    """
    known = [str(outcome) for outcome in PUT_BACK]
    if (odd := next((c for c in classes if c not in known), None)) is not None:
        raise StudyError(f"class {odd!r} is not one of {', '.join(known)}")
    with opened(storage) as store:
        study = store.read(lambda s: find_study(s, name, store.shown))
        return store.write(lambda s: runs.put_back(s, study.id, classes, Now()))


def sweep_checkpoints(driver: Access) -> None:
    """Remove the checkpoints of trials that have ended."""
    # Folders first: one that appears later belongs to a trial that the rows below know of.
    found = [path for path in driver.checkpoints.glob("*") if path.is_dir()]
    live = driver.store.read(lambda s: runs.live_checkpoints(s, driver.study_id))
    names = {Path(path).name for path in live}
    for path in found:
        if path.name not in names:
            drop_checkpoint(str(path))


def drop_checkpoint(path: str | None) -> None:
    """Remove a checkpoint folder, if it is there."""
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)


def _is_orphan(driver: Access, run: Run, silent: bool) -> bool:
    """Whether the driver of a running run is gone. silent: its lease has run out."""
    if run.lease_owner is None:
        return True
    if run.lease_owner == driver.owner:
        return False
    return silent or driver.clock.is_dead(run.lease_owner)


def _give_up(session: Session, run: Run, now: Time, reason: str) -> str:
    """End an attempt whose driver is gone; queue another one unless there were too many."""
    if not leases.revoke(session, run, Outcome.LOST, reason, now):
        return "moved"
    ended = session.get_one(Run, run.id, populate_existing=True)
    # One that was put back after it had been given up has as many attempts again.
    if runs.attempts_lost(session, ended) % MAX_ATTEMPTS == 0:
        return "lost"
    runs.retry(session, ended, now=now)
    return "requeued"
