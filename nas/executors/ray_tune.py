"""Trials on many processors, GPUs and machines: Ray Tune executes, the database decides.

Tune asks our searcher for work, which hands out what the coordinator has leased, and shows our
scheduler each epoch, which writes it down and says whether the trial goes on. Nothing that Tune
remembers is needed again: a study is continued from its database, by this executor or another,
never with Tuner.restore. Workers write checkpoints and nothing else; only the driver writes SQL.

A worker that dies loses its trial, which is queued again and goes on from its checkpoint. Workers
are used again for the next trial, and replaced after an error, when their memory cannot be
trusted any more.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kernels.errors import ScanNASError
from nas.driver.coordinator import Coordinator, Done, Wait
from nas.driver.progress import Notice, Waiting
from nas.errors import StudyError
from nas.executors.attempt import Proxy, pruned
from nas.executors.wire import FINAL, metrics_from, result_from
from nas.store.leases import RENEW_EVERY_S
from nas.study.attempts import Attempt, LeaseLost

# Set before Ray is imported, unless the user has: no usage statistics, no output of its own, no
# files for Tune's sake, and our signal handlers in place of Tune's.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}
_KNOCK_S = 10.0
# A trial that Ray has not placed by then, while nothing else of ours runs, is worth a word.
STARVED_S = 50.0


class RayExecutor:
    """Trains several trials at once through Ray Tune.

    workers: trials at once; as many as the resources allow by default.
    gpus_per_trial: may be a fraction; memory is not divided by it.
    address: of an existing cluster ("auto" finds one on this machine); a local Ray otherwise.
    gpus: of a local Ray, counted by Ray itself by default.
    """

    name = "ray"

    def __init__(
        self,
        *,
        workers: int | None = None,
        cpus_per_trial: float = 1.0,
        gpus_per_trial: float = 0.0,
        address: str | None = None,
        gpus: int | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise StudyError(f"workers {workers} must be 1 or more")
        if cpus_per_trial < 0 or gpus_per_trial < 0 or cpus_per_trial + gpus_per_trial == 0:
            raise StudyError(
                f"a trial needs some CPU or GPU, not {cpus_per_trial:g} CPUs and "
                f"{gpus_per_trial:g} GPUs"
            )
        self.workers, self.address, self.gpus, self.proxy = workers, address, gpus, proxy
        self.cpus_per_trial, self.gpus_per_trial = cpus_per_trial, gpus_per_trial
        self.stopping = False

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until there is nothing left; return why that is so.

        Raises: StudyError when Ray cannot be reached or can never run a trial of this size.
        """
        with self._ray(coordinator) as ray:
            self._check_resources(ray)
            if self.address is not None:
                _check_shared(ray, coordinator.checkpoints)
            desk = _Desk(coordinator, self)
            try:
                with _renewal(desk):
                    self._tune(desk)
            finally:
                desk.release_all()
            if desk.trouble is not None:
                raise desk.trouble
            return desk.done or Done("Ray Tune has ended early", complete=False)

    def knock(self) -> None:
        """Raise StudyError when nobody listens at host:port; Ray itself would try for minutes."""
        host, colon, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if colon and port.isdigit():
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
            except OSError as error:
                raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> StudyError:
        where = f"the Ray cluster at {self.address!r}" if self.address else "a local Ray"
        said = " ".join((str(error) or repr(error)).split())
        return StudyError(
            f"cannot reach {where}: {said[:200]}; check --ray-address and `ray status`, or use "
            "--executor inline"
        )

    def stop(self) -> None:
        """End running trials at their next epoch."""
        self.stopping = True

    def _tune(self, desk: _Desk) -> None:
        from ray import tune

        from nas.executors.ray_parts import StartBell, StudyScheduler, StudySearcher, train

        folder = tempfile.mkdtemp(prefix="scannas-tune-")
        try:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(train, proxy=self.proxy),
                    {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial},
                ),
                tune_config=tune.TuneConfig(
                    search_alg=StudySearcher(desk),
                    scheduler=StudyScheduler(desk),
                    num_samples=-1,
                    max_concurrent_trials=self.workers,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[StartBell(desk)],
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            )
            tuner.fit()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _ray(self, coordinator: Coordinator) -> Iterator[Any]:
        """Connect to a cluster, or start a local Ray and stop it afterwards."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ModuleNotFoundError:
            raise StudyError(
                "executor 'ray' needs the package ray; pip install 'ray[tune]'"
            ) from None
        if ray.is_initialized():  # by the program that runs us
            yield ray
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            options |= {"address": "local", "include_dashboard": False, "num_gpus": self.gpus}
            if self.workers is not None and self.cpus_per_trial:
                # Logical processors: a user who asks for more workers than cores gets them.
                wanted = self.workers * self.cpus_per_trial
                options["num_cpus"] = max(os.cpu_count() or 1, -(-int(100 * wanted) // 100))
        else:
            options["address"] = self.address
        self.knock()
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises anything from ConnectionError to ValueError
            raise self._unreachable(error) from None
        try:
            yield ray
        finally:
            ray.shutdown()

    def _check_resources(self, ray: Any) -> None:
        """Refuse what would wait for ever."""
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        for kind, wanted in (("CPU", self.cpus_per_trial), ("GPU", self.gpus_per_trial)):
            largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if wanted > largest:
                raise StudyError(
                    f"a trial wants {wanted:g} {kind}, but no node has more than {largest:g}; "
                    f"lower --{kind.lower()}s-per-trial or add nodes"
                )


class _Desk:
    """Where Tune's trials and our tasks meet. Used by Tune's loop, and by the renewal thread."""

    def __init__(self, coordinator: Coordinator, executor: RayExecutor) -> None:
        self.coordinator, self.executor = coordinator, executor
        self.tasks: dict[str, Attempt] = {}
        self._idle_since: float | None = None
        self.done: Done | None = None
        self.trouble: ScanNASError | None = None
        self._said: str | None = None
        self._begun: set[str] = set()
        self._starved = False
        self._ask_again = 0.0

    def hand_out(self, trial_id: str) -> Attempt | Done | None:
        """Return a task, None for later, or Done."""
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
            if work.reason != self._said and not self.tasks:
                self.coordinator.progress(Waiting(work.reason))
                self._said = work.reason
            return None
        if isinstance(work, Done):
            self.done = work
            return work
        self.tasks[trial_id] = work
        return work

    def began(self, trial_id: str) -> None:
        """Take down that a trial has got its resources."""
        self._begun.add(trial_id)

    def watch_queue(self) -> None:
        """Say so when trials have waited for resources for a minute while none of ours runs."""
        held = list(self.tasks)  # a copy: Tune's thread hands out meanwhile
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
            wish = f"{self.executor.cpus_per_trial:g} CPUs, {self.executor.gpus_per_trial:g} GPUs"
            reason = (
                f"no trial has started for {STARVED_S:.0f} s: Ray has not found {wish} free on "
                "one node; `ray status` says who holds them, or ask for less per trial"
            )
            self.coordinator.block(reason)
            self.coordinator.progress(Waiting(reason))

    def epoch(self, trial_id: str, report: dict[str, Any]) -> bool:
        """Take an epoch or a final result; return whether the trial goes on."""
        task = self.tasks.get(trial_id)
        if task is None:
            return False
        try:
            if FINAL in report:
                self.tasks.pop(trial_id)
                self.coordinator.finish(task, result_from(report[FINAL]))
                return True  # the function returns by itself
            metrics = metrics_from(report)
            if self.coordinator.epoch(task, metrics):
                self.tasks.pop(trial_id)
                self.coordinator.finish(task, pruned(task, metrics))
                return False
        except LeaseLost as error:
            self.tasks.pop(trial_id, None)
            self.coordinator.progress(Notice(f"trial {task.trial}: {error}"))
            return False
        except ScanNASError as error:
            self.trouble, self.done = error, Done(str(error), complete=False)
            return False
        return not self.executor.stopping or metrics.epoch == metrics.epochs

    def ended(self, trial_id: str, failed: bool) -> None:
        """Take the end of a trial; one without a result was stopped, or its worker died."""
        task = self.tasks.pop(trial_id, None)
        if task is None:
            return
        with suppress(LeaseLost):
            if failed:
                self.coordinator.abandon(task, "its worker process died")
            else:
                self.coordinator.release(task, "stopped")

    def release_all(self) -> None:
        """Give back what is unfinished."""
        for trial_id in list(self.tasks):
            with suppress(ScanNASError):
                self.ended(trial_id, failed=False)


@contextmanager
def _renewal(desk: _Desk) -> Iterator[None]:
    """Renew the leases of all tasks while the block runs; Ray watches over the workers."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEW_EVERY_S):
            desk.watch_queue()
            for trial_id, task in list(desk.tasks.items()):
                try:
                    desk.coordinator.renew(task)
                except LeaseLost:
                    desk.tasks.pop(trial_id, None)
                except ScanNASError as error:
                    desk.trouble, desk.done = error, Done(str(error), complete=False)

    thread = threading.Thread(target=renew, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _check_shared(ray: Any, folder: Path) -> None:
    """Refuse a cluster whose nodes do not see the folder of the checkpoints."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".shared-{os.getpid()}"
    mark.write_text("")
    look = ray.remote(num_cpus=0)(os.path.exists)
    try:
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            if not ray.get(look.options(scheduling_strategy=strategy).remote(str(mark))):
                raise StudyError(
                    f"node {node['NodeManagerAddress']} does not see {str(folder)!r}; give "
                    "--checkpoints a folder that all nodes share"
                )
    finally:
        mark.unlink(missing_ok=True)
