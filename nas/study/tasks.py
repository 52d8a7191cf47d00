"""What a recipe asks of a network: tasks, each on a data set, and how each is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

Task = Literal["classify", "dense", "reconstruct"]
MaskShape = Literal["tokens", "blocks", "rows", "quadrants"]
Score = Literal["top1", "likelihood", "miou", "skill"]

# What each task can be scored by, its default first.
SCORES: dict[Task, tuple[Score, ...]] = {
    "classify": ("top1", "likelihood", "skill"),
    "dense": ("skill", "top1", "miou", "likelihood"),
    "reconstruct": ("skill",),
}
# The generated data set of each task.
DATASETS: dict[Task, str] = {
    "classify": "scenes",
    "dense": "relations",
    "reconstruct": "photographs",
}
MASK_BLOCK = 4  # tokens on a side


class Metric(NamedTuple):
    """How a score is called and written.

    unit: "percent" of a share, or "plain" as it is.
    """

    metric: str
    unit: Literal["percent", "plain"]


TOP1 = Metric("top-1", "percent")
_METRICS: dict[str, Metric] = {
    "top1": TOP1,
    "likelihood": Metric("likelihood", "plain"),
    "miou": Metric("mean IoU", "percent"),
    "skill": Metric("skill", "plain"),
}
_R2 = Metric("skill (R²)", "plain")


def metric_of(recipe: Mapping[str, Any]) -> Metric:
    """Return what the scores of a recipe, as it is stored, are called."""
    if recipe.get("evaluate"):
        return Metric("score", "plain")
    if recipe.get("task") == "reconstruct" and not recipe.get("also"):
        return _R2
    return _METRICS[recipe.get("score", "top1")]


class Part(BaseModel):
    """One task on one data set.

    task: "classify" an image; "dense", a label per token; "reconstruct" the colors of masked
        tokens, no label needed.
    dataset: `list_datasets` names those that need no files; or `folder:PATH`, or a timm name.
        Default: that of the task.
    difficulty: of `scenes`, 1 (easy) to 4. density: of `relations`, the share of marked tokens.
    mask_share: of the tokens that `reconstruct` hides. mask_shape: what is hidden as one: single
        "tokens", "blocks" of 4 x 4, whole "rows", or "quadrants" of the map.
    weight: of the task among several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    task: Task = "classify"
    dataset: str = DATASETS["classify"]
    difficulty: Annotated[int, Field(ge=1, le=4)] = 2
    density: float = 0.12
    mask_share: float = 0.95
    mask_shape: MaskShape = "tokens"
    weight: PositiveFloat = 1.0

    @model_validator(mode="before")
    @classmethod
    def _usual_dataset(cls, data: Any) -> Any:
        if isinstance(data, dict) and "dataset" not in data and data.get("task") in DATASETS:
            return {**data, "dataset": DATASETS[data["task"]]}
        return data

    @field_validator("dataset")
    @classmethod
    def _named(cls, name: str) -> str:
        if not name or name == "folder:":
            raise ValueError(f"dataset {name!r} names nothing; use e.g. folder:PATH")
        return name

    @field_validator("mask_share")
    @classmethod
    def _some_hidden(cls, share: float) -> float:
        if not 0 < share < 1:
            raise ValueError(
                f"mask_share {share:g} must lie between 0 and 1: some tokens are seen and some "
                "hidden; use e.g. 0.75"
            )
        return share

    @field_validator("density")
    @classmethod
    def _some_marked(cls, share: float) -> float:
        if not 0 < share <= 0.5:
            raise ValueError(
                f"density {share:g} must lie above 0 and at most at 0.5: marks on a sparse grid; "
                "use e.g. 0.12"
            )
        return share

    def mask_units(self, grid: int) -> tuple[int, int]:
        """Return how many units, down and across, a grid has that are hidden as one."""
        blocks = -(-grid // MASK_BLOCK)
        return {
            "tokens": (grid, grid),
            "blocks": (blocks, blocks),
            "rows": (grid, 1),
            "quadrants": (2, 2),
        }[self.mask_shape]
