"""Trials in this process, one after the other."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from nas.driver.access import Done, Wait
from nas.driver.coordinator import Coordinator
from nas.driver.progress import Notice, Waiting
from nas.executors.attempt import Brake, Interrupted, Proxy, carry_out, free_memory
from nas.executors.watch import Watch
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
        # Looking through all modules for garbage after every trial would take longer than the
        # rest of the bookkeeping. The first trial loads the last of them.
        gc.freeze()
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
                gc.freeze()
                frozen = True

    def stop(self) -> None:
        """End the running trial at its next epoch."""
        self.brake.at_epoch = True

    def _train(self, coordinator: Coordinator, attempt: Attempt) -> None:
        stopping = self.brake.at_epoch
        self.brake = Brake(at_epoch=stopping)
        try:
            with Watch(coordinator, attempt, self.brake) as watch:
                result = carry_out(
                    attempt, self._reporter(coordinator, attempt), self.brake, self.proxy
                )
            coordinator.finish(attempt, result)
        except LeaseLost as error:
            coordinator.progress(Notice(f"trial {attempt.trial}: {error}"))
        except Interrupted as error:
            if watch.trouble is None:
                coordinator.release(attempt, str(error))
            elif isinstance(watch.trouble, LeaseLost):
                coordinator.progress(Notice(f"trial {attempt.trial}: {watch.trouble}"))
            else:
                raise watch.trouble from None
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
