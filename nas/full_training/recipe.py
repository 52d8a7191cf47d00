"""Recipes of full trainings: frozen data, named by the paper that they follow."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from backbones import yaml_files
from kernels.errors import nearest
from nas.errors import TrainingError

RECIPES = Path(__file__).parent / "recipes"
Share = Annotated[float, Field(ge=0, le=1)]


class TrainingRecipe(BaseModel):
    """How a network is trained: everything but the network, the data and the machine.

    source: the paper or repository that it is from.
    epochs: passes over the training images.
    image_size: side in pixels; null takes the architecture's own.
    batch_size: images of an update, over all processes and passes.
    optimizer: a name that timm knows. betas: null for its own.
    lr: peak, of an update of lr_batch images: it grows in proportion to batch_size. lr_batch: see
        lr. min_lr: at the end of the cosine, a share of the peak. warmup_epochs: of a linear rise.
        warmup_lr: at its start, a share of the peak.
    weight_decay: not of norms, biases, positions and a scan's dynamics. layer_decay: factor of the
        learning rate from each layer to the one below, null for none. clip_grad: gradient norm,
        null for none.
    drop_path: of the last block; null as the architecture states. drop_rate: before the classifier.
    label_smoothing: share of a label that is spread over all classes.
    mixup: alpha of the Beta that images are mixed by, 0 for none. cutmix: the same of pasted boxes.
    scale: of the random crop's area. ratio: of its sides.
    hflip: chance of a mirrored image. color_jitter: of brightness, contrast and saturation.
        auto_augment: timm's name of a policy, null for none. erase: chance of an erased rectangle.
    repeats: of an image within an epoch, each time augmented anew (DeiT).
    ema: decay of the averaged weights, null for none; it rises as in timm's ModelEmaV3, so that a
        short training averages what it has learned.
    token: pixels on a side for which one label is predicted (dense).
    val_share: of the training images of files, set aside and looked at after each epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    source: str = "own"
    epochs: PositiveInt = 300
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    batch_size: Annotated[int, Field(ge=2)] = 1024

    optimizer: str = "adamw"
    lr: PositiveFloat = 1e-3
    lr_batch: PositiveInt = 1024
    min_lr: Share = 0.01
    warmup_epochs: Annotated[int, Field(ge=0)] = 20
    warmup_lr: Share = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    betas: tuple[float, float] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip_grad: PositiveFloat | None = None

    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixup: Annotated[float, Field(ge=0)] = 0.8
    cutmix: Annotated[float, Field(ge=0)] = 1.0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: Share = 0.5
    color_jitter: Annotated[float, Field(ge=0)] = 0.4
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    erase: Share = 0.25
    repeats: PositiveInt = 1
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None

    token: PositiveInt = 4
    val_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.05

    @model_validator(mode="after")
    def _consistent(self) -> TrainingRecipe:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} of {self.epochs} epochs leave none to train; "
                f"use {max(0, self.epochs // 10)}"
            )
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} [{low:g}, {high:g}] must rise from above 0")
        return self

    @cached_property
    def peak_lr(self) -> float:
        """The learning rate at the end of the warm-up."""
        return self.lr * self.batch_size / self.lr_batch

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, so that labels are shares of classes."""
        return self.mixup > 0 or self.cutmix > 0

    def changed(self, **stated: Any) -> TrainingRecipe:
        """Return the recipe with fields replaced; None is not stated.

        Where fewer epochs are stated than the warm-up has, the warm-up shrinks to a tenth.
        Raises: TrainingError for a value that a field refuses.
        """
        update = {key: value for key, value in stated.items() if value is not None}
        if not update:
            return self
        if "epochs" in update and self.warmup_epochs >= update["epochs"]:
            update.setdefault("warmup_epochs", update["epochs"] // 10)
        document = yaml_files.Document({**self.to_dict(), **update}, "options")
        return yaml_files.validate(TrainingRecipe, document, TrainingError)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain data."""
        return self.model_dump(mode="json", by_alias=True)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all that decides a training."""
        data = {k: v for k, v in self.to_dict().items() if k != "source"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def list_recipes() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str | Path) -> TrainingRecipe:
    """Return a shipped recipe by name, or one from a YAML file.

    Raises: TrainingError for a name that is neither, with the nearest, and for a bad file, with
        file, line and the nearest key.
    """
    path = RECIPES / f"{name}.yaml"
    if str(name) not in list_recipes():
        path = Path(name)
        if not path.is_file():
            hint = nearest(name, list_recipes(), f"known: {', '.join(list_recipes())};")
            raise TrainingError(f"recipe {str(name)!r} is unknown; {hint} Or a YAML file")
    document = yaml_files.read(path, TrainingError)
    return yaml_files.validate(TrainingRecipe, document, TrainingError)
