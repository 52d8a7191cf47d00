"""Stand-ins for tests of the search: a clock to bend, a tiny space, a proxy that takes no time."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from nas.driver.clock import SystemClock
from nas.driver.coordinator import Coordinator
from nas.driver.studies import create_study
from nas.study.budget import parse_budget
from nas.study.outcomes import Stop
from nas.study.place import Place
from nas.study.proposals import NewProposal
from nas.study.recipe import Recipe
from nas.study.settings import Settings
from search_spaces import SearchSpace

# Eight times four designs, each another one after its widths are fitted.
GRID = """
schema: 1
name: grid
version: 1
description: Eight times four designs, for tests.
base:
  stem: {kind: overlap, norm: layernorm}
  blocks:
    g:
      mixer: {kind: gated_conv, expand: 2.0, kernel: 7}
  stages:
  - {width: 32, depth: 1, pattern: g}
  - {width: 64, depth: 1, pattern: g, downsample: conv3x3}
choices:
  expand:
    options: [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0]
    sets: blocks.g.mixer.expand
  kernel:
    options: [3, 5, 7, 9]
    sets: blocks.g.mixer.kernel
fit: {kind: width, step: 2}
"""
# Depths, a pattern, and choices that exist only where a block of their kind does.
CONDITIONAL = """
schema: 1
name: conditional
version: 1
description: Choices that depend on others, for tests.
base:
  stem: {kind: overlap, norm: layernorm}
  blocks:
    s:
      mixer: {kind: ssm, order: cross, d_state: 1, expand: 2.0}
    g:
      mixer: {kind: gated_conv, expand: 2.0, kernel: 7}
  stages:
  - {width: 32, depth: 2, pattern: g}
  - {width: 64, depth: 2, pattern: g, downsample: conv3x3}
choices:
  depth: {range: [1, 6], sets: stages.1.depth}
  mixer:
    letters: {s: s, g: g}
    max_period: 2
    sets: stages.1.pattern
  d_state:
    options: [1, 4, 16]
    sets: blocks.s.mixer.d_state
    when: {mixer: {contains: s}}
  scan:
    options: {raster: raster, cross: cross, snake: snake}
    sets: blocks.s.mixer.order
    when: {mixer: {contains: s}}
  kernel:
    options: [3, 5, 7, 9]
    sets: blocks.g.mixer.kernel
  expand:
    options: [1.0, 1.5, 2.0, 2.5]
    sets: blocks.g.mixer.expand
fit: {kind: width, step: 2}
points:
  mambaout_femto:
"""
BUDGET = "80-100MFLOPs"
IMAGE_SIZE = 64
EPOCHS = 3


def settings(space: str = GRID, **changes) -> Settings:
    """Settings of a small study without baselines."""
    made = {
        "space": SearchSpace.from_text(space),
        "budget": parse_budget([BUDGET]),
        "recipe": Recipe(dataset="digits", epochs=EPOCHS),
        "trials": 6,
        "image_size": IMAGE_SIZE,
        "warm_start": "none",
        "strategy": "evolution",  # takes no time; the conformance suite has them all
    }
    return Settings.of(**{**made, **changes})


@dataclass(frozen=True)
class EpochMetrics:
    """As nas.training.run has it, without torch: the crash tests start many processes."""

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_top1: float
    seconds: float
    score: float | None = None
    scores: dict = field(default_factory=dict)


@dataclass(frozen=True)
class ProxyResult:
    """As nas.training.run has it."""

    score: float
    top1: float
    val_loss: float
    chance: float
    epochs: int
    seconds: float
    backend: str
    device: str
    dtype: str
    proxy_params: int
    proxy_flops: int
    notes: tuple
    scores: dict = field(default_factory=dict)


def score_of(fingerprint: str) -> float:
    """A score that looks random and is always the same."""
    return int(fingerprint[:8], 16) / 16**8


@dataclass
class FakeProxy:
    """Scores a design by its fingerprint, epoch by epoch, with a checkpoint after each.

    noise: standard deviation of a run's score. log: file to which every epoch that is really
    trained appends a line.
    behave: fingerprint -> exception to raise in the first epoch, or called with the task's facts.
    """

    log: Path | None = None
    seconds: float = 0.0
    noise: float = 0.0
    raises: object = None
    calls: list = field(default_factory=list)

    def __call__(
        self,
        config,
        recipe,
        *,
        seed,
        device,
        report,
        checkpoint=None,
        should_stop=lambda: False,
        split="val",
    ):
        fingerprint = config.fingerprint()
        self.calls.append((fingerprint, seed, recipe.accumulate))
        state = Path(checkpoint) / "state.json" if checkpoint is not None else None
        first = 1
        if state is not None and state.exists():
            first = json.loads(state.read_text())["epoch"] + 1
        top1 = score_of(fingerprint)
        if self.noise:
            top1 += self.noise * random.Random(f"{fingerprint}/{seed}/{split}").gauss(0, 1)
        for epoch in range(first, recipe.epochs + 1):
            if self.raises is not None:
                error = self.raises(len(self.calls), fingerprint, recipe)
                if error is not None:
                    raise error
            if should_stop():
                raise Stop("asked to stop")
            time.sleep(self.seconds)
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{fingerprint} {seed} {epoch}\n")
            if state is not None:
                state.parent.mkdir(parents=True, exist_ok=True)
                part = state.with_suffix(f".{os.getpid()}")
                part.write_text(json.dumps({"epoch": epoch}))
                part.replace(state)
            report(EpochMetrics(epoch, recipe.epochs, 1.0, 1.0, top1 * epoch / recipe.epochs, 0.1))
        return ProxyResult(
            score=top1,
            top1=top1,
            val_loss=1.0,
            chance=0.0,
            epochs=recipe.epochs,
            seconds=0.1,
            backend="reference",
            device=device,
            dtype="float32",
            proxy_params=1,
            proxy_flops=1,
            notes=(),
            scores={"top1": top1, "loss": 1.0},
        )


@dataclass
class FakeClock:
    """Time that moves when told to, and owners that die when told to."""

    time: float = 1_000_000.0
    dead: set = field(default_factory=set)
    _numbers: object = field(default_factory=count)

    def now(self) -> float:
        return self.time

    def stamp(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def owner(self) -> str:
        return f"host/boot/space/{next(self._numbers)}/start/x"

    def is_dead(self, owner: str) -> bool:
        return owner in self.dead


class Skewed(SystemClock):
    """The clock of a machine that is wrong by some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return super().now() + self.seconds


def proposal(index: int, name: str = "a", **changes) -> NewProposal:
    """A proposal that needs no space."""
    made = NewProposal(
        index=index,
        role="candidate",
        kind="random",
        fingerprint=name * 64,
        config={"name": name},
        flops=100,
        params_count=10,
        convention="fvcore",
        image_size=224,
        seed=1,
    )
    return replace(made, **changes)


def new_study(url: str, made: Settings, *, name: str = "s", clock=None, confirmation=None, **place):
    """A study whose data set nobody looks at."""
    return create_study(
        made,
        url,
        name=name,
        place=Place(**place),
        confirmation=confirmation,
        clock=clock or FakeClock(),
        check_data=False,
    )


def driver(study, progress=None, trials=None) -> Coordinator:
    """A driver of a study, with its own owner id."""
    if trials is not None:
        study.want(trials)
    return Coordinator(
        study, environment={"host": "test"}, progress=progress or (lambda event: None)
    )
