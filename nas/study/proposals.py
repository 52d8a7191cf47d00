"""Proposals as plain data: what a strategy wants tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.study.attempts import ENDED

CANDIDATE, BASELINE, REPLAY = "candidate", "baseline", "replay"


@dataclass(frozen=True)
class NewProposal:
    """A feasible design that is about to be tried.

    index: which proposal of the study it is; refused when another driver took that place.
    params: its choices as a tuner stores them. sampler: what the strategy attached.
    """

    index: int
    role: str
    kind: str
    fingerprint: str
    config: Mapping[str, Any]
    flops: int
    params_count: int
    convention: str
    image_size: int
    label: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    sampler: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A proposal and what came of it, as far as a strategy may know."""

    index: int
    role: str
    state: str
    fingerprint: str
    params: dict[str, Any]
    sampler: dict[str, Any]
    objectives: list[float] | None
    epochs: int

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED
