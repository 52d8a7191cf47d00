"""Proposals as plain data: what a strategy wants tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backbones.image_size import ImageSize
from nas.study.attempts import ENDED

CANDIDATE, BASELINE, REPLAY = "candidate", "baseline", "replay"
# What a training is for. Candidates and baselines are one thing: a design is trained once for
# the search. Any other role is a stage of its own, e.g. "control".
SEARCH = "search"
SEARCHED = (CANDIDATE, BASELINE)
CONFIRMATION = "confirmation"
# The kind of a candidate that a user has asked for.
ENQUEUED = "enqueued"


@dataclass(frozen=True)
class NewProposal:
    """A feasible design that is about to be tried.

    index: which proposal of the study it is; refused when another driver took that place.
    seed: of its training, the `seed_index`-th of the study's. repeat: counts trainings alike in
    all else. split: the data that is scored. recipe: where it is not the study's own, with
    recipe_id, its fingerprint. measured: latency in ms, memory in bytes, where a study asks for
    them. params: its choices as a tuner stores them. sampler: what the
    strategy attached.
    """

    index: int
    role: str
    kind: str
    fingerprint: str
    config: Mapping[str, Any]
    flops: int
    params_count: int
    convention: str
    image_size: ImageSize
    seed: int
    seed_index: int = 0
    repeat: int = 0
    split: str = "val"
    recipe: Mapping[str, Any] | None = None
    recipe_id: str = ""
    label: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    sampler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """What the training is for."""
        return SEARCH if self.role in SEARCHED else self.role


@dataclass(frozen=True)
class Entry:
    """A proposal and what came of it, as far as a strategy may know.

    canary: of an error or a stall, whether a known design trained in the same place.
    """

    index: int
    role: str
    state: str
    fingerprint: str
    params: dict[str, Any]
    sampler: dict[str, Any]
    objectives: list[float] | None
    epochs: int
    stage: str = SEARCH
    canary: bool | None = None

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED
