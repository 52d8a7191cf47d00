"""The one who writes: hands out trials, takes results, and puts right what crashes left behind.

Executors ask `next` for work and report to `epoch`, `finish` and `release`. Every answer is in
the database before anything else happens, and every call may be the last one of this process:
the next driver finds a consistent study and goes on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from nas.driver import recovery
from nas.driver.clock import Clock
from nas.driver.disk import Quota, shortage
from nas.driver.optuna_copy import Projection
from nas.driver.progress import (
    EpochDone,
    Notice,
    Progress,
    Replayed,
    TrialFinished,
    TrialRequeued,
    TrialStarted,
)
from nas.errors import StoreError
from nas.planning.proposals import Planner
from nas.planning.pruning import Pruner
from nas.store import history as journal
from nas.store import leases, runs
from nas.store.leases import LEASE_S
from nas.store.runs import Refusal
from nas.store.session import Store
from nas.store.tables import Architecture, Run
from nas.study.attempts import Attempt, Lease, Result
from nas.study.outcomes import Outcome
from nas.study.proposals import CANDIDATE, REPLAY, NewProposal
from nas.study.recipe import Recipe
from nas.study.settings import Settings
from search_spaces.errors import SpaceError

# A driver whose first trials all fail stops: the mistake is not in the designs.
ALL_FAILED = 3
_FAILURES = frozenset((Outcome.ERROR, Outcome.OOM, Outcome.NAN, Outcome.TIMEOUT))
POLL_S = 1.0
DISK_POLL_S = 5.0


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


class Coordinator:
    """One driver's access to one study. Its methods may be called from several threads."""

    def __init__(
        self,
        store: Store,
        study_id: int,
        name: str,
        settings: Settings,
        *,
        clock: Clock,
        checkpoints: Path,
        environment: Mapping[str, Any],
        progress: Progress,
        max_checkpoint_bytes: int | None = None,
    ) -> None:
        self.store, self.study_id, self.name, self.settings = store, study_id, name, settings
        self.clock, self.checkpoints, self.progress = clock, checkpoints, progress
        self.owner = clock.owner()
        self.quota = Quota(checkpoints, max_checkpoint_bytes)
        self.projection = Projection(store, study_id, name, settings)
        memory = store.read(lambda s: journal.find_study(s, name, store.shown).planner)
        self.planner = Planner(name, settings, memory)
        self.environment_id = store.write(
            lambda s: runs.add_environment(s, environment, clock.now())
        )
        self.pruner = Pruner(study_id, settings.recipe) if settings.pruner == "asha" else None
        self.best = store.read(lambda s: runs.best(s, study_id))
        self._stop_at = None if settings.timeout_s is None else clock.now() + settings.timeout_s
        self._stopping: str | None = None
        self._blocked: str | None = "what a driver before may have left"
        self.block(None)
        self._failures: list[str] = []
        self._any_success = self.best is not None
        self._labels_done: set[str] = set()
        self._next_look = clock.now()
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close this driver's connections to Optuna's tables."""
        self.block(None)
        self.projection.close()

    def block(self, reason: str | None) -> None:
        """Write down for `status` why no trial can start, or that trials start again."""
        if reason == self._blocked:
            return
        # The reason may be a full disk, which is the database's as well.
        with suppress(StoreError):
            self.store.write(lambda s: runs.set_blocked(s, self.study_id, reason))
            self._blocked = reason

    # --- handing out ---------------------------------------------------------------------------

    def next(self) -> Attempt | Wait | Done:
        """Return the next trial to train, leased to this driver.

        Raises: SpaceError or BudgetError when no design of the space fits the budget.
        """
        with self._lock:
            if self.clock.now() >= self._next_look:
                recovery.reconcile(self)
                if self.pruner is not None:
                    self.store.read(self.pruner.learn)
                self._next_look = self.clock.now() + LEASE_S / 3
            while True:
                if (reason := self._must_stop()) is not None:
                    return Done(reason, complete=False)
                short = shortage(self.checkpoints)
                self.block(short)
                if short is not None:
                    return Wait(f"{short}; free some, the search goes on by itself", DISK_POLL_S)
                if (task := self._waiting()) is not None:
                    return task
                answer = self._propose()
                if isinstance(answer, (Wait, Done)):
                    return answer
                run, design = answer
                if run.role != REPLAY:
                    return self._started(run, runs.lease_of(run), design)
                self._replayed(run)

    def stop(self, reason: str) -> None:
        """Start nothing new."""
        self._stopping = self._stopping or reason

    def _must_stop(self) -> str | None:
        if self._stopping is not None:
            return self._stopping
        if self._stop_at is not None and self.clock.now() >= self._stop_at:
            return f"the time limit of {self.settings.timeout_s:g} s is reached"
        if len(self._failures) >= ALL_FAILED and not self._any_success:
            return (
                f"the first {len(self._failures)} trials all failed, the last one with: "
                f"{self._failures[-1]}"
            )
        return None

    def _waiting(self) -> Attempt | None:
        """Claim the first run that waits for somebody."""
        while True:
            run = self.store.read(lambda s: runs.first_waiting(s, self.study_id))
            if run is None:
                return None
            lease = self._claim(run)
            if lease is not None:
                design = self.store.read(partial(journal.architecture, run=run))
                return self._started(run, lease, design)

    def _claim(self, run: Run) -> Lease | None:
        now, place = self.clock.now(), self._place(run.fingerprint, run.halvings)
        return self.store.write(lambda s: leases.claim(s, run, self.owner, now, place))

    def _propose(self) -> tuple[Run, Architecture] | Wait | Done:
        """Write the next proposal, or say why there is none."""
        while True:
            self._sync()
            new = self._next_baseline() or self._next_candidate()
            if not isinstance(new, NewProposal):
                return new
            answer = self._write(new)
            if isinstance(answer, Run):
                design = self.store.read(partial(journal.architecture, run=answer))
                self.projection.create(answer, design=design)
                return answer, design
            if answer is Refusal.FULL:
                return self._end("another driver has changed the number of trials")
            # Another driver was faster: learn what it did, and propose again.

    def _write(self, new: NewProposal) -> Run | Refusal:
        now, memory = self.clock.now(), dict(self.planner.history.memory)
        place = self._place(new.fingerprint, 0)

        def write(session: Session) -> Run | Refusal:
            answer = runs.propose(session, self.study_id, new, self.owner, now, place)
            if memory and isinstance(answer, Run):
                runs.set_planner(session, self.study_id, memory)
            return answer

        return self.store.write(write)

    def _sync(self) -> None:
        """Bring the planner's history up to the database."""
        after, also = self.planner.known - 1, self.planner.pending
        self.planner.learn(
            self.store.read(lambda s: journal.entries(s, self.study_id, after, also))
        )

    def _next_baseline(self) -> NewProposal | None:
        if self.settings.warm_start != "presets":
            return None
        presets = [p for p in self.settings.space.points if p not in self._labels_done]
        if presets:
            self._labels_done |= self.store.read(
                lambda s: journal.baseline_labels(s, self.study_id)
            )
        for preset in presets:
            if preset in self._labels_done:
                continue
            try:
                return self.planner.baseline(preset)
            except SpaceError as error:
                self._labels_done.add(preset)
                self.progress(Notice(f"no baseline {preset}: {error}"))
        return None

    def _next_candidate(self) -> NewProposal | Wait | Done:
        made = self.store.read(lambda s: runs.count(s, self.study_id, CANDIDATE))
        if made >= self.settings.trials:
            return self._end(f"{made} of {self.settings.trials} candidates are done")
        answer = self.planner.candidate()
        if isinstance(answer, NewProposal):
            return answer
        return self._end(answer.reason) if answer.final else Wait(answer.reason)

    def _end(self, reason: str) -> Wait | Done:
        """Stay until the last running trial has ended: its driver may die."""
        pending = len(self.planner.pending)
        if pending:
            return Wait(f"{pending} {'trial is' if pending == 1 else 'trials are'} still running")
        return Done(reason, complete=True)

    def _started(self, run: Run, lease: Lease, design: Architecture) -> Attempt:
        task = self._task(run, design, lease)
        self.progress(
            TrialStarted(
                trial=task.trial,
                role=task.role,
                label=task.label,
                kind=task.kind,
                fingerprint=task.fingerprint,
                flops=task.flops,
                params=task.params,
                epochs=task.epochs,
                attempt=task.attempt,
                continued=task.continued,
            )
        )
        return task

    def _task(self, run: Run, design: Architecture, lease: Lease) -> Attempt:
        s = self.settings
        if run.trial_number is None:
            self.projection.create(run, search=True)
        assert run.trial_number is not None
        cost = {"flops": design.flops, "params": design.params}
        return Attempt(
            lease=lease,
            trial=run.trial_number,
            attempt=run.attempt,
            role=run.role,
            label=run.label,
            kind=run.kind,
            fingerprint=run.fingerprint,
            flops=design.flops,
            params=design.params,
            config=design.config,
            recipe=s.recipe.halved(run.halvings).to_dict(),
            seed=run.seed,
            device=s.device,
            backend=s.backend,
            checkpoint=self._allowed(self.checkpoint(run.fingerprint, run.halvings)),
            timeout_s=s.trial_timeout_s,
            costs=tuple(float(cost[o]) for o in s.objectives[1:]),
        )

    def _replayed(self, run: Run) -> None:
        of = self.store.read(lambda s: s.get_one(Run, run.replay_of).trial_number)
        assert run.trial_number is not None and of is not None
        self.progress(Replayed(run.trial_number, of, run.score))

    def checkpoint(self, fingerprint: str, halvings: int) -> Path:
        """Return the folder of a design's checkpoint: the same for every attempt at it."""
        return self.checkpoints / f"{fingerprint[:20]}-{halvings}"

    def _allowed(self, checkpoint: Path) -> str | None:
        if self.quota.limit is None:
            return str(checkpoint)
        live = self.store.read(lambda s: runs.live_checkpoints(s, self.study_id))
        if self.quota.admits(checkpoint, live):
            return str(checkpoint)
        self.progress(Notice("no room in the checkpoint quota: this trial keeps no checkpoint"))
        return None

    def _place(self, fingerprint: str, halvings: int) -> dict[str, Any]:
        return {
            "device": self.settings.device,
            "environment_id": self.environment_id,
            "checkpoint": str(self.checkpoint(fingerprint, halvings)),
        }

    # --- taking results ------------------------------------------------------------------------

    def renew(self, task: Attempt) -> None:
        """Keep a trial.

        Raises: LeaseLost when another driver has it.
        """
        now = self.clock.now()
        self.store.write(lambda s: leases.renew(s, task.lease, now))

    def epoch(self, task: Attempt, metrics: Any) -> bool:
        """Record the metrics of an epoch; return whether the pruner ends the trial here.

        Raises: LeaseLost when another driver has the trial.
        """
        now, data = self.clock.now(), finite(asdict(metrics))
        self.store.write(lambda s: leases.record_epoch(s, task.lease, data["epoch"], data, now))
        self.progress(EpochDone(task.trial, data["epoch"], data["epochs"], data))
        if self.pruner is None or task.role != CANDIDATE or data["epoch"] >= data["epochs"]:
            return False
        with self._lock:
            return self.pruner.stops(task.lease.run_id, data)

    def finish(self, task: Attempt, result: Result) -> None:
        """Record how an attempt ended; a first lack of memory is tried again at half the batch.

        Raises: LeaseLost when another driver has the trial; then nothing is recorded.
        """
        now = self.clock.now()
        again = result.outcome is Outcome.OOM and self._can_halve(task)

        def write(session: Session) -> Run:
            leases.finish(session, task.lease, result, now)
            run = session.get_one(Run, task.lease.run_id)
            if again and run.newest:
                runs.retry(session, run, halvings=run.halvings + 1, now=now)
            return run

        run = self.store.write(write, durable=True)
        recovery.drop_checkpoint(task.checkpoint)
        if again:
            self.progress(TrialRequeued(task.trial, "out of memory; tried again at half the batch"))
            return
        self.projection.tell(run)
        self._note(task, result, run)

    def abandon(self, task: Attempt, reason: str) -> None:
        """Queue a trial again, or give it up, because what trained it has died."""
        recovery.abandon(self, task.lease, reason)

    def release(self, task: Attempt, reason: str) -> None:
        """Give an unfinished trial back, to be continued later.

        Raises: LeaseLost when another driver has it.
        """
        self.store.write(lambda s: leases.release(s, task.lease))
        self.progress(TrialRequeued(task.trial, reason))

    def _can_halve(self, task: Attempt) -> bool:
        recipe = Recipe.model_validate(dict(task.recipe))
        whole = recipe.accumulate == self.settings.recipe.accumulate
        return whole and recipe.batch_size // (2 * recipe.accumulate) >= 2

    def _note(self, task: Attempt, result: Result, run: Run) -> None:
        """Tell the display, and remember what decides about going on."""
        with self._lock:
            is_best = False
            if result.outcome is Outcome.COMPLETE and result.score is not None:
                self._any_success = True
                if self.best is None or result.score > self.best[0]:
                    self.best, is_best = (result.score, task.trial), True
            elif result.outcome in _FAILURES:
                self._failures.append(f"{result.outcome}: {result.error}")
            done = self.store.read(lambda s: runs.count(s, self.study_id, CANDIDATE, ended=True))
        started = run.started_at if run.started_at is not None else run.created_at
        self.progress(
            TrialFinished(
                trial=task.trial,
                role=task.role,
                label=task.label,
                outcome=result.outcome,
                score=result.score,
                seconds=None if run.finished_at is None else run.finished_at - started,
                error=result.error,
                best=is_best,
                done=done,
                trials=self.settings.trials,
            )
        )


def finite(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data that JSON can hold: numbers that are none become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in data.items()
    }
