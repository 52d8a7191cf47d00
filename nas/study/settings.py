"""What a study was asked to do: frozen, checked, and stored with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)

from backbones.image_size import PixelSize, shown
from nas.errors import StudyError
from nas.study.budget import Budget
from nas.study.latency import LatencyDevice
from nas.study.recipe import Recipe
from search_spaces import SearchSpace
from search_spaces.fit import MEASURED

DEFAULT_TRIALS = 12
# The best of those in the table of docs/strategies.md.
DEFAULT_STRATEGY = "surrogate"
# Objective -> whether more is better. The first objective is what training measures.
OBJECTIVES = {"top1": True, "flops": False, "params": False, "latency": False, "memory": False}
_SEED_BITS = 31
# What has a column of its own beside the stored settings.
_COLUMNS = {"space", "trials", "seed"}
# What a study keeps unless another one is asked for: the defaults were others once.
_KEPT = {"seeds", "strategy"}
_NOT_COMPARED = {"space", "recipe", "trials", "space_source"}


class Settings(BaseModel):
    """Everything that decides what is proposed and what a score of it means.

    trials: candidates wanted, beside the baselines, 0 for a study that only compares; one that is
    continued keeps its number unless this is stated. image_size: at which cost is counted.
    warm_start: "presets" trains the space's published designs first. pruner: "asha" ends
    candidates early that fall behind at the same epoch, "none" does not. seeds: "shared" trains all
    designs with the same seeds, which takes what a seed does out of their differences; "per design"
    is what studies had before that.
    space_source: the user's own space file, None for a shipped space. latency: on what it is
    measured, where it is a bound or an objective. baselines: networks of timm (timm:NAME) that
    train beside the published designs, each at its own cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    space: SearchSpace
    budget: Budget
    recipe: Recipe
    trials: NonNegativeInt = DEFAULT_TRIALS
    seed: Annotated[int, Field(ge=0)] = 0
    strategy: str = DEFAULT_STRATEGY
    objectives: tuple[str, ...] = ("top1",)
    image_size: PixelSize = 224
    warm_start: Literal["presets", "none"] = "presets"
    pruner: Literal["asha", "none"] = "none"
    seeds: Literal["shared", "per design"] = "shared"
    space_source: str | None = None
    latency: LatencyDevice | None = None
    baselines: tuple[str, ...] = ()

    @field_validator("objectives")
    @classmethod
    def _in_order(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [o for o in objectives if o not in OBJECTIVES]
        if unknown:
            raise ValueError(f"unknown objective {unknown[0]!r} (known: {', '.join(OBJECTIVES)})")
        if not objectives or objectives[0] != "top1" or len(set(objectives)) != len(objectives):
            raise ValueError(
                f"objectives {','.join(objectives)!r} must begin with top1 and repeat nothing, "
                "e.g. top1,flops"
            )
        return objectives

    @model_validator(mode="after")
    def _has_a_device(self) -> Settings:
        if ("latency" in self.measures) != (self.latency is not None):
            raise ValueError(
                "a latency, as budget or objective, needs the device that it is of, and a device "
                "a latency"
            )
        return self

    @model_validator(mode="after")
    def _trains_them(self) -> Settings:
        if self.baselines and self.recipe.evaluate is not None:
            raise ValueError(
                f"baseline {self.baselines[0]!r} is no config that an evaluation of your own could "
                "read; leave it out, or score by a recipe"
            )
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured of each design: latency, memory, both or nothing."""
        asked = {*(band.metric for band in self.budget.bands), *self.objectives}
        return tuple(name for name in MEASURED if name in asked)

    @classmethod
    def of(cls, *, remedy: str = "change it", **fields: Any) -> Settings:
        """Return settings.

        Raises: StudyError that names the first field that is unknown, missing or wrong.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise StudyError(f"study settings: {first_mistake(error)}; {remedy}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are stored, without what has columns of its own."""
        return self.model_dump(mode="json", by_alias=True, exclude=_COLUMNS)

    def difference(self, other: Settings) -> str | None:
        """Return the first thing in which two studies differ that makes them two, in words."""
        if (changed := self.space.diff(other.space)) is not None:
            return f"space {self.space.name!r} differs: {changed}"
        if self.recipe.fingerprint() != other.recipe.fingerprint():
            mine, theirs = self.recipe.to_dict(), other.recipe.to_dict()
            for key in mine:
                if mine[key] != theirs[key] and key not in ("data_dir", "download"):
                    return f"recipe {key} is {mine[key]}, you ask for {theirs[key]}"
        for key in type(self).model_fields:
            if key in _NOT_COMPARED or (key in _KEPT and key not in other.model_fields_set):
                continue
            if getattr(self, key) != getattr(other, key):
                shown = [_shown(getattr(made, key)) for made in (self, other)]
                return f"{key.replace('_', ' ')} is {shown[0]}, you ask for {shown[1]}"
        return None

    def training_seed(self, fingerprint: str, index: int = 0) -> int:
        """Return the seed a design is trained with, the `index`-th of the study's seeds.

        The same whenever and wherever it runs; below 2**31.
        """
        if self.seeds == "shared":
            text = f"{self.seed}/seed/{index}"
        else:
            text = f"{self.seed}/{fingerprint}" + (f"/{index}" if index else "")
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake that pydantic found, in words: field, value, rule."""
    # An unknown field explains the missing one that it was meant to be.
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"unknown field {name!r}"
    if found["type"] == "missing":
        return f"field {name!r} is missing"
    if not name:  # of several fields together
        return str(found["msg"]).removeprefix("Value error, ")
    return f"{name} {found['input']!r}: {found['msg'].removeprefix('Value error, ')}"


def _shown(value: Any) -> Any:
    if isinstance(value, Budget):
        return list(value.text)
    if isinstance(value, LatencyDevice):
        return f"of {value.name}, batch {value.batch}, {value.precision}"
    if isinstance(value, tuple) and all(isinstance(side, int) for side in value):
        return shown(value)
    return value


def stored_settings(
    stored: Mapping[str, Any], *, study: str, space: SearchSpace, trials: int, seed: int
) -> Settings:
    """Return the settings that `to_dict` gave `stored` for.

    Raises: StudyError that names the study and the field that this version cannot read.
    """
    remedy = f"study {study!r} was stored by another version or changed by hand; restore a backup"
    return Settings.of(remedy=remedy, **stored, space=space, trials=trials, seed=seed)
