"""From what a user wrote to the settings of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.planning.strategies import check_strategy
from nas.study.budget import Budget
from nas.study.long_sequences import USUAL_SIDE, with_tokens
from nas.study.place import Place
from nas.study.recipe import Recipe, default_recipe
from nas.study.settings import Settings
from search_spaces import SearchSpace, list_spaces


def search_settings(
    *,
    space: str | Path,
    budget: Budget,
    trials: int | None = None,
    strategy: str = "evolution",
    data: str | None = None,
    recipe_path: Path | None = None,
    epochs: int | None = None,
    place: Place | None = None,
    **fields: Any,
) -> Settings:
    """Make settings from what a user wrote; nothing is trained, no database is touched.

    place: where the study will be trained, which its default recipe depends on; this machine's
    best device by default. fields: of the settings, as they are.
    Raises: SpaceError, DataError, KernelError or StudyError for the first thing that is wrong.
    """
    check_strategy(strategy)
    loaded = SearchSpace.load(space)
    place = place or this_machine()
    if recipe_path is None:
        recipe = default_recipe(place.device, data, epochs)
        recipe = with_tokens(recipe, fields.get("image_size", USUAL_SIDE))
    else:
        recipe = Recipe.load(recipe_path)
        update = {"dataset": data, "epochs": epochs}
        recipe = Recipe.model_validate(
            recipe.model_dump() | {k: v for k, v in update.items() if v is not None}
        )
    _check_backend(place, recipe)
    if trials is not None:
        fields["trials"] = trials
    source = str(Path(space).absolute()) if str(space) not in list_spaces() else None
    return Settings.of(
        space=loaded,
        budget=budget,
        recipe=recipe,
        strategy=strategy,
        space_source=source,
        **fields,
    )


def this_machine(device: str = "auto", **stated: Any) -> Place:
    """Return a place on this machine; auto is CUDA where there is a device.

    stated: fields of the place; None is not stated.
    Raises: StudyError for an unknown or missing device, or a limit that is none.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise StudyError(f"unknown device {device!r}; use auto, cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise StudyError(f"device {device!r}: no CUDA device on this machine; use cpu")
    return Place.of(device=device, **stated)


def _check_backend(place: Place, recipe: Recipe) -> None:
    import torch

    from kernels import resolve_backend

    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    resolve_backend(torch.device(place.device), dtype, place.backend)
