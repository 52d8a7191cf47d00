"""One attempt at one trial as plain data: the order to train, the right to write, the result.

An attempt can be sent to another process: it names everything that decides its score and nothing
of the database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.errors import ScanNASError
from nas.study.outcomes import Outcome

WAITING, RUNNING = "waiting", "running"
# In the metrics of an error: whether a known design trained in the same place.
CANARY = "canary"
ENDED = frozenset(outcome.value for outcome in Outcome)


def finite(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data that JSON can hold: numbers that are none become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in data.items()
    }


class LeaseLost(ScanNASError):
    """A write by an owner whose run has been given to another, or has ended."""


@dataclass(frozen=True)
class Lease:
    """The right to write one run."""

    run_id: int
    owner: str
    token: int


@dataclass(frozen=True)
class Result:
    """How an attempt ended, as it is written to its row.

    scores: by name, `score` among them. environment: of the process that trained.
    place: after an error, what a known design failed of in the same place; None where it trains.
    """

    outcome: Outcome
    score: float | None = None
    objectives: tuple[float, ...] | None = None
    metrics: Mapping[str, Any] | None = None
    backend: str | None = None
    dtype: str | None = None
    error: str | None = None
    traceback: str | None = None
    scores: Mapping[str, float] | None = None
    environment: Mapping[str, Any] | None = None
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at one trial.

    config, recipe: plain data of BackboneConfig and Recipe; the recipe's batch is cut already.
    checkpoint: folder for the state after each epoch. timeout_s: wall time of this attempt.
    stall_s: how long it may make no batch; by its own pace where None. avoid: machines where a
    known design fails, which hand it back.
    costs: values of the objectives beside the score, in their order. split: the data scored.
    """

    lease: Lease
    trial: int
    attempt: int
    role: str
    label: str | None
    kind: str
    fingerprint: str
    flops: int
    params: int
    config: Mapping[str, Any]
    recipe: Mapping[str, Any]
    seed: int
    device: str
    backend: str
    checkpoint: str | None
    timeout_s: float | None = None
    stall_s: float | None = None
    avoid: tuple[str, ...] = ()
    costs: tuple[float, ...] = ()
    split: str = "val"

    @property
    def continued(self) -> bool:
        """Whether there is something to continue from."""
        return self.checkpoint is not None and any(Path(self.checkpoint).glob("*"))

    @property
    def epochs(self) -> int:
        """How many epochs make a whole training."""
        return int(self.recipe["epochs"])
