"""The training loop: batches, updates, averaged weights, evaluation, state between epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nas.study.outcomes import NanLoss, Stop
from nas.study.recipe import Recipe
from nas.study.tasks import Part
from nas.training.data.draws import uniforms
from nas.training.data.registry import ProxyData
from nas.training.tasks import Batch, make_task

_EVAL_BATCH = 250
# On a GPU, reading the loss waits for the device; every so many updates is soon enough.
_GPU_CHECK_EVERY = 20
# The epoch's generator is seeded by seed * this + epoch: distinct for any number of epochs.
_SEED_STRIDE = 1_000_003
_FUSED = ("adam", "adamw")
_MASK_STREAM = 40  # of the draws that mask the images to be scored


@dataclass(frozen=True)
class EpochMetrics:
    """What an epoch showed.

    train_loss, val_loss: means, of several tasks by weight. val_top1: in [0, 1], where the recipe
    is to classify; else the skill. seconds: since the run's start. score: as the recipe defines it.
    scores: by name; of several tasks, by "task/name".
    """

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_top1: float
    seconds: float
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)


class PartData:
    """One part of a recipe on the device: its images, its task, its batches."""

    def __init__(
        self, name: str, part: Part, data: ProxyData, recipe: Recipe, device: torch.device
    ) -> None:
        self.name, self.task, self.device = name, make_task(part, data, recipe), device
        self.images, self.labels = data.train_x.to(device), data.train_y.to(device)
        self.val = data.val_x.to(device), data.val_y.to(device)
        shape = (1, data.in_chans, 1, 1)
        self.mean = torch.tensor(data.mean, device=device).view(shape) * 255
        self.scale = 1 / (torch.tensor(data.std, device=device).view(shape) * 255)
        self.batch = min(recipe.batch_size, len(self.labels))
        self.flip = recipe.augment == "flip"
        self.val_hidden: Tensor | None = None
        if self.task.mask_units:
            index = np.arange(len(self.val[1]))
            draws = uniforms(recipe.data_seed, _MASK_STREAM, index, self.task.mask_units)
            self.val_hidden = self.task.mask(torch.from_numpy(draws)).to(device)

    def order(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` indices of training images: permutations, one after the other."""
        whole = torch.randperm(len(self.labels), generator=generator)
        while len(whole) < count:
            more = torch.randperm(len(self.labels), generator=generator)
            whole = torch.cat([whole, more])
        return whole

    def batches(self, chosen: Tensor, passes: int, generator: torch.Generator) -> list[Batch]:
        """Return the passes of an update, mirrored and masked at random."""
        flips = draws = None
        if self.flip:
            flips = (torch.rand(len(chosen), generator=generator) < 0.5).to(self.device)
        if self.task.mask_units:
            draws = torch.rand(len(chosen), self.task.mask_units, generator=generator)
        size = -(-len(chosen) // passes)
        made = []
        for start in range(0, len(chosen), size):
            here = slice(start, start + size)
            index = chosen[here].to(self.device)
            images, labels = self.normalized(self.images[index]), self.labels[index]
            if flips is not None:
                flip = flips[here].view(-1, 1, 1, 1)
                images = torch.where(flip, images.flip(3), images)
                if labels.dim() > 1:
                    labels = torch.where(flip, labels.flip(3), labels)
            hidden = None if draws is None else self.task.mask(draws[here]).to(self.device)
            made.append(Batch(images, labels, hidden))
        return made

    def scored(self, start: int) -> Batch:
        """Return the images to be scored from `start`, always masked alike."""
        here = slice(start, start + _EVAL_BATCH)
        hidden = None if self.val_hidden is None else self.val_hidden[here]
        return Batch(self.normalized(self.val[0][here]), self.val[1][here], hidden)

    def normalized(self, images: Tensor) -> Tensor:
        """Return bytes as floats of mean 0 and standard deviation 1."""
        return (images.float() - self.mean).mul_(self.scale)


class Training:
    """A training in progress: model, optimizer, schedule, averaged weights, history."""

    def __init__(
        self,
        model: nn.Module,
        data: Sequence[ProxyData],
        recipe: Recipe,
        seed: int,
        device: str,
    ) -> None:
        self.model, self.recipe, self.seed = model, recipe, seed
        self.device = torch.device(device)
        self.parts = [
            PartData(name, part, own, recipe, self.device)
            for name, part, own in zip(part_names(recipe), recipe.parts, data, strict=True)
        ]
        whole = sum(part.weight for part in recipe.parts)
        self.shares = [part.weight / whole for part in recipe.parts]
        first = self.parts[0]
        self.steps = len(first.labels) // first.batch
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
        generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + epoch)
        orders = [part.order(self.steps * part.batch, generator) for part in self.parts]
        self.model.train()
        total = torch.zeros((), device=self.device)
        every = 1 if self.device.type == "cpu" else _GPU_CHECK_EVERY
        for step in range(self.steps):
            if should_stop():
                raise Stop(f"asked to stop in epoch {epoch + 1}")
            for n, (part, order) in enumerate(zip(self.parts, orders)):
                chosen = order[step * part.batch : (step + 1) * part.batch]
                total += self._gradients(n, chosen, generator)
            self._update()
            if (step + 1) % every == 0 or step + 1 == self.steps:
                if not math.isfinite(float(total)):
                    raise NanLoss(
                        f"training loss is {float(total)} in epoch {epoch + 1}, update {step + 1}"
                    )
        return float(total) / self.steps

    def _gradients(self, n: int, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Add the gradients of one part's batch; return its loss, by its share."""
        part = self.parts[n]
        summed = torch.zeros((), device=self.device)
        for batch in part.batches(chosen, self.recipe.accumulate, generator):
            out = self._answer(self.model, part, n, batch)
            share = self.shares[n] * (len(batch.images) / len(chosen))
            loss = part.task.loss(out, batch) * share
            loss.backward()  # type: ignore[no-untyped-call]
            summed += loss.detach()
        return summed

    def _update(self) -> None:
        if self.recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Return the scores of each part on the split, of the averaged weights if any."""
        model = self.model if self.averaged is None else self.averaged.module
        model.eval()
        found = []
        for n, part in enumerate(self.parts):
            tally = part.task.tally()
            for start in range(0, len(part.val[1]), _EVAL_BATCH):
                batch = part.scored(start)
                tally.add(self._answer(model, part, n, batch), batch)
            found.append(tally.scores())
        return found

    def metrics(self, epoch: int, train_loss: float, seconds: float) -> EpochMetrics:
        """Evaluate, and return what the epoch showed; epoch counts from 0."""
        found, recipe = self.evaluate(), self.recipe
        skill, val_loss = (
            sum(share * scores[name] for share, scores in zip(self.shares, found))
            for name in ("skill", "loss")
        )
        if not math.isfinite(val_loss):
            raise NanLoss(f"validation loss is {val_loss} after epoch {epoch + 1}")
        if len(found) == 1:
            score, scores = found[0][recipe.score], found[0]
            top1 = scores["top1"] if recipe.task == "classify" else skill
        else:
            score = top1 = skill
            named = zip(self.parts, found)
            scores = {f"{p.name}/{k}": v for p, own in named for k, v in own.items()}
        return EpochMetrics(
            epoch + 1, recipe.epochs, train_loss, val_loss, top1, seconds, score, scores
        )

    def _answer(self, model: nn.Module, part: PartData, n: int, batch: Batch) -> Tensor:
        images = part.task.shown(batch)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"
        ):
            out: Tensor = model(images) if n == 0 else model(images, n)
        return out.float()

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


def part_names(recipe: Recipe) -> list[str]:
    """Return a name for each task of a recipe: what it is, numbered where there are several."""
    tasks = [part.task for part in recipe.parts]
    return [
        task if tasks.count(task) == 1 else f"{task}{tasks[:n].count(task) + 1}"
        for n, task in enumerate(tasks)
    ]


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
