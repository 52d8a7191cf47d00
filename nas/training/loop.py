"""The training loop: batches, updates, averaged weights, evaluation, state between epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nas.study.outcomes import NanLoss, Stop
from nas.study.recipe import Recipe
from nas.training.data.catalog import ProxyData

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


class Training:
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
        self.averaged: AveragedModel | None = None
        if recipe.ema is not None:
            average = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
            # The average begins with the initial weights, not with those after an update.
            self.averaged.n_averaged += 1

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
                self._logits(self.model, images),
                self.labels[part],
                label_smoothing=recipe.label_smoothing,
            ) * (len(part) / len(chosen))
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.detach()
        if recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return loss_sum

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Return mean loss and top-1 on the validation split, of the averaged weights if any."""
        model = self.model if self.averaged is None else self.averaged.module
        model.eval()
        images, labels = self.val
        loss, right = 0.0, 0
        for start in range(0, len(labels), _EVAL_BATCH):
            part = slice(start, start + _EVAL_BATCH)
            logits = self._logits(model, self._normalized(images[part]))
            loss += float(F.cross_entropy(logits, labels[part], reduction="sum"))
            right += int((logits.argmax(1) == labels[part]).sum())
        return loss / len(labels), right / len(labels)

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"
        ):
            logits: Tensor = model(images)
        return logits.float()

    def _normalized(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean).mul_(self.scale)

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
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
            self.averaged.load_state_dict(state["averaged"])
        self.history = [EpochMetrics(**m) for m in state["history"]]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)


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
