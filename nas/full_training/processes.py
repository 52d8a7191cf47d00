"""The processes that train together: one alone, or those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from nas.driver.request import this_machine
from nas.errors import TrainingError


@dataclass(frozen=True)
class Team:
    """This process among those that train together. device: its own."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def gathered(self, mine: Any) -> list[Any]:
        """Return what every process has, by rank."""
        if self.world == 1:
            return [mine]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, mine)
        return found

    def said_by_leader(self, value: Any) -> Any:
        """Return the leader's value in every process."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]


def leads() -> bool:
    """Whether this process is the one that prints, before the processes have met."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def team(device: str = "auto") -> Iterator[Team]:
    """Join the processes of this training: by torchrun's environment, else one alone.

    device: "auto", "cpu" or "cuda"; each process of a machine takes its own GPU.
    Raises: StudyError as `this_machine`; TrainingError for more processes than GPUs.
    """
    place = this_machine(device).device
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Team(device=place)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if place == "cuda":
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"process {local} of this machine has no GPU of its own: "
                f"{torch.cuda.device_count()} are there; lower --nproc-per-node"
            )
        place = f"cuda:{local}"
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.startswith("cuda") else "gloo")
    try:
        yield Team(rank, world, place)
    finally:
        distributed.destroy_process_group()
