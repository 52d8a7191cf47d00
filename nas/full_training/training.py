"""A full training in progress: timm's parts, put together so that it can be entered anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nas.errors import TrainingError
from nas.full_training.chance import seed_everything
from nas.full_training.loaders import Order, names
from nas.full_training.processes import Team
from nas.full_training.recipe import TrainingRecipe
from nas.full_training.samples import Samples
from nas.full_training.subject import Subject
from nas.full_training.weights import begin_from
from nas.study.outcomes import NanLoss
from nas.training.tasks.base import Batch

# On a GPU, reading the loss waits for the device; every so many updates is soon enough.
_GPU_CHECK_EVERY = 20


@dataclass(frozen=True)
class How:
    """What a machine is asked to do differently, for the same recipe.

    accumulate: passes of an update. workers: processes that load images. compiled: torch.compile.
    threads: of the CPU, torch's own by default. save_every_s: between checkpoints within an epoch.
    """

    accumulate: int = 1
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False
    grad_checkpointing: bool = False
    workers: int = 0
    threads: int | None = None
    save_every_s: float = 600.0

    def key(self) -> dict[str, Any]:
        """Return what must be equal where a training goes on bit for bit."""
        kept = ("accumulate", "bf16", "channels_last", "compiled", "grad_checkpointing")
        return {name: getattr(self, name) for name in kept}


class Training:
    """Model, optimizer, schedule, averaged weights, and how many updates are done."""

    def __init__(
        self,
        subject: Subject,
        samples: Samples,
        recipe: TrainingRecipe,
        *,
        how: How,
        team: Team,
        seed: int,
    ) -> None:
        self.recipe, self.how, self.team, self.seed = recipe, how, team, seed
        self.samples, self.task = samples, subject.task(samples)
        self.device = torch.device(team.device)
        self.order = Order(samples, recipe, seed, team, how.accumulate)
        self.layout = torch.channels_last if how.channels_last else torch.contiguous_format
        seed_everything(seed, "weights")
        model = subject.build(samples, drop_path=recipe.drop_path, drop_rate=recipe.drop_rate)
        if subject.weights is not None:
            begin_from(model, subject.weights, subject.network, subject.side)
        if how.grad_checkpointing:
            _save_memory(model, subject.network.name)
        self.model = model.to(self.device).to(memory_format=self.layout)
        self.averaged = (
            None if recipe.ema is None else ModelEmaV3(self.model, recipe.ema, use_warmup=True)
        )
        self.optimizer = _optimizer(self.model, recipe)
        peak, self.steps = recipe.peak_lr, self.order.steps
        self.schedule, _ = create_scheduler_v2(
            self.optimizer,
            "cosine",
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_lr=recipe.warmup_lr * peak,
            min_lr=recipe.min_lr * peak,
            step_on_epochs=False,
            updates_per_epoch=self.steps,
        )
        self.net = self._wrapped(self.model)
        self.loss = self._loss(len(samples.labels[0].classes))
        self.done = 0
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        self._unread: list[tuple[int, Tensor, Tensor]] = []

    def _wrapped(self, model: nn.Module) -> nn.Module:
        net: Any = torch.compile(model) if self.how.compiled else model
        if self.team.world == 1:
            return net  # type: ignore[no-any-return]
        own = [self.device] if self.device.type == "cuda" else None
        # A network that answers for tokens leaves its last norm unused.
        return DistributedDataParallel(net, own, find_unused_parameters=self.task is not None)

    def _loss(self, classes: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss of (answers, labels), and set how images of a pass are mixed."""
        recipe = self.recipe
        self.mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y)
        if (task := self.task) is not None:
            return lambda out, y: task.loss(out, Batch(out, y))
        made: nn.Module = LabelSmoothingCrossEntropy(recipe.label_smoothing)
        if recipe.mixes:
            made = SoftTargetCrossEntropy()
            self.mix = Mixup(
                mixup_alpha=recipe.mixup,
                cutmix_alpha=recipe.cutmix,
                label_smoothing=recipe.label_smoothing,
                num_classes=classes,
            )
        return made

    @property
    def epoch(self) -> int:
        """The epoch that the next update belongs to, from 0."""
        return self.done // self.steps

    @property
    def step(self) -> int:
        """The next update's place in its epoch."""
        return self.done % self.steps

    @property
    def lr(self) -> float:
        """The largest learning rate of the next update."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def scored(self) -> nn.Module:
        """The network that counts: of averaged weights, where there are."""
        return self.model if self.averaged is None else self.averaged.module  # type: ignore[no-any-return]

    def update(self, images: Tensor, labels: Tensor, index: Tensor) -> None:
        """Do the next update. Shapes: (B, 3, S, S), (B,) or (B, R, grid, grid), (B,).

        Raises: NanLoss naming the images, at once on a CPU.
        """
        seed_everything(self.seed, "update", self.done, self.team.rank)
        self.model.train()
        passes = self.how.accumulate
        whole = torch.zeros((), device=self.device)
        for n, (x, y) in enumerate(zip(images.chunk(passes), labels.chunk(passes))):
            x = x.to(self.device, non_blocking=True, memory_format=self.layout)
            x, y = self.mix(x, y.to(self.device, non_blocking=True))
            with self._synced(last=n == passes - 1):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.how.bf16):
                    out = self.net(x)
                loss = self.loss(out.float(), y) / passes
                loss.backward()  # type: ignore[no-untyped-call]
            whole += loss.detach()
        if self.recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._unread.append((self.done, whole, index))
        self.done += 1
        self.schedule.step_update(self.done)
        if self.averaged is not None:
            self.averaged.update(self.model, step=self.done)
        self.total += whole
        if self.device.type == "cpu" or len(self._unread) >= _GPU_CHECK_EVERY:
            self.check()

    def _synced(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients in the last pass of an update alone."""
        if last or not isinstance(self.net, DistributedDataParallel):
            return nullcontext()
        return self.net.no_sync()

    def check(self) -> None:
        """Raise NanLoss, naming the first batch whose loss was not finite."""
        unread, self._unread = self._unread, []
        for number, loss, index in unread:
            if not math.isfinite(float(loss)):
                epoch, step = divmod(number, self.steps)
                raise NanLoss(
                    f"training loss is {float(loss)} in epoch {epoch + 1}, update {step + 1}; its "
                    f"images: {names(self.samples, index.tolist())}; look at them, or lower lr. "
                    "The last checkpoint is of before"
                )

    def mean_loss(self) -> float:
        """Return the epoch's mean loss so far, of all processes, and begin another."""
        mine = float(self.total) / self.steps
        self.total.zero_()
        parts = self.team.gathered(mine)
        return math.fsum(parts) / len(parts)

    def state(self) -> dict[str, Any]:
        """Return all that a continued training needs, between two updates."""
        self.check()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.module.state_dict(),
            "done": self.done,
            "total": float(self.total),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"])
        self.done = state["done"]
        self.total.fill_(state["total"])
        self.schedule.step_update(self.done)


def _optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    options = {} if recipe.betas is None else {"betas": recipe.betas}
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.peak_lr,
            weight_decay=recipe.weight_decay,
            layer_decay=recipe.layer_decay,
            **options,
        )
    except (ValueError, AssertionError) as error:
        raise TrainingError(
            f"optimizer {recipe.optimizer!r}: {str(error).rstrip('.')}; "
            "timm.optim.list_optimizers() names them"
        ) from None
    return optimizer


def _save_memory(model: nn.Module, name: str) -> None:
    inner: Any = getattr(model, "backbone", getattr(model, "model", model))
    if not hasattr(inner, "set_grad_checkpointing"):
        raise TrainingError(f"{name} cannot recompute activations; leave out --grad-checkpointing")
    inner.set_grad_checkpointing(True)
