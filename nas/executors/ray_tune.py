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
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.driver.access import Done
from nas.driver.coordinator import Coordinator
from nas.errors import StudyError
from nas.executors.attempt import Proxy
from nas.executors.ray_desk import Desk, renewal
from nas.executors.ray_head import Head

# Set before Ray is imported, unless the user has: no usage statistics, no output of its own, no
# files for Tune's sake, our signal handlers in place of Tune's, and no trial started again by Tune.
# The kernel kills for lack of memory, not Ray: Tune gives up when Ray does.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
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
        if address is not None and address.startswith("ray://"):
            host = address.removeprefix("ray://").rpartition(":")[0] or "HEAD"
            raise StudyError(
                f"Ray address {address!r}: a driver must be a member of the cluster, not a client; "
                f"run it on a node of it with --ray-address {host}:6379, e.g. by "
                "`ray job submit -- python cli.py search ...`"
            )
        self.workers, self.address, self.gpus, self.proxy = workers, address, gpus, proxy
        self.cpus_per_trial, self.gpus_per_trial = cpus_per_trial, gpus_per_trial
        self.stopping = False
        self._head: Head | None = None

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until there is nothing left; return why that is so.

        Raises: StudyError when Ray cannot be reached, can never run a trial of this size, or loses
            its head.
        """
        with self._ray() as ray:
            self._check_resources(ray)
            if self.address is not None:
                _check_shared(ray, coordinator.checkpoints)
            self._head = head = Head(ray.get_runtime_context().gcs_address)
            desk = self.desk(coordinator, ray, head)
            coordinator.breaker.places = len(_hosts(ray))
            try:
                with renewal(desk, head):
                    self._tune(desk)
            finally:
                desk.release_all()
            if desk.trouble is not None:
                raise desk.trouble
            return desk.done or Done("Ray Tune has ended early", complete=False)

    def desk(self, coordinator: Coordinator, ray: Any = None, head: Head | None = None) -> Desk:
        """Return the desk at which Tune meets a coordinator. ray: on which it trains, if any."""
        wish = f"{self.cpus_per_trial:g} CPUs, {self.gpus_per_trial:g} GPUs"
        autopsy = None
        if head is not None:
            from nas.executors.ray_autopsy import RayAutopsy

            resources = {"num_cpus": self.cpus_per_trial, "num_gpus": self.gpus_per_trial}
            autopsy = RayAutopsy(ray, resources, self.proxy, head)
        return Desk(coordinator, wish, lambda: self.stopping, autopsy)

    def knock(self) -> None:
        """Raise StudyError when nobody listens at host:port; Ray itself would try for minutes."""
        host, colon, port = (self.address or "").rpartition(":")
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

    def _tune(self, desk: Desk) -> None:
        from ray import tune

        from nas.executors.ray_parts import StartBell, StudyScheduler, StudySearcher
        from nas.executors.worker import train

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
        except RuntimeError as error:
            if type(error.__cause__).__name__ != "OutOfMemoryError":
                raise
            raise StudyError(
                "Ray has killed a worker for lack of memory, after which Tune goes on with none; "
                "`resume` continues, and with RAY_memory_monitor_refresh_ms=0 at `ray start` the "
                "kernel does so, which costs its trial half the batch only"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def device(self) -> str:
        """Return the best kind of device that any node of the cluster has: cuda or cpu.

        Raises: StudyError when the cluster cannot be reached.
        """
        with self._ray() as ray:
            return "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"

    @contextmanager
    def _ray(self) -> Iterator[Any]:
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
            with _signals_kept():
                ray.init(**options)
        except Exception as error:  # Ray raises anything from ConnectionError to ValueError
            raise self._unreachable(error) from None
        try:
            yield ray
        finally:
            if self._head is None or self._head.lost is None:  # there is nobody to take leave of
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


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back who listens to SIGTERM: Ray's own handler prints a trace, and ends the process."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    yield
    if ours and before is not None:
        signal.signal(signal.SIGTERM, before)


def _hosts(ray: Any) -> set[str]:
    return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}


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
