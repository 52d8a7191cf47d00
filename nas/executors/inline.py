"""Trials in this process, one after the other."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kernels.errors import ScanNASError
from nas.driver.access import Done, Wait
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Waiting
from nas.executors.attempt import Brake, Interrupted, Proxy, carry_out, free_memory
from nas.store.leases import RENEW_EVERY_S
from nas.study.attempts import Attempt, LeaseLost

if TYPE_CHECKING:
    from nas.training.loop import EpochMetrics


class InlineExecutor:
    """Trains one trial at a time, renewing its lease from a second thread."""

    name = "inline"

    def __init__(self, proxy: Proxy | None = None) -> None:
        self.proxy = proxy
        self.brake = Brake()

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until there is nothing left; return why that is so."""
        try:
            return self._loop(coordinator)
        finally:
            gc.unfreeze()

    def _loop(self, coordinator: Coordinator) -> Done:
        said: str | None = None
        frozen = False
        while True:
            work = coordinator.next()
            if isinstance(work, Done):
                return work
            if isinstance(work, Wait):
                if work.reason != said:
                    coordinator.progress(Waiting(work.reason))
                said = work.reason
                coordinator.clock.sleep(work.seconds)
                continue
            said = None
            self._train(coordinator, work)
            if not frozen:
                # All modules are loaded by now. Looking through them for garbage after every
                # trial would take longer than the rest of the bookkeeping.
                gc.freeze()
                frozen = True

    def stop(self) -> None:
        """End the running trial at its next epoch."""
        self.brake.at_epoch = True

    def _train(self, coordinator: Coordinator, attempt: Attempt) -> None:
        stopping = self.brake.at_epoch
        self.brake = Brake(at_epoch=stopping)
        try:
            with _Renewal(coordinator, attempt, self.brake) as renewal:
                result = carry_out(
                    attempt, self._reporter(coordinator, attempt), self.brake, self.proxy
                )
            coordinator.finish(attempt, result)
        except LeaseLost as error:
            coordinator.progress(Notice(f"trial {attempt.trial}: {error}"))
        except Interrupted as error:
            if renewal.trouble is None:
                coordinator.release(attempt, str(error))
            elif isinstance(renewal.trouble, LeaseLost):
                coordinator.progress(Notice(f"trial {attempt.trial}: {renewal.trouble}"))
            else:
                raise renewal.trouble from None
        except KeyboardInterrupt:
            with suppress(LeaseLost):  # it had just ended
                coordinator.release(attempt, "stopped at once")
            raise
        finally:
            free_memory()

    def _reporter(
        self, coordinator: Coordinator, attempt: Attempt
    ) -> Callable[[EpochMetrics], None]:
        brake = self.brake

        def report(metrics: EpochMetrics) -> None:
            brake.pruned = coordinator.epoch(attempt, metrics)

        return report


class _Renewal(threading.Thread):
    """Renews a lease until the block ends; pulls the brake when that fails."""

    def __init__(self, coordinator: Coordinator, attempt: Attempt, brake: Brake) -> None:
        super().__init__(name=f"lease-{attempt.trial}", daemon=True)
        self.coordinator, self.attempt, self.brake = coordinator, attempt, brake
        self.trouble: ScanNASError | None = None
        self._over = threading.Event()

    def __enter__(self) -> _Renewal:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Renew every RENEW_EVERY_S."""
        seen = 0
        while not self._over.wait(RENEW_EVERY_S):
            moved, seen = self.brake.batches > seen, self.brake.batches
            try:
                self.coordinator.renew(self.attempt, seen if moved else None)
            except ScanNASError as error:
                self.trouble = error
                self.brake.at_once = "the lease could not be renewed"
                return
