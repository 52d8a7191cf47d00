"""Where Tune's trials and the study's attempts meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kernels.errors import ScanNASError
from nas.driver.access import Done, Wait
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Waiting
from nas.executors.attempt import pruned
from nas.executors.wire import FINAL, metrics_from, result_from
from nas.store.leases import RENEW_EVERY_S
from nas.study.attempts import Attempt, LeaseLost

# A trial that Ray has not placed by then, while nothing else of ours runs, is worth a word.
STARVED_S = 50.0


class Desk:
    """Hands out attempts and takes reports. Used by Tune's loop, and by the renewal thread.

    wish: what a trial asks Ray for, in words. stopping: whether trials end at their next epoch.
    """

    def __init__(self, coordinator: Coordinator, wish: str, stopping: Callable[[], bool]) -> None:
        self.coordinator, self.wish, self.stopping = coordinator, wish, stopping
        self.attempts: dict[str, Attempt] = {}
        self._idle_since: float | None = None
        self.done: Done | None = None
        self.trouble: ScanNASError | None = None
        self._said: str | None = None
        self._begun: set[str] = set()
        self._starved = False
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
            self.trouble = error
            work = Done(str(error), complete=False)
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

    def began(self, trial_id: str) -> None:
        """Take down that a trial has got its resources."""
        self._begun.add(trial_id)

    def watch_queue(self) -> None:
        """Say so when trials have waited for resources for a minute while none of ours runs."""
        held = list(self.attempts)  # a copy: Tune's thread hands out meanwhile
        if not held or not self._begun.isdisjoint(held):
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
        if attempt is None:
            return False
        try:
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
            self.trouble, self.done = error, Done(str(error), complete=False)
            return False
        return not self.stopping() or metrics.epoch == metrics.epochs

    def ended(self, trial_id: str, failed: bool) -> None:
        """Take the end of a trial; one without a result was stopped, or its worker died."""
        attempt = self.attempts.pop(trial_id, None)
        if attempt is None:
            return
        with suppress(LeaseLost):
            if failed:
                self.coordinator.abandon(attempt, "its worker process died")
            else:
                self.coordinator.release(attempt, "stopped")

    def release_all(self) -> None:
        """Give back what is unfinished."""
        for trial_id in list(self.attempts):
            with suppress(ScanNASError):
                self.ended(trial_id, failed=False)


@contextmanager
def renewal(desk: Desk) -> Iterator[None]:
    """Renew the leases of all attempts while the block runs; Ray watches over the workers."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEW_EVERY_S):
            desk.watch_queue()
            for trial_id, attempt in list(desk.attempts.items()):
                try:
                    desk.coordinator.renew(attempt)
                except LeaseLost:
                    desk.attempts.pop(trial_id, None)
                except ScanNASError as error:
                    desk.trouble, desk.done = error, Done(str(error), complete=False)

    thread = threading.Thread(target=renew, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
