"""From what a user wrote to the settings of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.errors import StudyError
from nas.planning.strategies import check_strategy
from nas.study.budget import Budget
from nas.study.recipe import Recipe, default_recipe
from nas.study.settings import DEFAULT_TRIALS, Settings
from search_spaces import SearchSpace, list_spaces


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
