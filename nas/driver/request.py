"""From what a user wrote to the settings of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from backbones.image_size import ImageSize
from backbones.outside import TimmConfig
from nas.errors import StudyError
from nas.planning.strategies import check_strategy
from nas.study.budget import Budget
from nas.study.latency import LatencyDevice
from nas.study.long_sequences import USUAL_SIDE, with_tokens
from nas.study.named_recipes import load_recipe
from nas.study.place import Place
from nas.study.recipe import Recipe, default_recipe
from nas.study.settings import Settings
from search_spaces import SearchSpace, list_spaces


def search_settings(
    *,
    space: str | Path | Mapping[str, Any],
    budget: Budget,
    trials: int | None = None,
    strategy: str | None = None,
    data: str | None = None,
    recipe: Path | Recipe | None = None,
    epochs: int | None = None,
    evaluate: str | None = None,
    place: Place | None = None,
    latency_device: str | None = None,
    latency_batch: int | None = None,
    **fields: Any,
) -> Settings:
    """Make settings from what a user wrote; nothing is trained, no database is touched.

    space: a shipped one's name, a YAML file, or what such a file holds. recipe: a name, a YAML
    file or a recipe; the default of the device otherwise. evaluate: module:function that scores
    designs.
    place: where the study will be trained, which its default recipe depends on; this machine's
    best device by default. latency_device, latency_batch: of a latency that is a budget or an
    objective; the place's device and one image by default. fields: of the settings, as they are.
    Raises: SpaceError, DataError, KernelError or StudyError for the first thing that is wrong.
    """
    if strategy is not None:
        check_strategy(strategy)
        fields["strategy"] = strategy
    for name in fields.get("baselines", ()):
        TimmConfig.load(name)  # says what is wrong
    place = place or this_machine()
    loaded, source = _space(space)
    size = fields.get("image_size", USUAL_SIDE)
    asked = _recipe(recipe, place, size, dataset=data, epochs=epochs, evaluate=evaluate)
    _check_backend(place, asked)
    if trials is not None:
        fields["trials"] = trials
    measures = {*(band.metric for band in budget.bands), *fields.get("objectives", ())}
    if "latency" in measures:
        fields["latency"] = _latency(latency_device or place.device, latency_batch or 1, asked)
    elif latency_device is not None or latency_batch is not None:
        raise StudyError(
            "a latency device or batch is given, but nothing asks for a latency; add --budget 8ms "
            "or --objective top1,latency"
        )
    return Settings.of(
        space=loaded,
        budget=budget,
        recipe=asked,
        space_source=source,
        **fields,
    )


def _latency(device: str, batch: int, recipe: Recipe) -> LatencyDevice:
    """Describe what times are of: a GPU computes as in training, a CPU in float32."""
    from nas.planning.timing import this_device

    on_gpu = device.startswith("cuda")
    return this_device(device, batch=batch, precision=recipe.precision if on_gpu else "fp32")


def _space(space: str | Path | Mapping[str, Any]) -> tuple[SearchSpace, str | None]:
    """Return a space, and the user's file that it is from."""
    if isinstance(space, Mapping):
        return SearchSpace.from_text(yaml.safe_dump(dict(space), sort_keys=False)), None
    source = str(Path(space).absolute()) if str(space) not in list_spaces() else None
    return SearchSpace.load(space), source


def _recipe(
    recipe: Path | Recipe | None, place: Place, image_size: ImageSize, **stated: Any
) -> Recipe:
    """Return the recipe with what is stated beside it; a default one fits the image size."""
    update = {key: value for key, value in stated.items() if value is not None}
    if recipe is None:
        names = ("dataset", "epochs")
        made = default_recipe(place.device, *(update.pop(name, None) for name in names))
        made = with_tokens(made, image_size)
    else:
        made = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    return Recipe.model_validate(made.model_dump() | update) if update else made


def this_machine(device: str = "auto", *, elsewhere: bool = False, **stated: Any) -> Place:
    """Return a place on this machine; auto is CUDA where there is a device.

    elsewhere: trials train on other machines, so that this one need not have the device.
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
    if kind == "cuda" and not (elsewhere or torch.cuda.is_available()):
        raise StudyError(f"device {device!r}: no CUDA device on this machine; use cpu")
    return Place.of(device=device, **stated)


def _check_backend(place: Place, recipe: Recipe) -> None:
    import torch

    from kernels import resolve_backend

    if torch.device(place.device).type == "cuda" and not torch.cuda.is_available():
        return  # trials train elsewhere, and the worker resolves it
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    resolve_backend(torch.device(place.device), dtype, place.backend)
