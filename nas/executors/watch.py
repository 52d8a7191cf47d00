"""A second thread beside a training in this process: renews its lease, ends it when it stalls."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import Any

from kernels.errors import ScanNASError
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice
from nas.executors.attempt import Brake
from nas.executors.pace import Pace
from nas.store.leases import RENEW_EVERY_S
from nas.study.attempts import CANARY, Attempt, Result
from nas.study.outcomes import Outcome, Stalled

# How long a training has to give up after it has been interrupted, before the process is killed.
GRACE_S = 10.0
# A kernel that hangs while it holds the interpreter's lock stops this thread as well. A timer of
# the C library, wound up at every look, kills the process then.
_LOCKED_S = 60.0
_INTERRUPT = signal.SIGUSR2


class Watch(threading.Thread):
    """Looks after a training until the block ends.

    trouble: why the lease could not be renewed; the brake is pulled then. A training that stalls
    is interrupted, which ends waiting for a loader or a lock; where that does not help the trial
    is ended in the database and this process is killed. In another thread than the main one,
    where the process is not ours, nothing is killed.
    """

    def __init__(self, coordinator: Coordinator, attempt: Attempt, brake: Brake) -> None:
        super().__init__(name=f"watch-{attempt.trial}", daemon=True)
        self.coordinator, self.attempt, self.brake = coordinator, attempt, brake
        self.trouble: ScanNASError | None = None
        self._over = threading.Event()
        self._pace = Pace(attempt.stall_s, RENEW_EVERY_S, time.monotonic())
        self._stalled: str | None = None
        self._ours = threading.current_thread() is threading.main_thread()
        self._main = threading.main_thread().ident or 0
        self._before: Any = None

    def __enter__(self) -> Watch:
        if self._ours:
            self._before = signal.signal(_INTERRUPT, self._interrupted)
            self._wind_up()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self.join()
        faulthandler.cancel_dump_traceback_later()
        if self._ours:
            signal.signal(_INTERRUPT, self._before)

    def run(self) -> None:
        """Look at the pace, and renew every RENEW_EVERY_S."""
        seen, renewed = 0, time.monotonic()
        while not self._over.wait(self._pace.every):
            now = time.monotonic()
            if self._ours:
                self._look(now)
            if now - renewed < RENEW_EVERY_S:
                continue
            moved, seen, renewed = self.brake.batches > seen, self.brake.batches, now
            try:
                self.coordinator.renew(self.attempt, seen if moved else None)
            except ScanNASError as error:
                self.trouble = error
                self.brake.at_once = "the lease could not be renewed"
                return

    def _look(self, now: float) -> None:
        if not self.brake.training:  # it waits for the database, not for itself
            self._pace = Pace(self.attempt.stall_s, RENEW_EVERY_S, now)
            faulthandler.cancel_dump_traceback_later()
            return
        self._stalled = self._pace.look(self.brake.batches, now)
        if self._stalled is None:
            self._wind_up()
            return
        signal.pthread_kill(self._main, _INTERRUPT)
        if self._over.wait(GRACE_S) or not self.brake.training:
            return
        self._kill(self._stalled)

    def _wind_up(self) -> None:
        if sys.__stderr__ is not None:
            left = self._pace.left_s + _LOCKED_S
            faulthandler.dump_traceback_later(left, exit=True, file=sys.__stderr__)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.brake.training and self._stalled is not None:
            raise Stalled(self._stalled)

    def _kill(self, reason: str) -> None:
        """End the trial in the database, then this process, which nothing else can end."""
        frame = sys._current_frames().get(self._main)
        try:
            self.coordinator.finish(
                self.attempt,
                Result(
                    Outcome.STALLED,
                    objectives=(0.0, *self.attempt.costs),
                    metrics={CANARY: True},
                    error=f"{reason}; its process was killed",
                    traceback="".join(traceback.format_stack(frame)),
                ),
            )
            self.coordinator.progress(
                Notice(
                    f"trial {self.attempt.trial}: {reason}, and cannot be interrupted: this "
                    "driver is killed; `resume` continues"
                )
            )
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
