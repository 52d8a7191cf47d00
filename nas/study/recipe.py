"""Recipes: how a candidate is trained cheaply, as frozen data recorded with each trial.

A recipe fixes everything that decides a score besides the architecture and the seed: the data,
how the network is scaled down, the schedule, the number of threads and the score itself. What
was measured to choose the defaults is in docs/proxies.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from backbones import yaml_files
from nas.errors import DataError

Difficulty = Annotated[int, Field(ge=1, le=4)]


class Recipe(BaseModel):
    """How a proxy score is made.

    dataset: `digits`, `scenes`, `patterns`, `folder:PATH` or a timm dataset name.
    data_dir: where a timm dataset lies. download: whether it may be fetched.
    data_seed: fixes the generated images and the split; trials differ in their own seed only.
    difficulty: of `scenes` and `patterns`, 1 (easy) to 4.
    train_size, val_size: images, at most; null takes all that there are.
    image_size: side in pixels. stem_stride: pixels per token side in the first stage, so that
        the first grid is image_size / stem_stride on a side.
    flops_ratio: operations of the network that is trained over those of the candidate at 224
        px: widths are scaled together, in multiples of width_step, until they meet it. Equal
        candidates stay equal, and each takes about as long. depth_ratio: of every depth,
        rounded up; two blocks stay two.
    batch_size: images per update. accumulate: passes per update, each of batch_size / accumulate
        images (raised when memory runs out).
    lr: peak of the one-cycle schedule. warmup: share of the updates before the peak.
    clip_grad: gradient norm, null for none. ema: decay of the averaged weights that are
        evaluated, null evaluates the weights themselves.
    precision: "fp32", or "bf16" autocast. threads: of the CPU; part of the recipe because sums
        are split by thread.
    score: "top1", or "likelihood", exp of minus the mean validation loss: the geometric mean of
        the probability given to the right class. Both on the validation split, higher is better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    dataset: str = "scenes"
    data_dir: str | None = None
    download: bool = False
    data_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    difficulty: Difficulty = 2
    train_size: PositiveInt | None = 5000
    val_size: PositiveInt | None = 2000

    image_size: Annotated[int, Field(ge=8, le=1024)] = 48
    stem_stride: Literal[1, 2, 4] = 4
    flops_ratio: Annotated[float, Field(gt=0, le=100)] = 1.2e-3
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
    score: Literal["top1", "likelihood"] = "top1"

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
        if not self.dataset or self.dataset == "folder:":
            raise ValueError(f"dataset {self.dataset!r} names nothing; use e.g. folder:PATH")
        return self

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
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """Return YAML text with every field; loading it gives an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=100)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what is measured and how.

        Left out: where files lie, and the number of threads, which decides rounding alone.
        """
        elsewhere = ("data_dir", "download", "threads")
        data = {k: v for k, v in self.to_dict().items() if k not in elsewhere}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def score_of(self, top1: float, loss: float | None) -> float:
        """Return the score of a validation split; 0 where the loss is not finite."""
        if self.score == "top1":
            return top1
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


# Minutes for a search on two CPU cores; chosen by measurement, see docs/proxies.md.
CPU_RECIPE = Recipe()

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

    dataset, epochs: replace the recipe's own. Photographs (folders, timm datasets) are taken
    with 4 x 4 pixels a token, on the same grid of tokens, and mirrored at random.
    Raises: DataError for epochs below 1.
    """
    recipe = CPU_RECIPE if str(device).partition(":")[0] == "cpu" else GPU_RECIPE
    update: dict[str, Any] = {}
    if dataset is not None:
        update["dataset"] = dataset
        if ":" in dataset or "/" in dataset:
            grid = recipe.image_size // recipe.stem_stride
            update |= {"image_size": _PHOTO_STRIDE * grid, "stem_stride": _PHOTO_STRIDE}
            update["augment"] = "flip"
    if epochs is not None:
        if epochs < 1:
            raise DataError(f"epochs {epochs} must be 1 or more; give e.g. --epochs 3")
        update["epochs"] = epochs
    return Recipe.model_validate(recipe.model_dump() | update)
