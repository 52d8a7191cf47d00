"""A training from its first update to its result, in a folder that it can be continued from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn

from backbones.checkpoints import save_weights as save_tensors
from nas.driver.disk import make_folder
from nas.driver.signals import on_signal
from nas.errors import TrainingError
from nas.full_training import loaders, scores
from nas.full_training.chance import generators_kept
from nas.full_training.processes import Team
from nas.full_training.recipe import TrainingRecipe
from nas.full_training.samples import Samples
from nas.full_training.scores import Score
from nas.full_training.subject import Subject
from nas.full_training.training import How, Training
from nas.full_training.weights import digest
from nas.training import checkpoints
from nas.training.determinism import reproducible

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT, WEIGHTS, RESULT = "checkpoint.pt", "weights.safetensors", "result.json"
_EVAL_BATCH = 250


@dataclass(frozen=True)
class Update:
    """An update is done: of how many, in which epoch, at which learning rate."""

    done: int
    updates: int
    epoch: int
    lr: float


@dataclass(frozen=True)
class Epoch:
    """An epoch is done. scores: on the validation split, without intervals."""

    epoch: int
    epochs: int
    train_loss: float
    scores: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A finished training. test: scores of the test split, looked at once. seconds: in all."""

    arch: str
    data: str
    task: str
    image_size: int
    updates: int
    seconds: float
    folder: str
    validation: dict[str, float]
    test: dict[str, Score]
    history: list[Epoch] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


Report = Callable[[Update | Epoch], None]


class Stopped(Exception):
    """A signal asked for an end; the checkpoint is of the last update."""


def train(
    subject: Subject,
    recipe: TrainingRecipe,
    folder: Path,
    *,
    how: How,
    team: Team,
    seed: int = 0,
    report: Report = lambda event: None,
) -> Trained:
    """Train, from where the folder's checkpoint is; a finished training is returned as it was.

    The folder receives checkpoint.pt, recipe.yaml, TensorBoard's events and, at the end,
    weights.safetensors (the averaged ones where the recipe averages) and result.json.
    Raises: StudyError for a folder that cannot be written, or holds another training; DataError;
        TrainingError; NanLoss; Stopped.
    """
    make_folder(folder)
    key = _key(subject, recipe, how, team, seed)
    if (finished := _finished(folder, key)) is not None:
        return finished
    threads = how.threads or torch.get_num_threads()
    with generators_kept(), reproducible(seed, threads, team.device):
        run = _Run(subject, recipe, folder, key, how=how, team=team, seed=seed, report=report)
        return run.to_the_end()


class _Run:
    def __init__(
        self,
        subject: Subject,
        recipe: TrainingRecipe,
        folder: Path,
        key: dict[str, Any],
        *,
        how: How,
        team: Team,
        seed: int,
        report: Report,
    ) -> None:
        self.subject, self.recipe, self.folder, self.key = subject, recipe, folder, key
        self.how, self.team, self.report = how, team, report
        self.train, self.val = subject.samples("train"), subject.samples("val")
        self.training = Training(subject, self.train, recipe, how=how, team=team, seed=seed)
        self.history: list[Epoch] = []
        self.stop: str | None = None
        self.started = self.saved = time.monotonic()
        state = checkpoints.load(folder, key, CHECKPOINT) if team.leads else None
        state = team.said_by_leader(state)
        if state is not None:
            self.training.restore(state["training"])
            self.history = [Epoch(**epoch) for epoch in state["history"]]
            self.started -= state["seconds"]

    def to_the_end(self) -> Trained:
        training, recipe = self.training, self.recipe
        if self.team.leads:
            text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
            _write(self.folder / "recipe.yaml", text)
        writer = self._writer()
        with on_signal(lambda name: setattr(self, "stop", name)):
            while training.epoch < recipe.epochs:
                self._epoch(training.epoch, writer)
        if writer is not None:
            writer.close()
        test = self.subject.samples("test")
        found = self.subject.scores(self._answers(training.scored, test), test)
        result = Trained(
            arch=self.subject.network.name,
            data=self.subject.data.name,
            task=self.subject.data.task,
            image_size=self.subject.side,
            updates=training.done,
            seconds=time.monotonic() - self.started,
            folder=str(self.folder),
            validation=self.history[-1].scores,
            test=found,
            history=self.history,
        )
        if self.team.leads:
            save_weights(self.folder / WEIGHTS, training.scored, self.subject, self.train)
            data = {"key": self.key, **asdict(result)}
            _write(self.folder / RESULT, json.dumps(data, indent=1) + "\n")
        return result

    def _epoch(self, epoch: int, writer: SummaryWriter | None) -> None:
        training, pin = self.training, self.team.device != "cpu"
        prepare = self.subject.prepare(self.train, self.recipe)
        batches = loaders.train_loader(
            training.order, prepare, epoch, training.step, self.how.workers, pin
        )
        updates = training.steps * self.recipe.epochs
        for images, labels, index in batches:
            training.update(images, labels, index)
            self.report(Update(training.done, updates, epoch, training.lr))
            if writer is not None:
                writer.add_scalar("lr", training.lr, training.done)
            if training.step == 0:
                break  # the epoch's checkpoint holds its scores
            if self.stop is not None:
                self._save()
                raise Stopped(self.stop)
            if time.monotonic() - self.saved >= self.how.save_every_s:
                self._save()
        training.check()
        loss = training.mean_loss()
        found = self.subject.scores(
            self._answers(training.scored, self.val), self.val, intervals=False
        )
        values = {name: score.value for name, score in found.items()}
        seconds = time.monotonic() - self.started
        done = Epoch(epoch + 1, self.recipe.epochs, loss, values, seconds)
        self.history.append(done)
        self._save()
        if writer is not None:
            writer.add_scalar("train/loss", loss, training.done)
            for name, value in values.items():
                writer.add_scalar(f"validation/{name}", value, training.done)
        self.report(done)

    def _answers(self, model: nn.Module, samples: Samples) -> scores.Answers:
        batches = loaders.eval_loader(
            samples,
            self.subject.prepare(samples, None),
            _EVAL_BATCH,
            self.team,
            self.how.workers,
        )
        return scores.answers(
            model,
            batches,
            self.subject.judge(samples),
            self.team,
            bf16=self.how.bf16,
            channels_last=self.how.channels_last,
        )

    def _save(self) -> None:
        self.saved = time.monotonic()
        if not self.team.leads:
            return
        state = {
            "training": self.training.state(),
            "history": [asdict(epoch) for epoch in self.history],
            "seconds": self.saved - self.started,
        }
        checkpoints.save(self.folder, self.key, state, CHECKPOINT)

    def _writer(self) -> SummaryWriter | None:
        if not self.team.leads:
            return None
        from torch.utils.tensorboard import SummaryWriter

        made: Any = SummaryWriter
        writer: SummaryWriter = made(str(self.folder), purge_step=self.training.done)
        return writer


def _key(
    subject: Subject, recipe: TrainingRecipe, how: How, team: Team, seed: int
) -> dict[str, Any]:
    """Return what must be equal where a training goes on."""
    data = {**asdict(subject.data), "data_dir": None, "download": None}
    return {
        "recipe": recipe.fingerprint(),
        "architecture": subject.network.identity,
        "data": data,
        "image_size": subject.side,
        "weights": None if subject.weights is None else digest(subject.weights),
        "seed": seed,
        "processes": team.world,
        "device": torch.device(team.device).type,
        **how.key(),
    }


def _finished(folder: Path, key: dict[str, Any]) -> Trained | None:
    """Return the result that a folder holds.

    Raises: TrainingError for one of another training.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    own = found.pop("key")
    if differing := [name for name in key if own.get(name) != key[name]]:
        raise TrainingError(
            f"{str(folder)!r} holds a finished training of other {', '.join(differing)}; choose "
            "another --out"
        )
    found["test"] = {name: Score(**score) for name, score in found["test"].items()}
    found["history"] = [Epoch(**epoch) for epoch in found["history"]]
    return Trained(**found)


def save_weights(path: Path, model: nn.Module, subject: Subject, samples: Samples) -> None:
    """Write a network's weights; the file's metadata says of which network and classes.

    Raises: TrainingError where it cannot be written.
    """
    network, labels = subject.network, samples.labels
    facts = {
        "format": "pt",
        "architecture": network.identity,
        "image_size": str(subject.side),
        "task": subject.data.task,
        "classes": json.dumps([list(label.classes) for label in labels]),
    }
    try:
        save_tensors(path, model.state_dict(), facts)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        os.replace(part, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"cannot write {str(path)!r}: {error}; free space and run the same command again"
    )
