"""Which executor serves a user best."""

from __future__ import annotations

from typing import Any

from nas.driver.request import this_machine
from nas.driver.running import Executor
from nas.errors import StudyError
from nas.executors.attempt import Proxy
from nas.study.place import Place

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
    proxy: Proxy | None = None,
) -> Executor:
    """Return an executor by name; auto is Ray for more than one GPU, worker or machine.

    cpus_per_trial: as many as a trial has threads, unless given.
    proxy: what trains a candidate; the recipe's own training or evaluation by default.
    gpus_per_trial: one where trials train on CUDA, none elsewhere, unless given.
    Raises: StudyError for an unknown name, options that the executor has no use for, or a cluster
        at whose address nobody listens.
    """
    if name not in EXECUTORS:
        raise StudyError(f"unknown executor {name!r} (known: {', '.join(EXECUTORS)})")
    many = (workers or 1) > 1 or ray_address is not None
    if name == "inline" and many:
        raise StudyError("executor 'inline' trains one trial at a time; use --executor ray")
    on_gpu = device.startswith("cuda")
    if name == "inline" or (name == "auto" and not many and not (on_gpu and _gpus() > 1)):
        from nas.executors.inline import InlineExecutor

        return InlineExecutor(proxy)
    from nas.executors.ray_tune import RayExecutor

    share = float(on_gpu) if gpus_per_trial is None else gpus_per_trial
    executor = RayExecutor(
        workers=workers,
        cpus_per_trial=float(threads) if cpus_per_trial is None else cpus_per_trial,
        gpus_per_trial=share,
        address=ray_address,
        proxy=proxy,
    )
    executor.knock()
    return executor


def place_for(device: str, address: str | None, **stated: Any) -> Place:
    """Return where trials train; with the address of a cluster, it says what auto stands for.

    stated: fields of the place; None is not stated.
    Raises: StudyError as `this_machine`, or where no node of the cluster has what is wanted.
    """
    if address is None or device == "cpu":
        return this_machine(device, **stated)
    from nas.executors.ray_tune import RayExecutor

    there = RayExecutor(address=address).device()
    if device.startswith("cuda") and there != "cuda":
        raise StudyError(
            f"device {device!r}: no node of the cluster at {address!r} has a GPU; use cpu"
        )
    return this_machine(there if device == "auto" else device, elsewhere=True, **stated)


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())
