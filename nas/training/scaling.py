"""The small network that stands for a candidate, and what can no longer be seen in it.

Depths shrink in proportion, the stem's stride follows the recipe, widths are scaled together
until the small network costs a fixed share of the candidate: candidates of equal FLOPs stay
equal. Everything that a search chooses between is kept: mixers, patterns, scan orders, quadtree
levels, shifts, states, ratios. Where a map is too small for a choice to act, the choice is
adapted, or kept without effect, and a note says so: candidates that differ in nothing else get
equal scores.
"""

from __future__ import annotations

import math
import string
from typing import Any

from pydantic import ValidationError

from backbones.config import BackboneConfig, StageConfig
from backbones.counting import cost
from backbones.parts import BlockConfig
from backbones.stems import StemConfig
from nas.study.recipe import Recipe
from search_spaces.errors import SpaceError, UnreachableError
from search_spaces.fit import Band, fit_widths, with_widths

# A plain backbone keeps one map throughout. It gets half the side of a hierarchical one's first
# map, as far as that lies between these.
_PLAIN_LEAST, _PLAIN_MOST = 8, 14

# Side in pixels at which budgets are counted by default.
REFERENCE_SIZE = 224

# How far below its share a network may land: as near as multiples of the step allow.
_SLACKS = (0.03, 0.1, 0.3)


def network_of(config: BackboneConfig, recipe: Recipe) -> str:
    """Return a fingerprint of what the recipe trains for a design.

    Designs that differ in what the scaling levels (a depth that rounds to the same, a pattern that
    is cut off) are one network to a proxy: with one seed they get one score, bit for bit.
    """
    return proxy_config(config, recipe, num_classes=2, in_chans=3)[0].fingerprint()


def proxy_config(
    config: BackboneConfig, recipe: Recipe, num_classes: int, in_chans: int
) -> tuple[BackboneConfig, list[str]]:
    """Scale a backbone down to what the recipe trains; also say what cannot act there.

    Returns: the config that is trained and notes, one line each, on choices that were adapted
    or have no effect on the small maps.
    """
    if recipe.flops_ratio is None:
        return as_it_is(config, recipe, num_classes, in_chans)
    notes: list[str] = []
    stem = _stem(config, recipe)
    side, _ = stem.grid((recipe.image_size, recipe.image_size))
    blocks: dict[str, BlockConfig] = {}
    stages: list[StageConfig] = []
    free = [c for c in string.ascii_letters if c not in config.blocks]
    for number, stage in enumerate(config.stages):
        if stage.downsample is not None:
            side, _ = stage.downsample.grid((side, side))
        depth = _depth(stage.depth, recipe)
        letters = _pattern(stage, depth)
        where = f"stage {number + 1} ({side} x {side} tokens)"
        if lost := sorted(set(stage.letters) - set((letters * depth)[:depth])):
            notes.append(f"{where}: block {', '.join(lost)} does not occur at depth {depth}")
        names = {}
        for letter in sorted(set(letters)):
            whole = config.blocks[letter].at_step(recipe.width_step)
            block, lost_choices = whole.adapts_to(side)
            notes += [f"{where}: {note}" for note in lost_choices]
            # A letter may stand for different adaptations in different stages.
            name = letter
            if blocks.get(letter, block) != block:
                known = [n for n, b in blocks.items() if b == block]
                name = known[0] if known else free.pop(0)
            blocks[name] = block
            names[letter] = name
        stages.append(
            stage.model_copy(
                update={
                    "depth": depth,
                    "pattern": "".join(names[c] for c in letters),
                    "routes": _routes(stage, depth),
                }
            )
        )
    scaled = config.model_copy(
        update={
            "stem": stem,
            "blocks": blocks,
            "stages": tuple(stages),
            "drop_path_rate": 0.0,
            **_ends(config, recipe, num_classes, in_chans),
        }
    )
    return _fitted(scaled, config, recipe, notes), list(dict.fromkeys(notes))


def as_it_is(
    config: BackboneConfig, recipe: Recipe, num_classes: int, in_chans: int
) -> tuple[BackboneConfig, list[str]]:
    """Return the backbone itself for the recipe's images, and notes on choices without effect.

    Raises: SpaceError where a block would have to be changed to act on its map.
    """
    notes: list[str] = []
    side = recipe.image_size
    for number, stage in enumerate(config.stages):
        down = config.stem if stage.downsample is None else stage.downsample
        side, _ = down.grid((side, side))
        for letter in sorted(set(stage.letters)):
            block, lost = config.blocks[letter].adapts_to(side)
            where = f"stage {number + 1} ({side} x {side} tokens)"
            if block != config.blocks[letter]:
                raise SpaceError(
                    f"{where}: block {letter!r} cannot act: {'; '.join(lost)}; use another order, "
                    f"or another image_size than {recipe.image_size}"
                )
            notes += [f"{where}: {note}" for note in lost]
    ends = _ends(config, recipe, num_classes, in_chans)
    return _valid(config.model_copy(update=ends)), list(dict.fromkeys(notes))


def _ends(
    config: BackboneConfig, recipe: Recipe, num_classes: int, in_chans: int
) -> dict[str, Any]:
    """Return the fields of a config that follow the data; without classes, no hidden layer."""
    ends: dict[str, Any] = {
        "image_size": recipe.image_size,
        "num_classes": num_classes,
        "in_chans": in_chans,
    }
    if num_classes == 0:
        ends["head"] = config.head.model_copy(update={"mlp_ratio": None})
    return ends


def _fitted(
    scaled: BackboneConfig, config: BackboneConfig, recipe: Recipe, notes: list[str]
) -> BackboneConfig:
    """Scale the widths to the recipe's share of the candidate's operations."""
    # The classifier is the data's, not the candidate's: 1000 classes are left out of its cost.
    whole = cost(config.model_copy(update={"num_classes": 0}), REFERENCE_SIZE).flops
    assert recipe.flops_ratio is not None  # else nothing is scaled
    target = recipe.flops_ratio * whole
    for slack in _SLACKS:
        try:
            return _valid(
                fit_widths(
                    scaled,
                    [Band("flops", target * (1 - slack), target)],
                    image_size=recipe.image_size,
                    step=recipe.width_step,
                )
            )
        except (UnreachableError, ValidationError):
            continue
    narrow = _narrowest(scaled, recipe.width_step)
    found = cost(narrow, recipe.image_size).flops
    notes.append(
        f"costs {found / 1e6:.1f} MFLOPs where its share is {target / 1e6:.1f}: no width meets it"
    )
    return narrow


def _narrowest(scaled: BackboneConfig, step: int) -> BackboneConfig:
    """Return the network at the least width, kept in proportion, that all its blocks allow."""
    first = scaled.stages[0].width
    for width in range(step, first, step):
        widths = [step * max(1, round(s.width * width / first / step)) for s in scaled.stages]
        try:
            return _valid(with_widths(scaled, widths))
        except ValidationError:
            continue
    return scaled


def _valid(config: BackboneConfig) -> BackboneConfig:
    """Return the config, validated anew: copies with other fields are not."""
    return BackboneConfig.model_validate(config.to_dict())


# --- stem --------------------------------------------------------------------------------------


def _stem(config: BackboneConfig, recipe: Recipe) -> StemConfig:
    stride: int = recipe.stem_stride
    if len(config.stages) == 1:
        first = recipe.grid
        side = min(_PLAIN_MOST, max(_PLAIN_LEAST, first // 2))
        stride = max(1, recipe.image_size // side)
    return config.stem.with_step(stride)


# --- depth -------------------------------------------------------------------------------------


def _depth(depth: int, recipe: Recipe) -> int:
    """Return the scaled depth. Two blocks stay two: alternation and shifts need a second one."""
    return max(min(depth, 2), math.ceil(depth * recipe.depth_ratio - 1e-9))


def _pattern(stage: StageConfig, depth: int) -> str:
    """Return the pattern for a smaller depth: the same while it fits, else thinned evenly."""
    letters = stage.letters
    if stage.pattern.isalpha() and (len(stage.pattern) <= depth or depth >= stage.depth):
        return stage.pattern
    if depth >= stage.depth:
        return letters
    return "".join(letters[i] for i in _kept(stage.depth, depth))


def _kept(full: int, depth: int) -> list[int]:
    return [int((i + 0.5) * full / depth) for i in range(depth)]


def _routes(stage: StageConfig, depth: int) -> tuple[tuple[str, ...], ...] | None:
    if stage.routes is None or depth == stage.depth:
        return stage.routes
    return tuple(stage.routes[i] for i in _kept(stage.depth, depth))
