"""What a study was asked to do: frozen, checked, and stored with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.errors import StudyError
from nas.study.budget import Budget, parse_budget
from nas.study.recipe import Recipe
from search_spaces import SearchSpace

DEFAULT_TRIALS = 12
WARM_STARTS = ("presets", "none")
PRUNERS = ("none", "asha")
# Objective -> whether more is better. The first objective is what training measures.
OBJECTIVES = {"top1": True, "flops": False, "params": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what is proposed and how it is scored.

    trials: candidates wanted, beside the baselines. timeout_s: no trial starts later than that
    after a driver's start. trial_timeout_s: of one trial. device: where proxies train.
    backend: of the scans. warm_start: "presets" trains the space's published designs first.
    pruner: "asha" ends candidates early that fall behind at the same epoch, "none" does not.
    source: the user's own space file, None for a shipped space.
    """

    space: SearchSpace
    budget: Budget
    recipe: Recipe
    device: str
    trials: int = DEFAULT_TRIALS
    seed: int = 0
    strategy: str = "evolution"
    objectives: tuple[str, ...] = ("top1",)
    image_size: int = 224
    backend: str = "auto"
    warm_start: str = "presets"
    pruner: str = "none"
    timeout_s: float | None = None
    trial_timeout_s: float | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise StudyError(f"trials {self.trials} must be 1 or more")
        for name in ("timeout_s", "trial_timeout_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise StudyError(f"{name} {value} must be positive")
        if self.warm_start not in WARM_STARTS:
            raise StudyError(
                f"warm start {self.warm_start!r} is unknown; use {' or '.join(WARM_STARTS)}"
            )
        if self.pruner not in PRUNERS:
            raise StudyError(f"pruner {self.pruner!r} is unknown; use {' or '.join(PRUNERS)}")
        check_objectives(self.objectives)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are stored; the space and the trials have their columns."""
        return {
            "budget": list(self.budget.text),
            "recipe": self.recipe.to_dict(),
            "device": self.device,
            "strategy": self.strategy,
            "objectives": list(self.objectives),
            "image_size": self.image_size,
            "backend": self.backend,
            "warm_start": self.warm_start,
            "pruner": self.pruner,
            "timeout_s": self.timeout_s,
            "trial_timeout_s": self.trial_timeout_s,
        }

    @classmethod
    def from_dict(
        cls,
        stored: dict[str, Any],
        *,
        space: SearchSpace,
        trials: int,
        seed: int,
        source: str | None = None,
    ) -> Settings:
        """Return the settings that `to_dict` gave `stored` for."""
        data = dict(stored)
        return cls(
            space=space,
            trials=trials,
            seed=seed,
            source=source,
            budget=parse_budget(data.pop("budget")),
            recipe=Recipe.model_validate(data.pop("recipe")),
            objectives=tuple(data.pop("objectives")),
            **data,
        )

    def difference(self, other: Settings) -> str | None:
        """Return the first thing in which two studies differ that makes them two, in words."""
        if (changed := self.space.diff(other.space)) is not None:
            return f"space {self.space.name!r} differs: {changed}"
        if self.recipe.fingerprint() != other.recipe.fingerprint():
            mine, theirs = self.recipe.to_dict(), other.recipe.to_dict()
            for key in mine:
                if mine[key] != theirs[key] and key not in ("data_dir", "download"):
                    return f"recipe {key} is {mine[key]}, you ask for {theirs[key]}"
        mine, theirs = self.to_dict() | {"seed": self.seed}, other.to_dict() | {"seed": other.seed}
        for key in (
            "budget",
            "seed",
            "strategy",
            "objectives",
            "image_size",
            "warm_start",
            "pruner",
        ):
            if mine[key] != theirs[key]:
                return f"{key.replace('_', ' ')} is {mine[key]}, you ask for {theirs[key]}"
        for key in ("warm_start", "pruner", "device", "backend"):
            # Numbers from different kernels differ in their last bits and do not compare.
            if mine[key] != theirs[key]:
                return f"{key} is {mine[key]}, you ask for {theirs[key]}"
        return None


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise StudyError unless the list is top1, alone or before costs to trade it for."""
    unknown = [o for o in objectives if o not in OBJECTIVES]
    if unknown:
        raise StudyError(f"unknown objective {unknown[0]!r} (known: {', '.join(OBJECTIVES)})")
    if not objectives or objectives[0] != "top1" or len(set(objectives)) != len(objectives):
        raise StudyError(
            f"objectives {','.join(objectives)!r} must begin with top1 and repeat nothing, "
            "e.g. top1,flops"
        )
