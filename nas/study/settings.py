"""What a study was asked to do: frozen, checked, and stored with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.planning.pruning import PRUNERS
from nas.planning.strategies import check_strategy
from nas.study.budget import Budget, parse_budget
from nas.study.recipe import Recipe, default_recipe
from search_spaces import SearchSpace, list_spaces

DEFAULT_TRIALS = 12
WARM_STARTS = ("presets", "none")
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
        check_strategy(self.strategy)
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


def search_settings(
    *,
    space: str | Path,
    budget: Budget,
    trials: int = DEFAULT_TRIALS,
    timeout_s: float | None = None,
    trial_timeout_s: float | None = None,
    strategy: str = "evolution",
    objectives: Sequence[str] = ("top1",),
    data: str | None = None,
    data_dir: str | None = None,
    recipe_path: Path | None = None,
    epochs: int | None = None,
    image_size: int = 224,
    device: str = "auto",
    backend: str = "auto",
    warm_start: str = "presets",
    pruner: str = "none",
    seed: int = 0,
) -> Settings:
    """Make settings from what a user wrote; nothing is trained, no database is touched.

    Raises: SpaceError, DataError, KernelError or StudyError for the first thing that is wrong.
    """
    check_strategy(strategy)
    loaded = SearchSpace.load(space)
    device = _resolve_device(device)
    if recipe_path is None:
        recipe = default_recipe(device, data, epochs)
    else:
        recipe = Recipe.load(recipe_path)
        update = {"dataset": data, "epochs": epochs}
        recipe = Recipe.model_validate(
            recipe.model_dump() | {k: v for k, v in update.items() if v is not None}
        )
    if data_dir is not None:
        recipe = recipe.model_copy(update={"data_dir": data_dir})
    _check_backend(backend, device, recipe)
    return Settings(
        space=loaded,
        budget=budget,
        recipe=recipe,
        device=device,
        trials=trials,
        seed=seed,
        strategy=strategy,
        objectives=tuple(objectives),
        image_size=image_size,
        backend=backend,
        warm_start=warm_start,
        pruner=pruner,
        timeout_s=timeout_s,
        trial_timeout_s=trial_timeout_s,
        source=str(Path(space).absolute()) if str(space) not in list_spaces() else None,
    )


def _resolve_device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise StudyError(f"unknown device {device!r}; use auto, cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise StudyError(f"device {device!r}: no CUDA device on this machine; use cpu")
    return device


def _check_backend(backend: str, device: str, recipe: Recipe) -> None:
    import torch

    from kernels import resolve_backend

    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    resolve_backend(torch.device(device), dtype, backend)
