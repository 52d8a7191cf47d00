"""A user's own evaluation of a design, in place of the proxy's training."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.config import BackboneConfig
from nas.errors import DataError
from nas.study.outcomes import NanLoss
from nas.study.recipe import Recipe
from nas.training.data.draws import Split
from nas.training.loop import EpochMetrics
from nas.training.run import ProxyResult, Report

SCORE = "score"


@dataclass(frozen=True)
class Context:
    """What an evaluation is told beside the design.

    seed: of everything random; equal for all designs of a comparison. split: "val", or "test" when
    a search is confirmed. checkpoint: a folder of this trial's own, kept when it is interrupted.
    should_stop: whether to give up now (time is over, or the study was stopped); raise
    `nas.study.outcomes.Stop` then.
    """

    seed: int
    device: str
    split: Split
    recipe: Recipe
    checkpoint: Path | None
    should_stop: Callable[[], bool]
    _report: Callable[[int, float], None]

    def report(self, epoch: int, score: float) -> None:
        """Tell how good the design is after an epoch, counted from 1, so that it can be pruned."""
        self._report(epoch, score)


Evaluate = Callable[[BackboneConfig, Context], "float | Mapping[str, float]"]


class OwnEvaluation:
    """A user's function as a proxy: what executors run in place of a training."""

    def __init__(self, function: Evaluate) -> None:
        self.function = function

    def __call__(
        self,
        config: BackboneConfig,
        recipe: Recipe,
        *,
        seed: int,
        device: str,
        report: Report,
        checkpoint: str | Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        split: Split = "val",
    ) -> ProxyResult:
        """Return what the function says of a design.

        Raises: DataError for an answer that is no score; NanLoss for one that is not finite; and
        whatever the function raises.
        """
        started, last = time.monotonic(), 0

        def epoch(number: int, score: float) -> None:
            nonlocal last
            last, taken = number, time.monotonic() - started
            report(EpochMetrics(number, recipe.epochs, math.nan, math.nan, score, taken, score))

        folder = None if checkpoint is None else Path(checkpoint)
        context = Context(seed, device, split, recipe, folder, should_stop, epoch)
        scores = _scores(self.function(config, context))
        return ProxyResult(
            score=scores[SCORE],
            top1=scores[SCORE],
            val_loss=math.nan,
            chance=None,
            epochs=last,
            seconds=time.monotonic() - started,
            backend="own",
            device=device,
            dtype="own",
            proxy_params=0,
            proxy_flops=0,
            notes=(),
            scores=scores,
        )


def _scores(answer: Any) -> dict[str, float]:
    found = dict(answer) if isinstance(answer, Mapping) else {SCORE: answer}
    try:
        scores = {str(name): float(value) for name, value in found.items()}
    except (TypeError, ValueError):
        raise DataError(
            f"evaluate returned {answer!r}; return a number, or a dict of numbers by name"
        ) from None
    if SCORE not in scores:
        raise DataError(f"evaluate returned {sorted(scores)}, and no 'score': higher is better")
    if not math.isfinite(scores[SCORE]):
        raise NanLoss(f"evaluate returned score {scores[SCORE]}")
    return scores


def name_of(evaluate: str | Evaluate) -> str:
    """Return module:function of an evaluation, as a recipe records it."""
    if isinstance(evaluate, str):
        return evaluate
    kind: Any = evaluate if hasattr(evaluate, "__qualname__") else type(evaluate)
    return f"{kind.__module__}:{kind.__qualname__}"


def find_evaluation(name: str) -> OwnEvaluation:
    """Import the evaluation of a name, module:function; modules of this folder are found too.

    Raises: DataError for a name that names none, with the reason and the remedy.
    """
    module, colon, function = name.partition(":")
    remedy = "give module:function, importable from this folder"
    if not (colon and module and function):
        raise DataError(f"evaluate {name!r} is no module:function; {remedy}")
    if module == "__main__" or "<" in function:
        raise DataError(
            f"evaluate {name!r} was made in a session that is over; pass the function again as "
            "evaluate=, or keep it in a module and name it"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise DataError(f"evaluate {name!r}: {error}; {remedy}") from None
    if not callable(found):
        raise DataError(f"evaluate {name!r} is no function but a {type(found).__name__}; {remedy}")
    return OwnEvaluation(found)
