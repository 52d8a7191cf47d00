"""Where Tune's trials and the study's attempts meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kernels.errors import ScanNASError
from nas.driver.access import Done, Wait
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Waiting
from nas.errors import StoreError, StudyError
from nas.executors.attempt import pruned
from nas.executors.deaths import Death, death_of, has_begun, last_word_of
from nas.executors.pace import Pace
from nas.executors.ray_head import Head
from nas.executors.wire import FINAL, PROGRESS, REFUSED, WHERE, metrics_from, result_from
from nas.store.leases import RENEW_EVERY_S
from nas.study.attempts import CANARY, Attempt, LeaseLost, Result
from nas.study.outcomes import UNCLEAR, Outcome

# A trial that Ray has not placed by then, while nothing else of ours runs, is worth a word.
STARVED_S = 50.0


@dataclass
class _Watched:
    """A trial that trains. signs: of life. where: host, node and the kernel's count at its start.

    stalled: why its worker was killed.
    """

    pace: Pace
    signs: int = 0
    where: dict[str, Any] | None = None
    stalled: str | None = None
    begun: bool = False

    def begins(self, attempt: Attempt) -> None:
        """From here on the pace is the training's."""
        if not self.begun:
            self.begun = True
            self.pace = Pace(attempt.stall_s, RENEW_EVERY_S, time.monotonic())


class Autopsy:
    """Looks at a machine where a worker has died; without Ray there is nothing to see."""

    def headless(self) -> bool:
        """Whether it died with the whole cluster."""
        return False

    def kernel_killed(self, where: dict[str, Any]) -> bool:
        """Whether the kernel has killed anything there for lack of memory since the start."""
        return False

    def trouble(self, where: dict[str, Any], attempt: Attempt) -> str | None:
        """Return of what a known design fails there; None where it trains."""
        return None


class Desk:
    """Hands out attempts and takes reports. Used by Tune's loop, and by the renewal thread.

    wish: what a trial asks Ray for, in words. stopping: whether trials end at their next epoch.
    autopsy: looks at a machine where a worker has died.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        wish: str,
        stopping: Callable[[], bool],
        autopsy: Autopsy | None = None,
    ) -> None:
        self.coordinator, self.wish, self.stopping = coordinator, wish, stopping
        self.autopsy = autopsy or Autopsy()
        self.attempts: dict[str, Attempt] = {}
        self._idle_since: float | None = None
        self.done: Done | None = None
        self.trouble: ScanNASError | None = None
        self._said: str | None = None
        self._begun: dict[str, Callable[[], None]] = {}
        self._watched: dict[str, _Watched] = {}
        self._deaths: dict[str, Exception | None] = {}
        self._starved = self._burying = False
        self._ask_again = 0.0

    def hand_out(self, trial_id: str) -> Attempt | Done | None:
        """Return an attempt, None for later, or Done."""
        if self.done is not None:
            return self.done
        now = self.coordinator.clock.now()
        if now < self._ask_again:
            return None
        try:
            work = self.coordinator.next()
        except ScanNASError as error:
            work = self.fail(error)
        if isinstance(work, Wait):
            # Own trials are in the count of those still running; only a change is worth saying.
            self._ask_again = now + work.seconds
            if work.reason != self._said and not self.attempts:
                self.coordinator.progress(Waiting(work.reason))
                self._said = work.reason
            return None
        if isinstance(work, Done):
            self.done = work
            return work
        self.attempts[trial_id] = work
        return work

    def began(self, trial_id: str, kill: Callable[[], None] = lambda: None) -> None:
        """Take down that a trial has got its resources. kill: ends its worker from outside."""
        self._begun[trial_id] = kill
        # Until the worker says where it is, it loads its libraries, at no pace of the user's.
        self._watched[trial_id] = _Watched(Pace(None, RENEW_EVERY_S, time.monotonic()))

    @property
    def look_every_s(self) -> float:
        """How often `watch_pace` wants to be called."""
        stall_s = self.coordinator.place.stall_s
        return RENEW_EVERY_S if stall_s is None else min(RENEW_EVERY_S, stall_s / 4)

    def watch_pace(self) -> None:
        """Kill the workers of trials that make no batch any more."""
        for trial_id, watched in list(self._watched.items()):
            attempt = self.attempts.get(trial_id)
            if attempt is None:
                self._watched.pop(trial_id, None)
            elif self._burying:
                watched.pace.pass_over(time.monotonic())  # nobody takes its reports
            elif watched.stalled is None:
                if watched.where is None and has_begun(attempt.checkpoint):
                    # Its first report may not get away, where it hangs at once.
                    watched.begins(attempt)
                watched.stalled = watched.pace.look(watched.signs, time.monotonic())
                if watched.stalled is not None:
                    self._begun[trial_id]()

    def died(self, trial_id: str, error: Exception | None) -> None:
        """Take down what Ray says of a worker's death."""
        self._deaths[trial_id] = error

    def watch_queue(self) -> None:
        """Say so when trials have waited for resources for a minute while none of ours runs."""
        held = list(self.attempts)  # a copy: Tune's thread hands out meanwhile
        if not held or not self._begun.keys().isdisjoint(held):
            self._idle_since = None
            if self._starved:
                self._starved = False
                self.coordinator.block(None)
            return
        now = self.coordinator.clock.now()
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= STARVED_S:
            self._idle_since, self._starved = now, True
            reason = (
                f"no trial has started for {STARVED_S:.0f} s: Ray has not found {self.wish} free "
                "on one node; `ray status` says who holds them, or ask for less per trial"
            )
            self.coordinator.block(reason)
            self.coordinator.progress(Waiting(reason))

    def epoch(self, trial_id: str, report: dict[str, Any]) -> bool:
        """Take an epoch or a final result; return whether the trial goes on."""
        attempt = self.attempts.get(trial_id)
        if attempt is None or self.trouble is not None:
            return False
        watched = self._watched.get(trial_id)
        if watched is not None:
            watched.signs += 1
        try:
            if REFUSED in report:
                self.attempts.pop(trial_id)
                reason = f"a known design fails on {report[REFUSED]}; others take the trial"
                self.coordinator.release(attempt, reason)
                return True
            if WHERE in report:
                if self.stopping():
                    return False  # it has waited for room until now, and trains nothing
                if watched is not None:
                    watched.begins(attempt)
                    watched.where = report[WHERE]
                self.coordinator.renew(attempt, report[PROGRESS], begins=True)
                return True
            if PROGRESS in report:
                self.coordinator.renew(attempt, report[PROGRESS])
                return True
            if FINAL in report:
                self.attempts.pop(trial_id)
                self.coordinator.finish(attempt, result_from(report[FINAL]))
                return True  # the function returns by itself
            metrics = metrics_from(report)
            if self.coordinator.epoch(attempt, metrics):
                self.attempts.pop(trial_id)
                self.coordinator.finish(attempt, pruned(attempt, metrics))
                return False
        except LeaseLost as error:
            self.attempts.pop(trial_id, None)
            self.coordinator.progress(Notice(f"trial {attempt.trial}: {error}"))
            return False
        except ScanNASError as error:
            self.fail(error)
            return False
        return not self.stopping() or metrics.epoch == metrics.epochs

    def ended(self, trial_id: str, failed: bool) -> None:
        """Take the end of a trial; one without a result was stopped, or its worker died."""
        attempt = self.attempts.get(trial_id)
        error, watched = self._deaths.pop(trial_id, None), self._watched.pop(trial_id, None)
        if attempt is None:
            return
        if self.trouble is not None:
            # Whoever waited for the database has waited for all: leases end by themselves.
            self.attempts.pop(trial_id)
            return
        try:
            if failed:
                self._burying = True
                self._bury(attempt, error, watched)
            else:
                self.coordinator.release(attempt, "stopped")
        except LeaseLost:
            pass
        except StoreError as error:
            self.fail(error)
        finally:
            self._burying = False
            self.attempts.pop(trial_id, None)  # renewed until here

    def _bury(self, attempt: Attempt, error: Exception | None, watched: _Watched | None) -> None:
        """Write down a trial whose worker died, by what is known of the death."""
        there, word = last_word_of(attempt.checkpoint)
        where = there if watched is None or watched.where is None else watched.where
        headless = self.autopsy.headless()
        killed = where is not None and not headless and self.autopsy.kernel_killed(where)
        death = death_of(error, word, killed)
        if watched is not None and watched.stalled is not None:
            death = Death(f"{watched.stalled}; its worker was killed", Outcome.STALLED)
        if headless:
            death = Death("the head of Ray is gone", preempted=True)
        if death.preempted:
            self.coordinator.release(attempt, death.reason)
        elif death.outcome is None:
            self.coordinator.abandon(attempt, death.reason)
        else:
            place = None
            if death.outcome in UNCLEAR and where is not None:
                place = self.autopsy.trouble(where, attempt)
            result = Result(
                death.outcome,
                objectives=(0.0, *attempt.costs),
                metrics={CANARY: place is None} if death.outcome in UNCLEAR else None,
                error=death.reason,
                traceback=death.traceback,
                environment=None if where is None else {"host": where["host"]},
                place=place,
            )
            self.coordinator.finish(attempt, result)

    def release_all(self) -> None:
        """Give back what is unfinished."""
        for trial_id in list(self.attempts):
            self.ended(trial_id, failed=False)

    def leave(self, error: ScanNASError) -> None:
        """End this driver and give its trials back: nothing will be heard of them any more."""
        self.done = Done(str(error), complete=False)
        self.release_all()
        self.fail(error)
        self.coordinator.progress(Notice(str(error)))

    def fail(self, error: ScanNASError) -> Done:
        """Take down what ends this driver; the first trouble stands for all that follows."""
        self.trouble = self.trouble or error
        self.done = Done(str(self.trouble), complete=False)
        return self.done


@contextmanager
def renewal(desk: Desk, head: Head | None = None) -> Iterator[None]:
    """Renew the leases of all attempts while the block runs; Ray watches over the workers.

    head: of the cluster; without it their trials go back to the queue, before Ray ends us.
    """
    over = threading.Event()

    def renew() -> None:
        renewed = time.monotonic()
        while not over.wait(desk.look_every_s):
            if head is not None and head.look(time.monotonic()):
                # Tune waits where nothing can interrupt it, until Ray ends this process.
                desk.leave(StudyError(f"{head.lost}; this driver ends, its trials wait"))
                return
            desk.watch_pace()
            if time.monotonic() - renewed < RENEW_EVERY_S:
                continue
            renewed = time.monotonic()
            desk.watch_queue()
            for trial_id, attempt in list(desk.attempts.items()):
                try:
                    desk.coordinator.renew(attempt)
                except LeaseLost:
                    desk.attempts.pop(trial_id, None)
                except ScanNASError as error:
                    desk.fail(error)
                    return

    thread = threading.Thread(target=renew, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
