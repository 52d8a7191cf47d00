"""One attempt at one trial as plain data, and how it is carried out.

An attempt can be sent to another process: it names everything that decides its score and nothing
of the database. This module holds the trial boundary, the one place where any exception is caught:
it becomes an outcome class with a traceback, and the search goes on.
"""

from __future__ import annotations

import gc
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nas.driver.disk import shortage
from nas.errors import StudyError
from nas.executors.canary import trouble_with_canary
from nas.study.attempts import CANARY, Attempt, Result
from nas.study.outcomes import UNCLEAR, Outcome, Stop, classify
from nas.training.environment import environment

if TYPE_CHECKING:
    from nas.study.recipe import Recipe
    from nas.training.loop import EpochMetrics
    from nas.training.run import ProxyResult

_LONGEST_TRACEBACK = 20_000


class Proxy(Protocol):
    """What trains a candidate: `nas.training.run.train_proxy`, or a stand-in in tests."""

    def __call__(
        self,
        config: Any,  # BackboneConfig; of a baseline also TimmConfig
        recipe: Recipe,
        *,
        seed: int,
        device: str,
        report: Callable[[EpochMetrics], None],
        checkpoint: str | Path | None = None,
        should_stop: Callable[[], bool] = ...,
    ) -> ProxyResult:
        """Train and return the score."""
        ...


@dataclass
class Brake:
    """Stops a running attempt, and remembers why.

    at_epoch: stop after the epoch that is under way. at_once: stop at the next update.
    pruned: end here, because the design has fallen behind; set while an epoch is reported.
    batches: how often a training has asked, which it does before each update. training: whether
    it should be asking now; not while an epoch is reported.
    """

    at_epoch: bool = False
    at_once: str | None = None
    deadline: float | None = None
    timed_out: bool = False
    batches: int = 0
    training: bool = False
    pruned: bool = False
    history: list[EpochMetrics] = field(default_factory=list)

    def should_stop(self) -> bool:
        """Whether to stop now."""
        self.batches += 1
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.timed_out = True
        return self.timed_out or self.at_once is not None


class Interrupted(Exception):
    """An attempt was stopped from outside, unfinished; it can be continued from its checkpoint."""


def carry_out(
    attempt: Attempt,
    report: Callable[[EpochMetrics], None],
    brake: Brake,
    proxy: Proxy | None = None,
) -> Result:
    """Train the attempt's design and return how that ended; any error ends as an outcome.

    report: called after each epoch, after the checkpoint is written.
    Raises: Interrupted when the brake was pulled, and whatever `report` raises: trouble with the
        study is not the design's fault. KeyboardInterrupt passes.
    """
    own_trouble: list[BaseException] = []
    if attempt.timeout_s is not None:
        brake.deadline = time.monotonic() + attempt.timeout_s

    def after_epoch(metrics: EpochMetrics) -> None:
        brake.history.append(metrics)
        brake.training = False
        try:
            report(metrics)
        except Exception as error:
            own_trouble.append(error)
            raise
        brake.training = True
        if metrics.epoch == metrics.epochs:
            return
        if brake.pruned:
            raise Stop("pruned")
        if brake.at_epoch or brake.should_stop():
            raise Stop("asked to stop")

    brake.training = True
    try:
        result = _complete(
            attempt, *_train_patiently(attempt, after_epoch, brake, proxy, own_trouble)
        )
    except Exception as error:
        if own_trouble:
            raise own_trouble[0] from None
        result = _ended(attempt, brake, error)
    finally:
        brake.training = False
    if result.outcome in UNCLEAR:
        free_memory()
        place = trouble_here(attempt, brake, proxy)
        result = replace(
            result, place=place, metrics={**(result.metrics or {}), CANARY: place is None}
        )
    return replace(result, environment=environment())


def trouble_here(attempt: Attempt, brake: Brake, proxy: Proxy | None) -> str | None:
    """Return of what a known design fails here; whoever watches the brake ends one that hangs."""

    def train(attempt: Attempt, should_stop: Callable[[], bool]) -> None:
        def asked() -> bool:
            brake.batches += 1
            return should_stop()

        own = Brake()
        own.should_stop = asked  # type: ignore[method-assign]
        _train(attempt, lambda _: None, own, proxy)

    brake.batches, brake.training = brake.batches + 1, True
    try:
        return trouble_with_canary(attempt, train)
    finally:
        brake.training = False


def _train_patiently(
    attempt: Attempt,
    report: Callable[[EpochMetrics], None],
    brake: Brake,
    proxy: Proxy | None,
    own_trouble: list[BaseException],
) -> tuple[ProxyResult, list[str]]:
    """Train; from the start where a checkpoint is damaged, or of other hardware, with a note."""
    try:
        return _train(attempt, report, brake, proxy), []
    except StudyError as error:
        if own_trouble or not attempt.continued or shortage(Path(str(attempt.checkpoint))):
            raise
        note = f"trained from the start, since {error}"
    shutil.rmtree(str(attempt.checkpoint))
    return _train(attempt, report, brake, proxy), [note]


def _complete(attempt: Attempt, done: ProxyResult, notes: list[str]) -> Result:
    return Result(
        Outcome.COMPLETE,
        score=done.score,
        scores=dict(done.scores),
        objectives=(done.score, *attempt.costs),
        metrics={**asdict(done), "notes": [*done.notes, *notes]},
        backend=done.backend,
        dtype=done.dtype,
    )


def _train(
    attempt: Attempt, report: Callable[[EpochMetrics], None], brake: Brake, proxy: Proxy | None
) -> ProxyResult:
    from backbones.outside import read_design
    from nas.study.recipe import Recipe

    with _backend(attempt.backend):
        recipe = Recipe.model_validate(dict(attempt.recipe))
        return (proxy or _proxy_of(recipe))(
            read_design(attempt.config),
            recipe,
            seed=attempt.seed,
            device=attempt.device,
            report=report,
            checkpoint=attempt.checkpoint,
            should_stop=brake.should_stop,
            # A proxy that scores validation only need not know of splits.
            **({} if attempt.split == "val" else {"split": attempt.split}),
        )


def _proxy_of(recipe: Recipe) -> Proxy:
    if recipe.evaluate is not None:
        from nas.training.own import find_evaluation

        return find_evaluation(recipe.evaluate)
    from nas.training.run import train_proxy

    return train_proxy


def _backend(name: str) -> AbstractContextManager[Any]:
    if name == "auto":
        return nullcontext()
    from kernels import use_backend

    return use_backend(name)


def _ended(attempt: Attempt, brake: Brake, error: Exception) -> Result:
    if isinstance(error, (StudyError, OSError)) and attempt.checkpoint is not None:
        short = shortage(Path(attempt.checkpoint))
        if short is not None:
            raise Interrupted(short) from None
    outcome = classify(error)
    last = brake.history[-1] if brake.history else None
    if outcome is Outcome.PRUNED:
        if brake.pruned and last is not None:
            return pruned(attempt, last)
        if not brake.timed_out:
            raise Interrupted(brake.at_once or "asked to stop") from None
        outcome = Outcome.TIMEOUT
        said = f"not finished within {attempt.timeout_s:g} s"
    else:
        said = " ".join(f"{type(error).__name__}: {error}".split())
    lines = "".join(traceback.format_exception(error))
    return Result(
        outcome,
        metrics=None if last is None else {"epochs": last.epoch, "seconds": last.seconds},
        objectives=(0.0, *attempt.costs),
        error=said[:1000],
        traceback=lines[-_LONGEST_TRACEBACK:],
    )


def pruned(attempt: Attempt, last: EpochMetrics) -> Result:
    """Return the result of a design that was ended after an epoch; its score is of that epoch."""
    from nas.study.recipe import Recipe

    recipe = Recipe.model_validate(dict(attempt.recipe))
    score = recipe.score_of(asdict(last))
    return Result(
        Outcome.PRUNED,
        score=score,
        objectives=(score, *attempt.costs),
        metrics={"epochs": last.epoch, "top1": last.val_top1, "seconds": last.seconds},
    )


def free_memory() -> None:
    """Give a finished model's memory back: to the next trial, and to others on the same GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
