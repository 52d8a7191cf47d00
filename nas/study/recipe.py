"""Recipes: how a candidate is trained cheaply, as frozen data recorded with each trial.

A recipe fixes everything that decides a score besides the architecture and the seed: the data,
how the network is scaled down, the schedule, the number of threads and the score itself. What
was measured to choose the defaults is in docs/proxies.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from backbones import yaml_files
from nas.errors import DataError
from nas.study.tasks import DATASETS, SCORES, Part, Score

# Fields that recipes of the first version lack: at their defaults they change nothing.
_LATER = ("evaluate", "task", "density", "mask_share", "mask_shape", "weight", "also")


class Recipe(Part):
    """How a proxy score is made: a task on a data set (see `Part`), and all that follows.

    also: further tasks, trained by the same network in the same run: at every update one batch of
        each, losses and scores averaged by weight.
    data_dir: where a timm dataset lies. download: whether it may be fetched.
    data_seed: fixes the generated images and the split; trials differ in their own seed only.
    train_size, val_size: images of each task, at most; null takes all that there are.
    image_size: side in pixels. stem_stride: pixels per token side in the first stage, so that
        the first grid is image_size / stem_stride on a side.
    flops_ratio: operations of the network that is trained over those of the candidate at 224
        px: widths are scaled together, in multiples of width_step, until they meet it; null
        trains the candidate as it is, unscaled. Equal
        candidates stay equal, and each takes about as long. depth_ratio: of every depth,
        rounded up; two blocks stay two.
    epochs: passes over the training images. optimizer: as timm names it. schedule: of the
        learning rate, one-cycle. weight_decay: decoupled, of weights alone.
    label_smoothing: share of the target that goes to all classes. augment: "flip" mirrors at
        random.
    width_step: widths are multiples of it.
    batch_size: images of each task per update. accumulate: passes per update, each of batch_size
        / accumulate images (raised when memory runs out).
    lr: peak of the one-cycle schedule. warmup: share of the updates before the peak.
    clip_grad: gradient norm, null for none. ema: decay of the averaged weights that are
        evaluated, null evaluates the weights themselves.
    precision: "fp32", or "bf16" autocast. threads: of the CPU; part of the recipe because sums
        are split by thread.
    score: on the validation split, higher is better. "top1", the share of right answers (per token
        in dense); "likelihood", exp of minus the mean validation loss: the geometric mean of the
        probability given to the right class; "miou", mean intersection over union of the classes
        (dense); "skill": 0 is the best constant answer, 1 perfect (of reconstruct, R2 on masked
        tokens). Default: top1 to classify, else skill; of several tasks, their mean skill.
    evaluate: module:function of a user's own evaluation, which is asked in place of all this (see
        `nas.training.own`); null trains.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    also: tuple[Part, ...] = ()
    data_dir: str | None = None
    download: bool = False
    data_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    train_size: PositiveInt | None = 5000
    val_size: PositiveInt | None = 2000

    image_size: Annotated[int, Field(ge=8, le=1024)] = 48
    stem_stride: Literal[1, 2, 4] = 4
    flops_ratio: Annotated[float, Field(gt=0, le=100)] | None = 1.2e-3
    width_step: PositiveInt = 4
    depth_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5

    epochs: PositiveInt = 3
    batch_size: Annotated[int, Field(ge=2)] = 64
    accumulate: PositiveInt = 1
    optimizer: str = "adamw"
    lr: PositiveFloat = 3e-3
    schedule: Literal["onecycle"] = "onecycle"
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_grad: PositiveFloat | None = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    augment: Literal["none", "flip"] = "none"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: PositiveInt = 2
    score: Score = "top1"
    evaluate: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_score(cls, data: Any) -> Any:
        if (
            isinstance(data, dict)
            and "score" not in data
            and data.get("task", "classify") in SCORES
        ):
            usual = SCORES[data.get("task", "classify")][0]
            return {**data, "score": "skill" if data.get("also") else usual}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.image_size // self.stem_stride < 2:
            raise ValueError(
                f"image_size {self.image_size} at stem_stride {self.stem_stride} leaves a grid of "
                f"{self.image_size // self.stem_stride}; use a larger image or a smaller stride"
            )
        if self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"batch_size {self.batch_size} in {self.accumulate} passes leaves fewer than 2 "
                "images a pass; lower accumulate"
            )
        known = ("skill",) if self.also else SCORES[self.task]
        if self.score not in known:
            what = "several tasks are" if self.also else f"task {self.task} is"
            raise ValueError(f"score {self.score}: {what} scored by {' or '.join(known)}")
        if [part.task for part in self.parts].count("classify") > 1:
            raise ValueError("two tasks classify, and a network has one classifier; keep one")
        self._check_tokens()
        return self

    def _check_tokens(self) -> None:
        """Raise ValueError where tokens have no whole pixels, or a mask no two units."""
        if {part.task for part in self.parts} != {
            "classify"
        } and self.image_size % self.stem_stride:
            down = self.grid * self.stem_stride
            raise ValueError(
                f"image_size {self.image_size} is no multiple of stem_stride {self.stem_stride}, "
                f"and tokens have labels; use {down} or {down + self.stem_stride}"
            )
        for part in self.parts:
            if part.task == "reconstruct" and math.prod(part.mask_units(self.grid)) < 2:
                raise ValueError(
                    f"mask_shape {part.mask_shape} hides all of a grid of {self.grid}; use tokens "
                    "or a larger image_size"
                )

    @property
    def grid(self) -> int:
        """Tokens on a side of the first stage's map."""
        return self.image_size // self.stem_stride

    @property
    def parts(self) -> tuple[Part, ...]:
        """All tasks, the recipe's own first."""
        own = {name: getattr(self, name) for name in Part.model_fields}
        return (Part.model_construct(**own), *self.also)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from YAML; DataError names file, line, field and remedy."""
        return yaml_files.validate(cls, yaml_files.read(path, DataError), DataError)

    @classmethod
    def from_yaml(cls, text: str, source: str = "inline recipe") -> Recipe:
        """Read a recipe from YAML text; errors as in `load`."""
        return yaml_files.validate(cls, yaml_files.parse(text, source, DataError), DataError)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain data: what is recorded with a trial."""
        return {"schema": 1, **self.model_dump(mode="json", by_alias=True)}

    def to_yaml(self) -> str:
        """Return YAML text with every field; loading it gives an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=100)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what is measured and how.

        Left out: where files lie, and the number of threads, which decides rounding alone; and
        what recipes of before had no field for, while it is not used.
        """
        elsewhere = ("data_dir", "download", "threads")
        unused = [k for k in _LATER if getattr(self, k) == type(self).model_fields[k].default]
        data = {k: v for k, v in self.to_dict().items() if k not in (*elsewhere, *unused)}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def score_of(self, metrics: Mapping[str, Any]) -> float:
        """Return the score of an epoch by its stored metrics.

        Rows of before scores were stored have top-1 and loss, 0 where that is not finite.
        """
        if (score := metrics.get("score")) is not None:
            return float(score)
        if self.score == "top1":
            return float(metrics["val_top1"] or 0.0)
        loss = metrics["val_loss"]
        return 0.0 if loss is None or not math.isfinite(loss) else math.exp(-loss)

    def half_batch(self) -> Recipe:
        """Return the recipe with half the images a pass and the same update: for lack of memory.

        Raises: DataError where a pass cannot be halved again.
        """
        if self.batch_size // (2 * self.accumulate) < 2:
            raise DataError(
                f"batch_size {self.batch_size} cannot be cut below {self.batch_size} / "
                f"{self.accumulate} images a pass; lower image_size or flops_ratio"
            )
        return self.model_copy(update={"accumulate": 2 * self.accumulate})

    def halved(self, times: int) -> Recipe:
        """Return the recipe of a run whose batch was cut so often, as `half_batch` does."""
        recipe = self
        for _ in range(times):
            recipe = recipe.half_batch()
        return recipe


# To classify, minutes for a search on two CPU cores; chosen by measurement, see docs/proxies.md.
CPU_RECIPE = Recipe()

# What a CPU trains unless data is named: of fourteen recipes for about as long, the one under
# which every family learns and none leads by more than published. What it sees: docs/proxies.md.
CPU_DENSE_RECIPE = Recipe(
    task="reconstruct",
    image_size=64,
    train_size=1000,
    val_size=500,
    epochs=4,
    batch_size=8,
    lr=5e-3,
)

# A GPU takes the design's own depth on a 16 x 16 grid, about half its width, and more images.
GPU_RECIPE = Recipe(
    train_size=20_000,
    val_size=5_000,
    image_size=64,
    stem_stride=4,
    depth_ratio=1.0,
    flops_ratio=0.02,
    width_step=8,
    epochs=10,
    batch_size=128,
    precision="bf16",
)

# Photographs need more pixels a token than digits: as many as published backbones have.
_PHOTO_STRIDE: Literal[4] = 4


def default_recipe(device: str, dataset: str | None = None, epochs: int | None = None) -> Recipe:
    """Return the default recipe of a device ("cpu", "cuda", "cuda:1", ...).

    dataset, epochs: replace the recipe's own. On a CPU no dataset, or `photographs`, is masked
    photographs, and any other to classify; the generated set of another task brings that task.
    Photographs (folders, timm datasets) are taken with 4 x 4 pixels a token, on the same grid of
    tokens, and mirrored at random.
    Raises: DataError for epochs below 1.
    """
    on_cpu = str(device).partition(":")[0] == "cpu"
    masked = on_cpu and dataset in (None, CPU_DENSE_RECIPE.dataset)
    recipe = CPU_DENSE_RECIPE if masked else CPU_RECIPE if on_cpu else GPU_RECIPE
    update: dict[str, Any] = {}
    if dataset is not None:
        update["dataset"] = dataset
        for task, own in DATASETS.items():
            if dataset == own:
                update |= {"task": task, "score": SCORES[task][0]}
        if ":" in dataset or "/" in dataset:
            grid = recipe.image_size // recipe.stem_stride
            update |= {"image_size": _PHOTO_STRIDE * grid, "stem_stride": _PHOTO_STRIDE}
            update["augment"] = "flip"
    if epochs is not None:
        if epochs < 1:
            raise DataError(f"epochs {epochs} must be 1 or more; give e.g. --epochs 3")
        update["epochs"] = epochs
    return Recipe.model_validate(recipe.model_dump() | update)
