"""The one who writes: hands out trials, takes results, and puts right what crashes left behind.

Executors ask `next` for work and report to `epoch`, `finish` and `release`. Every answer is in
the database before anything else happens, and every call may be the last one of this process:
the next driver finds a consistent study and goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from nas.driver import recovery
from nas.driver.access import Access, Done, Wait
from nas.driver.attempts import attempt_of
from nas.driver.comparing import Comparing
from nas.driver.confirming import Confirming
from nas.driver.disk import Quota, shortage
from nas.driver.failures import Breaker, goes_back
from nas.driver.optuna_copy import Copier
from nas.driver.progress import (
    EpochDone,
    Notice,
    Progress,
    Replayed,
    TrialFinished,
    TrialRequeued,
    TrialStarted,
)
from nas.driver.proposing import Proposing
from nas.driver.studies import Study
from nas.errors import StoreError
from nas.planning.pruning import Pruner
from nas.store import history, leases, measurements, runs
from nas.store.leases import LEASE_S
from nas.store.now import Time
from nas.store.tables import Architecture, Run
from nas.study.attempts import Attempt, Lease, Result, finite
from nas.study.outcomes import UNCLEAR, Outcome
from nas.study.proposals import CANDIDATE, REPLAY
from nas.study.recipe import Recipe

# A driver whose first trials all fail stops: the mistake is not in the designs.
ALL_FAILED = 3
# Ends after which another attempt may be made.
_RETRIED = frozenset((*UNCLEAR, Outcome.OOM))
_FAILURES = _RETRIED | {Outcome.NAN, Outcome.TIMEOUT}
DISK_POLL_S = 5.0


class Coordinator(Access):
    """One driver's access to one study. Its methods may be called from several threads."""

    def __init__(self, study: Study, *, environment: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(study, progress)
        gigabytes = self.place.max_checkpoint_gb
        limit = None if gigabytes is None else int(gigabytes * 2**30)
        self.quota = Quota(self.checkpoints, limit)
        self.proposing = Proposing(self, partial(self._columns, halvings=0))
        self.confirming = Confirming(self, self.proposing)
        self.comparing = Comparing(self, self.proposing)
        self.environment_id = self.store.write(
            lambda s: runs.add_environment(s, environment, self.clock.stamp())
        )
        self._environments: set[str | None] = {self.environment_id}
        self.copier = Copier(
            study.store, study.id, study.name, study.settings, study.clock, progress
        )
        asha = self.settings.pruner == "asha"
        self.pruner = Pruner(self.settings.recipe.epochs) if asha else None
        self._scored_on = self.store.read(lambda s: history.scored_on(s, study.id))
        limit_s, now = self.place.timeout_s, self.clock.now()
        self._stop_at = None if limit_s is None else now + limit_s
        self._stopping: str | None = None
        self._blocked: str | None = "what a driver before may have left"
        self.block(None)
        self._failures: list[str] = []
        self.breaker = Breaker(self.clock)
        self._erred: set[int] = set()  # proposals that others shall try first
        self._any_success = self.store.read(lambda s: runs.best(s, study.id)) is not None
        self._next_look = now
        self._lock = threading.RLock()

    def close(self) -> None:
        """Leave no word behind of why no trial can start."""
        self.block(None)

    def block(self, reason: str | None) -> None:
        """Write down for `status` why no trial can start, or that trials start again."""
        if reason == self._blocked:
            return
        # The reason may be a full disk, which is the database's as well.
        with suppress(StoreError):
            self.store.write(lambda s: runs.change_study(s, self.study_id, blocked=reason))
            self._blocked = reason

    # --- handing out ---------------------------------------------------------------------------

    def next(self) -> Attempt | Wait | Done:
        """Return the next trial to train, leased to this driver.

        Raises: SpaceError or BudgetError when no design of the space fits the budget.
        """
        with self._lock:
            self._look_around()
            while True:
                if (reason := self._must_stop()) is not None:
                    return Done(reason, complete=False)
                short = shortage(self.checkpoints)
                self.block(short)
                if short is not None:
                    return Wait(f"{short}; free some, the search goes on by itself", DISK_POLL_S)
                if (pause := self.breaker.pause_s) > 0:
                    return Wait(f"{self.breaker.reason}; trying again", pause)
                if (attempt := self._waiting(self._erred)) is not None:
                    return attempt
                answer = self.proposing.propose()
                if isinstance(answer, Done) and answer.complete:
                    answer = self.confirming.propose(answer)
                if isinstance(answer, Done) and answer.complete:
                    answer = self.comparing.propose(answer)
                if isinstance(answer, (Wait, Done)):
                    return (self._waiting() if self._erred else None) or answer
                run, design = answer
                if run.role != REPLAY:
                    return self._started(run, runs.lease_of(run), design)
                self._replayed(run)

    def _look_around(self) -> None:
        """See now and then what has become of other drivers' trials."""
        if self.clock.now() < self._next_look:
            return
        with self._lock:
            recovery.reconcile(self)
            if self.pruner is not None:
                self._learn_rungs(self.pruner)
            self._next_look = self.clock.now() + LEASE_S / 3

    def _learn_rungs(self, pruner: Pruner) -> None:
        shown = self.store.read(
            lambda s: history.epochs_of_candidates(s, self.study_id, pruner.rungs)
        )
        pruner.learn((run_id, epoch, self._shown(data)) for run_id, epoch, data in shown)

    def _shown(self, metrics: Mapping[str, Any]) -> float:
        return self.settings.recipe.score_of(metrics)

    def stop(self, reason: str) -> None:
        """Start nothing new."""
        self._stopping = self._stopping or reason

    def _must_stop(self) -> str | None:
        if self._stopping is not None:
            return self._stopping
        if self._stop_at is not None and self.clock.now() >= self._stop_at:
            return f"the time limit of {self.place.timeout_s:g} s is reached"
        if (tripped := self.breaker.tripped) is not None:
            return tripped
        if len(self._failures) >= ALL_FAILED and not self._any_success:
            return (
                f"the first {len(self._failures)} trials all failed, the last one with: "
                f"{self._failures[-1]}"
            )
        return None

    def _waiting(self, but: Collection[int] = ()) -> Attempt | None:
        """Learn what has happened and claim the first run that waits for somebody.

        but: proposals to pass over.
        """
        while True:
            run = self.proposing.sync_and(lambda s: runs.first_waiting(s, self.study_id, but))
            if run is None:
                return None
            lease = self._claim(run)
            if lease is not None:
                design = self.store.read(partial(history.architecture, run=run))
                return self._started(run, lease, design)

    def _claim(self, run: Run) -> Lease | None:
        now = self.clock.stamp()
        place = self._columns(run.fingerprint, run.proposal, run.halvings)
        return self.store.write(lambda s: leases.claim(s, run, self.owner, now, place))

    def _started(self, run: Run, lease: Lease, design: Architecture) -> Attempt:
        measured = partial(
            measurements.of_design, architecture_id=design.id, settings=self.settings
        )
        attempt = attempt_of(
            run,
            design,
            self.settings,
            self.place,
            measured=self.store.read(measured) if self.settings.measures else None,
            lease=lease,
            checkpoint=self._allowed(self.checkpoint(run.fingerprint, run.proposal, run.halvings)),
            avoid=self.breaker.broken,
        )
        told = {field.name: getattr(attempt, field.name) for field in fields(TrialStarted)}
        self.progress(TrialStarted(**told))
        return attempt

    def _replayed(self, run: Run) -> None:
        of = self.store.read(lambda s: s.get_one(Run, run.replay_of).trial_number)
        assert run.trial_number is not None and of is not None
        self.progress(Replayed(run.trial_number, of, run.score))

    def checkpoint(self, fingerprint: str, proposal: int, halvings: int) -> Path:
        """Return the folder of a trial's checkpoint: the same for every attempt at it."""
        return self.checkpoints / f"{fingerprint[:20]}-{proposal}-{halvings}"

    def _allowed(self, checkpoint: Path) -> str | None:
        if self.quota.limit is None:
            return str(checkpoint)
        live = self.store.read(lambda s: runs.live_checkpoints(s, self.study_id))
        if self.quota.admits(checkpoint, live):
            return str(checkpoint)
        self.progress(Notice("no room in the checkpoint quota: this trial keeps no checkpoint"))
        return None

    def _columns(self, fingerprint: str, proposal: int, halvings: int) -> dict[str, Any]:
        """Return the columns that say where a run will run."""
        return {
            "device": self.place.device,
            "environment_id": self.environment_id,
            "checkpoint": str(self.checkpoint(fingerprint, proposal, halvings)),
        }

    # --- taking results ------------------------------------------------------------------------

    def renew(self, attempt: Attempt, batch: int | None = None, *, begins: bool = False) -> None:
        """Keep a trial.

        batch: how many updates it has made, where it has made more since the last time.
        begins: whether it begins only now, after it had waited for room.
        Raises: LeaseLost when another driver has it.
        """
        now = self.clock.stamp()
        self.store.write(lambda s: leases.renew(s, attempt.lease, now, batch, begins=begins))
        self._look_around()  # also while this driver asks for nothing: a trial may take hours

    def epoch(self, attempt: Attempt, metrics: Any) -> bool:
        """Record the metrics of an epoch; return whether the pruner ends the trial here.

        Raises: LeaseLost when another driver has the trial.
        """
        now, data = self.clock.stamp(), finite(asdict(metrics))
        self.store.write(lambda s: leases.record_epoch(s, attempt.lease, data["epoch"], data, now))
        self.progress(EpochDone(attempt.trial, data["epoch"], data["epochs"], data))
        if self.pruner is None or attempt.role != CANDIDATE or data["epoch"] >= data["epochs"]:
            return False
        with self._lock:
            return self.pruner.stops(attempt.lease.run_id, data["epoch"], self._shown(data))

    def finish(self, attempt: Attempt, result: Result) -> None:
        """Record how an attempt ended, and put back what shall be tried again.

        A first lack of memory is, at half the batch, and so is an error that is the place's.

        Raises: LeaseLost when another driver has the trial; then nothing is recorded.
        """
        now, facts, where = self.clock.stamp(), result.environment, {}
        if facts is not None:
            where = {"environment_id": runs.environment_id(facts), "node": facts.get("host")}

        def write(session: Session) -> tuple[Row[Any], str | None]:
            if facts is not None and where["environment_id"] not in self._environments:
                runs.add_environment(session, facts, now)
            leases.finish(session, attempt.lease, result, now, **where)
            again = _retried(session, attempt, result, now) if result.outcome in _RETRIED else None
            return runs.finished(session, self.study_id, attempt.lease.run_id), again

        ended, again = self.store.write(write, durable=True)
        self._environments |= {ended.environment_id}
        self.breaker.note(result)
        recovery.drop_checkpoint(attempt.checkpoint)
        if again:
            if result.outcome in UNCLEAR and result.place is None:
                self._erred.add(ended.proposal)
            self.progress(TrialRequeued(attempt.trial, again))
            return
        self._note(attempt, result, ended)
        self.copier.now_and_then()

    def abandon(self, attempt: Attempt, reason: str) -> None:
        """Queue a trial again, or give it up, because what trained it has died."""
        recovery.abandon(self, attempt.lease, reason)

    def release(self, attempt: Attempt, reason: str) -> None:
        """Give an unfinished trial back, to be continued later.

        Raises: LeaseLost when another driver has it.
        """
        self.store.write(lambda s: leases.release(s, attempt.lease))
        self.progress(TrialRequeued(attempt.trial, reason))

    def _compares(self, attempt: Attempt, result: Result) -> None:
        """Say so when a score was made on other hardware than the scores before it."""
        if result.score is None or result.backend is None:
            return
        mine = (attempt.device.partition(":")[0], result.backend)
        others = self._scored_on - {mine}
        if others and mine not in self._scored_on:
            self.progress(
                Notice(
                    f"trial {attempt.trial} was scored by {mine[1]} on {mine[0]}, trials before it "
                    f"by {' and '.join(f'{b} on {d}' for d, b in sorted(others))}: such scores "
                    "differ in more than the designs; give --backend to all drivers"
                )
            )
        self._scored_on.add(mine)

    def _note(self, attempt: Attempt, result: Result, ended: Row[Any]) -> None:
        """Tell the display, and remember what decides about going on."""
        self._compares(attempt, result)
        with self._lock:
            if result.outcome is Outcome.COMPLETE and result.score is not None:
                self._any_success = True
            elif result.outcome in _FAILURES:
                self._failures.append(f"{result.outcome}: {result.error}")
        started = ended.started_at if ended.started_at is not None else ended.created_at
        self.progress(
            TrialFinished(
                trial=attempt.trial,
                role=attempt.role,
                label=attempt.label,
                outcome=result.outcome,
                score=result.score,
                seconds=None if ended.finished_at is None else ended.finished_at - started,
                error=result.error,
                best=ended.best == attempt.trial,
                done=ended.done,
                trials=self.trials,
            )
        )


def _retried(session: Session, attempt: Attempt, result: Result, now: Time) -> str | None:
    """Queue a failed attempt again where another may end otherwise, and say why; else None."""
    run, halvings = session.get_one(Run, attempt.lease.run_id), None
    if result.outcome is Outcome.OOM and run.halvings == 0 and _can_halve(attempt):
        again, halvings = "out of memory; tried again at half the batch", 1
    elif goes_back(session, run, result):
        again = f"{result.error}; tried again, since " + (
            "a known design trains here"
            if result.place is None
            else f"a known design fails here as well: {result.place}"
        )
    else:
        return None
    if run.newest:
        runs.retry(session, run, halvings=halvings, now=now)
    return again


def _can_halve(attempt: Attempt) -> bool:
    recipe = Recipe.model_validate(dict(attempt.recipe))
    return recipe.batch_size // (2 * recipe.accumulate) >= 2
