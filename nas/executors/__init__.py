"""Executors: where and how many trials train at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nas.coordinator import Coordinator, Done


class Executor(Protocol):
    """Runs what a coordinator hands out until it has no more, or is asked to stop."""

    name: str

    def execute(self, coordinator: Coordinator) -> Done:
        """Train trials until the coordinator has none left for us; return its last word."""
        ...

    def stop(self) -> None:
        """End running trials at their next epoch. May be called from a signal handler."""
        ...
