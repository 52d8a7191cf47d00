"""Where one driver runs a study, and for how long: nothing that says what the study is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from nas.errors import StudyError
from nas.study.recipe import Recipe
from nas.study.settings import first_mistake


class Place(BaseModel):
    """What a user says of a run of a driver. A study remembers the first one's words.

    device: where proxies train. backend: of the scans, as asked for. data_dir: where a timm data
    set lies; the recipe's own unless stated. timeout_s: no trial starts later than that after
    the driver's start. trial_timeout_s: of one trial. stall_s: how long a training may make no
    batch; by its own pace unless stated. patience: the search is over when so many candidates in a
    row have moved its best score by no more than noise does. checkpoints: folder for them, one
    that all machines share on a cluster; beside the database unless stated.
    max_checkpoint_gb: what they may take together; a trial beyond it keeps none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "cpu"
    backend: str = "auto"
    data_dir: str | None = None
    timeout_s: PositiveFloat | None = None
    trial_timeout_s: PositiveFloat | None = None
    stall_s: PositiveFloat | None = None
    patience: PositiveInt | None = None
    checkpoints: Path | None = None
    max_checkpoint_gb: NonNegativeFloat | None = None

    @classmethod
    def of(cls, **stated: Any) -> Place:
        """Return a place; what is None is not stated.

        Raises: StudyError that names the first field that is unknown or wrong.
        """
        try:
            return cls(**{key: value for key, value in stated.items() if value is not None})
        except ValidationError as error:
            raise StudyError(f"where the study runs: {first_mistake(error)}; change it") from None

    def over(self, earlier: Place) -> Place:
        """Return this place, with what it does not state as `earlier` has it."""
        stated = {key: getattr(self, key) for key in self.model_fields_set}
        return earlier.model_copy(update=stated)

    def to_dict(self) -> dict[str, Any]:
        """Return what a study remembers; folders of checkpoints are stated anew each time."""
        kept = self.model_dump(mode="json", exclude_none=True)
        return {k: v for k, v in kept.items() if k not in ("checkpoints", "max_checkpoint_gb")}

    def difference(self, other: Place) -> str | None:
        """Return in what `other` states another hardware: its scores would not compare."""
        for key in ("device", "backend"):
            mine, theirs = getattr(self, key), getattr(other, key)
            if key in other.model_fields_set and mine != theirs:
                return f"{key} is {mine}, you ask for {theirs}"
        return None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a study's recipe as it is trained here."""
        if self.data_dir is None:
            return recipe
        return recipe.model_copy(update={"data_dir": self.data_dir})
