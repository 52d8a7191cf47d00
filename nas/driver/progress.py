"""What happens during a search, as events that a display or a test may listen to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.study.outcomes import Outcome
from nas.study.tasks import TOP1, Metric


@dataclass(frozen=True)
class StudyStarted:
    """A driver begins or continues a study.

    done: candidates that have ended already. metric: what its scores are.
    """

    study: str
    storage: str
    trials: int
    done: int
    baselines: int
    continued: bool
    metric: Metric = TOP1


@dataclass(frozen=True)
class Recovered:
    """What a reconciliation found.

    requeued: interrupted trials that will run again. lost: trials given up after too many
    attempts. waiting: trials in the queue now, those that a signal stopped included.
    """

    requeued: int
    lost: int
    waiting: int


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins to train. role: candidate or baseline; label: a baseline's preset.

    attempt: from 1. continued: whether a checkpoint of an earlier attempt was found.
    """

    trial: int
    role: str
    label: str | None
    kind: str
    fingerprint: str
    flops: int
    params: int
    epochs: int
    attempt: int
    continued: bool


@dataclass(frozen=True)
class EpochDone:
    """An epoch ended; metrics as the proxy reports them (val_top1, val_loss, seconds, ...)."""

    trial: int
    epoch: int
    epochs: int
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class TrialFinished:
    """A trial ended. best: whether it is the best of the study so far. done: candidates ended.

    error: one line, for an outcome that is no score.
    """

    trial: int
    role: str
    label: str | None
    outcome: Outcome
    score: float | None
    seconds: float | None
    error: str | None
    best: bool
    done: int
    trials: int


@dataclass(frozen=True)
class TrialRequeued:
    """A trial goes back to the queue: stopped by a signal, or out of memory at a full batch."""

    trial: int
    reason: str


@dataclass(frozen=True)
class Replayed:
    """A proposal had been trained before; its result was taken from the store."""

    trial: int
    of_trial: int
    score: float | None


@dataclass(frozen=True)
class Waiting:
    """Nothing to start now. reason: e.g. trials of other drivers, a full disk."""

    reason: str


@dataclass(frozen=True)
class Notice:
    """Something a user should know that is neither progress nor an error."""

    text: str


@dataclass(frozen=True)
class Confirming:
    """The search is over; its finalists and the baselines train again with fresh seeds.

    left_out: candidates that may be as good, for which there was no room.
    """

    names: tuple[str, ...]
    seeds: int
    left_out: int


@dataclass(frozen=True)
class Judged:
    """The confirmation has a verdict. chosen: the design that is exported."""

    leader: str
    chosen: str


@dataclass(frozen=True)
class StudyFinished:
    """A driver stops. complete: whether every wanted candidate has ended.

    reason: one line, e.g. "12 of 12 candidates trained".
    """

    study: str
    reason: str
    complete: bool
    done: int
    trials: int
    best_trial: int | None
    best_score: float | None


Event = (
    StudyStarted
    | Recovered
    | TrialStarted
    | EpochDone
    | TrialFinished
    | TrialRequeued
    | Replayed
    | Waiting
    | Notice
    | Confirming
    | Judged
    | StudyFinished
)
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen to nothing."""
