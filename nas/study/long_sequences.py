"""How a proxy follows candidates to larger images: more tokens, in the time that a run may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backbones.image_size import ImageSize, shown, sides
from nas.study.recipe import Recipe

USUAL_SIDE = 224  # pixels; recipes are chosen for candidates at this size
_STRIDE = 4  # pixels a token on a candidate's first map, as published
_LEAST_BATCH = 4  # images; fewer make updates too noisy
_MOST = 4.0  # times the tokens: beyond, too few images are left to learn from
_MULTIPLE = 4  # tokens a side: windows, quadtrees and three halvings divide it best


def with_tokens(recipe: Recipe, image_size: ImageSize) -> Recipe:
    """Return the recipe with a larger map, as images are larger than usual, at the same time a run.

    Tokens per update and the number of updates stay: as the map has more tokens, an update has
    fewer images, down to four, and the map grows to four times its tokens at most. The network
    keeps its widths. A recipe that takes all images there are is returned as it is.
    """
    height, width = sides(image_size)
    asked = height * width / USUAL_SIDE**2
    if asked <= 1 or recipe.train_size is None or recipe.flops_ratio is None:
        return recipe
    factor = min(asked, _MOST, recipe.batch_size / _LEAST_BATCH)
    grid = _MULTIPLE * math.floor(recipe.grid * math.sqrt(max(factor, 1.0)) / _MULTIPLE)
    if grid <= recipe.grid:
        return recipe
    times = (grid / recipe.grid) ** 2
    update = {
        "image_size": grid * recipe.stem_stride,
        "batch_size": round(recipe.batch_size / times),
        "train_size": round(recipe.train_size / times),
        "val_size": None if recipe.val_size is None else math.ceil(recipe.val_size / times),
        "flops_ratio": recipe.flops_ratio * times,
    }
    return Recipe.model_validate(recipe.model_dump() | update)


def tokens_said(recipe: Mapping[str, Any], image_size: ImageSize) -> str | None:
    """Say how far a stored recipe's map follows larger images; None for the usual size."""
    height, width = sides(image_size)
    if height * width <= USUAL_SIDE**2:
        return None
    side = recipe["image_size"] // recipe["stem_stride"]
    rows, columns = height // _STRIDE, width // _STRIDE
    share = side * side / (rows * columns)
    return (
        f"images of {shown(image_size)} px make maps of {rows} x {columns} tokens, "
        f"{rows * columns:,}; the proxy's has {side} x {side}, {side * side:,} "
        f"({100 * share:.0f} %), which is how far "
        "the time of a run allows: effects that grow with the sequence are seen in part"
    )
