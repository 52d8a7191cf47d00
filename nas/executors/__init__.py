"""Executors: where and how many trials train at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nas.driver.coordinator import Coordinator, Done


class Executor(Protocol):
    """Runs what a coordinator hands out until it has no more, or is asked to stop."""

    name: str

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until the coordinator has none left for us; return its last word."""
        ...

    def stop(self) -> None:
        """End running trials at their next epoch. May be called from a signal handler."""
        ...


EXECUTORS = ("auto", "inline", "ray")


def choose_executor(
    name: str = "auto",
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    ray_address: str | None = None,
) -> Executor:
    """Return an executor by name; auto is Ray for more than one GPU, worker or machine.

    cpus_per_trial: as many as a trial has threads, unless given.
    gpus_per_trial: one where trials train on CUDA, none elsewhere, unless given.
    Raises: StudyError for an unknown name, options that the executor has no use for, or a cluster
        at whose address nobody listens.
    """
    from nas.errors import StudyError

    if name not in EXECUTORS:
        raise StudyError(f"unknown executor {name!r} (known: {', '.join(EXECUTORS)})")
    many = (workers or 1) > 1 or ray_address is not None
    if name == "inline" and many:
        raise StudyError("executor 'inline' trains one trial at a time; use --executor ray")
    on_gpu = device.startswith("cuda")
    if name == "inline" or (name == "auto" and not many and not (on_gpu and _gpus() > 1)):
        from nas.executors.inline import InlineExecutor

        return InlineExecutor()
    from nas.executors.ray_tune import RayExecutor

    share = float(on_gpu) if gpus_per_trial is None else gpus_per_trial
    executor = RayExecutor(
        workers=workers,
        cpus_per_trial=float(threads) if cpus_per_trial is None else cpus_per_trial,
        gpus_per_trial=share,
        address=ray_address,
    )
    executor.knock()
    return executor


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())
