"""Training one candidate for a few epochs: the same inputs give the same score, bit for bit.

Everything random comes from the seed: the weights from torch's generator inside a fork of it,
the batches from a generator of their own for each epoch. The number of threads belongs to the
recipe. A run that is continued from its checkpoint therefore ends as if never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import backbones
import kernels
from backbones.config import BackboneConfig
from backbones.outside import PREFIX, TimmConfig
from nas.errors import StudyError
from nas.study.recipe import Recipe
from nas.training import checkpoints
from nas.training.data.catalog import load_data
from nas.training.data.draws import Split
from nas.training.data.registry import ProxyData
from nas.training.determinism import reproducible
from nas.training.loop import EpochMetrics, Training
from nas.training.readout import TaskNet
from nas.training.scaling import as_it_is, proxy_config
from nas.training.tasks import make_task


@dataclass(frozen=True)
class ProxyResult:
    """A finished proxy run.

    score: as the recipe defines it, higher is better, on the scored split after the last epoch;
    scores: all by name (see `EpochMetrics`). top1: as `EpochMetrics.val_top1`. chance: top1 of a
    guess, None where there is none to compare with. seconds: wall time, earlier attempts included.
    backend: of the scans. proxy_params: of the network that was trained. proxy_flops: the same
    without read-outs, fvcore convention. notes: what could not act, or was not deterministic.
    """

    score: float
    top1: float
    val_loss: float
    chance: float | None
    epochs: int
    seconds: float
    backend: str
    device: str
    dtype: str
    proxy_params: int
    proxy_flops: int
    notes: tuple[str, ...]
    scores: dict[str, float] = field(default_factory=dict)


Report = Callable[[EpochMetrics], None]


def train_proxy(
    config: BackboneConfig | TimmConfig,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    report: Report,
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    split: Split = "val",
    scale: bool = True,
) -> ProxyResult:
    """Train the scaled-down candidate as the recipe says and return its score.

    report: called after each epoch; may raise `Stop`. checkpoint: a directory that the run is
    written to after each epoch and continued from when it holds this run; the caller removes it.
    should_stop: asked before each batch. split: "test" is for confirmation alone. scale: False
    trains the design as it is.
    Raises: DataError; SpaceError for a design that, unscaled, does not fit the images; NanLoss;
    Stop; StudyError for a checkpoint of another run; torch's own error when memory runs out
    (`nas.study.outcomes.classify` knows it).
    """
    data = load_parts(recipe, split)
    tasks = [make_task(part, own, recipe) for part, own in zip(recipe.parts, data)]
    classes, chans = max(task.num_classes for task in tasks), data[0].in_chans
    plain = [task.outputs for task in tasks] == [0]
    scaled, notes = _scaled(config, recipe, classes, chans, scale, plain)
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    backend = _backend(scaled, device, dtype)
    key = _key(recipe, config=scaled.fingerprint(), seed=seed, backend=backend, split=split)
    key["device"] = torch.device(device).type
    with reproducible(seed, recipe.threads, device) as environment:
        model = _built(scaled, recipe, classes, chans)
        last = train_model(
            model if plain else TaskNet(model, tasks, recipe.grid),
            data,
            recipe,
            seed=seed,
            device=device,
            report=report,
            checkpoint=checkpoint,
            key=key,
            should_stop=should_stop,
        )
    assert last.score is not None
    return ProxyResult(
        score=last.score,
        top1=last.val_top1,
        val_loss=last.val_loss,
        chance=1 / classes if plain else 0.0,
        epochs=recipe.epochs,
        seconds=last.seconds,
        backend=backend,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        proxy_params=sum(p.numel() for p in model.parameters()),
        proxy_flops=_flops(scaled, recipe),
        notes=(*notes, *environment.notes),
        scores=last.scores,
    )


def load_parts(recipe: Recipe, split: Split = "val") -> list[ProxyData]:
    """Return the data of all parts of a recipe; gray images get three channels beside others.

    Raises: DataError.
    """
    data = [load_data(recipe, part, split=split) for part in recipe.parts]
    chans = max(own.in_chans for own in data)
    return [own.with_chans(chans) for own in data]


def _key(recipe: Recipe, **facts: Any) -> dict[str, Any]:
    """Return what must be equal where a run goes on from a checkpoint."""
    return {"recipe": recipe.fingerprint(), "threads": recipe.threads, **facts}


def _scaled(
    config: BackboneConfig | TimmConfig,
    recipe: Recipe,
    classes: int,
    chans: int,
    scale: bool,
    plain: bool,
) -> tuple[BackboneConfig | TimmConfig, list[str]]:
    """Return what is trained for a design; a network of timm is, as it stands."""
    if isinstance(config, TimmConfig):
        if not plain:
            raise StudyError(
                f"{PREFIX}{config.name} answers for whole images, and the recipe's task "
                f"({', '.join(part.task for part in recipe.parts)}) asks for more; take a recipe "
                "of task classify, or leave the baseline out"
            )
        return config, ["a network of timm is not scaled down: it trains at its own cost"]
    return (proxy_config if scale else as_it_is)(config, recipe, classes, chans)


def _built(config: BackboneConfig | TimmConfig, recipe: Recipe, classes: int, chans: int) -> Any:
    sized = {"num_classes": classes, "in_chans": chans, "image_size": recipe.image_size}
    return backbones.create(config, **(sized if isinstance(config, TimmConfig) else {}))


def _flops(config: BackboneConfig | TimmConfig, recipe: Recipe) -> int:
    if isinstance(config, TimmConfig):
        return config.cost(recipe.image_size).flops
    return backbones.cost(config, image_size=recipe.image_size).flops


def _backend(config: BackboneConfig | TimmConfig, device: str, dtype: torch.dtype) -> str:
    if isinstance(config, TimmConfig):
        return "torch"
    states = [b.mixer.scan_state for b in config.blocks.values()]
    return kernels.resolve_backend(torch.device(device), dtype, state=max(1, *states))


def train_model(
    model: nn.Module,
    data: Sequence[ProxyData],
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    report: Report,
    checkpoint: str | Path | None,
    key: dict[str, Any],
    should_stop: Callable[[], bool],
) -> EpochMetrics:
    """Train any network on a recipe's parts; call inside `reproducible`.

    Shapes: the model maps float images (B, C, S, S) to what the task's loss takes; of a further
    part, with its number as second argument.
    Returns: the last epoch.
    Raises: as `train_proxy`.
    """
    run = Training(model.to(device), data, recipe, seed, device)
    started = time.monotonic()
    if checkpoint is not None and (state := checkpoints.load(checkpoint, key)) is not None:
        run.restore(state)
        started -= run.history[-1].seconds
    for epoch in range(len(run.history), recipe.epochs):
        train_loss = run.train_epoch(epoch, should_stop)
        metrics = run.metrics(epoch, train_loss, time.monotonic() - started)
        run.history.append(metrics)
        if checkpoint is not None:
            checkpoints.save(checkpoint, key, run.state())
        report(metrics)
    return run.history[-1]
