"""Training one candidate for a few epochs: the same inputs give the same score, bit for bit.

Everything random comes from the seed: the weights from torch's generator inside a fork of it,
the batches from a generator of their own for each epoch. The number of threads belongs to the
recipe. A run that is continued from its checkpoint therefore ends as if never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backbones.config import BackboneConfig
from nas.study.outcomes import NanLoss
from nas.study.recipe import Recipe
from nas.training import checkpoints
from nas.training.data.catalog import ProxyData, load_data
from nas.training.determinism import reproducible
from nas.training.loop import EpochMetrics, Training
from nas.training.scaling import proxy_config


@dataclass(frozen=True)
class ProxyResult:
    """A finished proxy run.

    score: as the recipe defines it, higher is better. top1, val_loss: on the validation split
    after the last epoch. chance: top-1 of a guess. seconds: wall time, earlier attempts included.
    backend: of the scans. proxy_params, proxy_flops: of the network that was trained, fvcore
    convention. notes: what could not act, or was not deterministic.
    """

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
    notes: tuple[str, ...]


Report = Callable[[EpochMetrics], None]


def train_proxy(
    config: BackboneConfig,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    report: Report,
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    data_dir: str | None = None,
) -> ProxyResult:
    """Train the scaled-down candidate as the recipe says and return its score.

    report: called after each epoch; may raise `Stop`. checkpoint: a directory that the run is
    written to after each epoch and continued from when it holds this run; the caller removes it.
    should_stop: asked before each batch. data_dir: replaces the recipe's.
    Raises: DataError; NanLoss; Stop; StudyError for a checkpoint of another run; torch's own
    error when memory runs out (`nas.study.outcomes.classify` knows it).
    """
    import backbones
    import kernels

    if data_dir is not None:
        recipe = recipe.model_copy(update={"data_dir": data_dir})
    data = load_data(recipe)
    scaled, notes = proxy_config(config, recipe, data.num_classes, data.in_chans)
    cost = backbones.cost(scaled, image_size=recipe.image_size)
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    states = [b.mixer.scan_state for b in scaled.blocks.values()]
    backend = kernels.resolve_backend(torch.device(device), dtype, state=max(1, *states))
    key = {
        "config": scaled.fingerprint(),
        "recipe": recipe.fingerprint(),
        "threads": recipe.threads,
        "seed": seed,
        "backend": backend,
        "device": torch.device(device).type,
    }
    with reproducible(seed, recipe.threads, device) as environment:
        model = backbones.create(scaled)
        top1, val_loss, seconds = train_model(
            model,
            data,
            recipe,
            seed=seed,
            device=device,
            report=report,
            checkpoint=checkpoint,
            key=key,
            should_stop=should_stop,
        )
    return ProxyResult(
        score=top1 if recipe.score == "top1" else math.exp(-val_loss),
        top1=top1,
        val_loss=val_loss,
        chance=1 / data.num_classes,
        epochs=recipe.epochs,
        seconds=seconds,
        backend=backend,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        proxy_params=cost.params,
        proxy_flops=cost.flops,
        notes=(*notes, *environment.notes),
    )


def train_model(
    model: nn.Module,
    data: ProxyData,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    report: Report,
    checkpoint: str | Path | None,
    key: dict[str, Any],
    should_stop: Callable[[], bool],
) -> tuple[float, float, float]:
    """Train any classifier as the recipe says; call inside `reproducible`.

    Shapes: the model maps float images (B, C, S, S) to logits (B, num_classes).
    Returns: validation top-1, validation loss, seconds.
    Raises: as `train_proxy`.
    """
    run = Training(model.to(device), data, recipe, seed, device)
    started = time.monotonic()
    if checkpoint is not None and (state := checkpoints.load(checkpoint, key)) is not None:
        run.restore(state)
        started -= run.history[-1].seconds
    for epoch in range(len(run.history), recipe.epochs):
        train_loss = run.train_epoch(epoch, should_stop)
        val_loss, top1 = run.evaluate()
        if not math.isfinite(val_loss):
            raise NanLoss(f"validation loss is {val_loss} after epoch {epoch + 1}")
        seconds = time.monotonic() - started
        metrics = EpochMetrics(epoch + 1, recipe.epochs, train_loss, val_loss, top1, seconds)
        run.history.append(metrics)
        if checkpoint is not None:
            checkpoints.save(checkpoint, key, run.state())
        report(metrics)
    last = run.history[-1]
    return last.val_top1, last.val_loss, last.seconds
