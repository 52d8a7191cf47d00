"""Training one candidate for a few epochs: the same inputs give the same score, bit for bit.

Everything random comes from the seed: the weights from torch's generator inside a fork of it,
the batches from a generator of their own for each epoch. The number of threads belongs to the
recipe. A run that is continued from its checkpoint therefore ends as if never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.config import BackboneConfig, SSMConfig
from nas.study.outcomes import NanLoss, Stop
from nas.study.recipe import Recipe
from nas.training import checkpoints
from nas.training.data.catalog import ProxyData, load_data
from nas.training.determinism import reproducible
from nas.training.scaling import proxy_config

_EVAL_BATCH = 250
# On a GPU, reading the loss waits for the device; every so many updates is soon enough.
_GPU_CHECK_EVERY = 20
# The epoch's generator is seeded by seed * this + epoch: distinct for any number of epochs.
_SEED_STRIDE = 1_000_003
_FUSED = ("adam", "adamw")


@dataclass(frozen=True)
class EpochMetrics:
    """What an epoch showed: mean losses, top-1 in [0, 1], seconds since the run's start."""

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_top1: float
    seconds: float


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
    states = [b.mixer.d_state for b in scaled.blocks.values() if isinstance(b.mixer, SSMConfig)]
    backend = kernels.resolve_backend(torch.device(device), dtype, state=max(states, default=1))
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
    run = _Run(model.to(device), data, recipe, seed, device)
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


class _Run:
    """A training in progress: model, optimizer, schedule, averaged weights, history."""

    def __init__(
        self, model: nn.Module, data: ProxyData, recipe: Recipe, seed: int, device: str
    ) -> None:
        self.model, self.recipe, self.seed = model, recipe, seed
        self.device = torch.device(device)
        self.images, self.labels = data.train_x.to(device), data.train_y.to(device)
        self.val = data.val_x.to(device), data.val_y.to(device)
        shape = (1, data.in_chans, 1, 1)
        self.mean = torch.tensor(data.mean, device=device).view(shape) * 255
        self.scale = 1 / (torch.tensor(data.std, device=device).view(shape) * 255)
        self.batch = min(recipe.batch_size, len(self.labels))
        self.steps = len(self.labels) // self.batch
        self.optimizer = _optimizer(model, recipe)
        updates = self.steps * recipe.epochs + 1
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=recipe.lr,
            total_steps=updates,
            # A rise of a single update would be divided by its length of zero.
            pct_start=max(recipe.warmup, 2 / updates),
        )
        self.history: list[EpochMetrics] = []
        self.averaged: list[Tensor] | None = None
        if recipe.ema is not None:
            self.averaged = [w.clone() for w in self._weights()]

    def train_epoch(self, epoch: int, should_stop: Callable[[], bool]) -> float:
        """Train one epoch and return its mean loss."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        self.model.train()
        total = torch.zeros((), device=self.device)
        every = 1 if self.device.type == "cpu" else _GPU_CHECK_EVERY
        for step in range(self.steps):
            if should_stop():
                raise Stop(f"asked to stop in epoch {epoch + 1}")
            chosen = order[step * self.batch : (step + 1) * self.batch]
            flips = None
            if recipe.augment == "flip":
                flips = torch.rand(len(chosen), generator=generator) < 0.5
            total += self._update(chosen, flips)
            if (step + 1) % every == 0 or step + 1 == self.steps:
                if not math.isfinite(float(total)):
                    raise NanLoss(
                        f"training loss is {float(total)} in epoch {epoch + 1}, update {step + 1}"
                    )
        return float(total) / self.steps

    def _update(self, chosen: Tensor, flips: Tensor | None) -> Tensor:
        recipe = self.recipe
        loss_sum = torch.zeros((), device=self.device)
        size = -(-len(chosen) // recipe.accumulate)
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size].to(self.device)
            images = self._normalized(self.images[part])
            if flips is not None:
                flip = flips[start : start + size].to(self.device).view(-1, 1, 1, 1)
                images = torch.where(flip, images.flip(3), images)
            loss = F.cross_entropy(
                self._logits(images), self.labels[part], label_smoothing=recipe.label_smoothing
            ) * (len(part) / len(chosen))
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.detach()
        if recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.averaged is not None and recipe.ema is not None:
            torch._foreach_lerp_(self.averaged, self._weights(), 1 - recipe.ema)
        return loss_sum

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Return mean loss and top-1 on the validation split, of the averaged weights if any."""
        self.model.eval()
        images, labels = self.val
        loss, right = 0.0, 0
        trained = self._swap_in_averaged()
        for start in range(0, len(labels), _EVAL_BATCH):
            part = slice(start, start + _EVAL_BATCH)
            logits = self._logits(self._normalized(images[part]))
            loss += float(F.cross_entropy(logits, labels[part], reduction="sum"))
            right += int((logits.argmax(1) == labels[part]).sum())
        for weight, value in zip(self._weights(), trained):
            weight.copy_(value)
        return loss / len(labels), right / len(labels)

    def _swap_in_averaged(self) -> list[Tensor]:
        """Put the averaged weights into the model and return those they replace."""
        if self.averaged is None:
            return []
        trained = [w.clone() for w in self._weights()]
        for weight, value in zip(self._weights(), self.averaged):
            weight.copy_(value)
        return trained

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"
        ):
            logits: Tensor = self.model(images)
        return logits.float()

    def _normalized(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean).mul_(self.scale)

    def _weights(self) -> list[Tensor]:
        """Return the parameters and floating buffers, in a fixed order."""
        return [w.detach() for w in _floating(self.model)]

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged": self.averaged,
            "history": [asdict(m) for m in self.history],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device)
            if self.device.type == "cuda"
            else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.averaged is not None:
            self.averaged = [t.to(self.device) for t in state["averaged"]]
        self.history = [EpochMetrics(**m) for m in state["history"]]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)


def _floating(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from (b for b in model.buffers() if b.is_floating_point())


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2

    # One fused call in place of a dozen for each of hundreds of small tensors.
    extra = {"fused": True} if recipe.optimizer in _FUSED else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        **extra,
    )
    return optimizer
