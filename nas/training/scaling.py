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
from dataclasses import dataclass, field

from pydantic import ValidationError

from backbones.config import (
    AtrousOrder,
    BackboneConfig,
    BlockConfig,
    ConvStem,
    FixedOrder,
    OverlapStem,
    PatchifyStem,
    QuadtreeOfficialOrder,
    QuadtreeOrder,
    ScanOrder,
    ShiftConfig,
    SSMConfig,
    StageConfig,
    Stem,
    WindowOrder,
)
from backbones.counting import cost
from nas.study.recipe import Recipe
from search_spaces.errors import UnreachableError
from search_spaces.fit import Band, fit_widths, with_widths

# A plain backbone keeps one map throughout. It gets half the side of a hierarchical one's first
# map, as far as that lies between these.
_PLAIN_LEAST, _PLAIN_MOST = 8, 14

# Side in pixels at which budgets are counted by default.
REFERENCE_SIZE = 224

# How far below its share a network may land: as near as multiples of the step allow.
_SLACKS = (0.03, 0.1, 0.3)

_CONV_STEM_HIDDEN = 16  # of a convolutional stem: its cost hardly shrinks with the image

_OFFICIAL_WINDOWS = 4  # per side, of `quadtree_official`: maps must be multiples of it


def proxy_config(
    config: BackboneConfig, recipe: Recipe, num_classes: int, in_chans: int
) -> tuple[BackboneConfig, list[str]]:
    """Scale a backbone down to what the recipe trains; also say what cannot act there.

    Returns: the config that is trained and notes, one line each, on choices that were adapted
    or have no effect on the small maps.
    """
    notes: list[str] = []
    stem = _stem(config, recipe)
    side = _first_side(stem, recipe.image_size)
    blocks: dict[str, BlockConfig] = {}
    stages: list[StageConfig] = []
    free = [c for c in string.ascii_letters if c not in config.blocks]
    for number, stage in enumerate(config.stages):
        if stage.downsample is not None:
            side = side // 2 if stage.downsample.kind == "conv2x2" else (side + 1) // 2
        depth = _depth(stage.depth, recipe)
        letters = _pattern(stage, depth)
        where = f"stage {number + 1} ({side} x {side} tokens)"
        if lost := sorted(set(stage.letters) - set((letters * depth)[:depth])):
            notes.append(f"{where}: block {', '.join(lost)} does not occur at depth {depth}")
        names = {}
        for letter in sorted(set(letters)):
            look = _Look(side)
            block = look.block(config.blocks[letter])
            notes += [f"{where}: {note}" for note in look.notes]
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
            "image_size": recipe.image_size,
            "num_classes": num_classes,
            "in_chans": in_chans,
            "drop_path_rate": 0.0,
        }
    )
    return _fitted(scaled, config, recipe, notes), list(dict.fromkeys(notes))


def _fitted(
    scaled: BackboneConfig, config: BackboneConfig, recipe: Recipe, notes: list[str]
) -> BackboneConfig:
    """Scale the widths to the recipe's share of the candidate's operations."""
    # The classifier is the data's, not the candidate's: 1000 classes are left out of its cost.
    whole = cost(config.model_copy(update={"num_classes": 0}), REFERENCE_SIZE).flops
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


def _stem(config: BackboneConfig, recipe: Recipe) -> Stem:
    stem = config.stem
    stride: int = recipe.stem_stride
    if len(config.stages) == 1:
        first = recipe.image_size // stride
        side = min(_PLAIN_MOST, max(_PLAIN_LEAST, first // 2))
        stride = max(1, recipe.image_size // side)
    if isinstance(stem, OverlapStem):
        nearest = max(s for s in (1, 2, 4) if s <= max(1, stride))
        return stem.model_copy(update={"stride": nearest})
    if isinstance(stem, PatchifyStem):
        # Overlapping patches keep their overlap in proportion.
        patch = max(1, round(stride * stem.patch / stem.step))
        return stem.model_copy(
            update={"patch": patch, "stride": None if patch == stride else stride}
        )
    return stem.model_copy(
        update={"patch": max(2, stride - stride % 2), "hidden": _CONV_STEM_HIDDEN}
    )


def _first_side(stem: Stem, image: int) -> int:
    if isinstance(stem, OverlapStem):
        return -(-image // stem.stride)
    if isinstance(stem, ConvStem):
        return ((image + 1) // 2) // (stem.patch // 2)
    return (image - stem.patch) // stem.step + 1


# --- depth -------------------------------------------------------------------------------------


def _depth(depth: int, recipe: Recipe) -> int:
    """Return the scaled depth. Two blocks stay two: alternation and shifts need a second one."""
    return max(min(depth, 2), math.ceil(depth * recipe.depth_ratio - 1e-9))


def _pattern(stage: StageConfig, depth: int) -> str:
    """Return the pattern for a smaller depth: the same while it fits, else thinned evenly."""
    letters = stage.letters
    if len(stage.pattern) <= depth or depth >= stage.depth:
        return stage.pattern
    return "".join(letters[i] for i in _kept(stage.depth, depth))


def _kept(full: int, depth: int) -> list[int]:
    return [int((i + 0.5) * full / depth) for i in range(depth)]


def _routes(stage: StageConfig, depth: int) -> tuple[tuple[str, ...], ...] | None:
    if stage.routes is None or depth == stage.depth:
        return stage.routes
    return tuple(stage.routes[i] for i in _kept(stage.depth, depth))


# --- choices on a small map --------------------------------------------------------------------


@dataclass
class _Look:
    """Looks at one block on a map of side x side tokens: adapts it, and notes what is lost."""

    side: int
    notes: list[str] = field(default_factory=list)

    def block(self, block: BlockConfig) -> BlockConfig:
        mixer = block.mixer
        if not isinstance(mixer, SSMConfig):
            return block
        order = self._order(mixer.order)
        shift = None if mixer.shift is None else self._shift(mixer.shift)
        changed = mixer.model_copy(update={"order": order, "shift": shift})
        return block.model_copy(update={"mixer": changed})

    def _order(self, order: ScanOrder) -> ScanOrder:
        if self.side == 1:
            self.notes.append(f"order {order.kind} cannot act on a single token")
        if isinstance(order, QuadtreeOrder):
            return self._quadtree(order)
        if isinstance(order, QuadtreeOfficialOrder) and self.side % _OFFICIAL_WINDOWS:
            self.notes.append("quadtree_official needs 4 windows a side; bidirectional instead")
            return FixedOrder(kind="bidirectional")
        if isinstance(order, WindowOrder) and self.side > 1:
            for size in sorted(
                {int(r.removesuffix("_flip")[1:]) for r in order.routes if r[1:2] and r[0] == "w"}
            ):
                if size >= self.side:
                    self.notes.append(f"windows w{size} hold the whole map: w{size} is h")
        if isinstance(order, AtrousOrder) and 1 < self.side < 2 * order.step:
            self.notes.append(
                f"atrous sub-grids hold {-((-self.side // order.step) ** 2)} token(s)"
            )
        return order

    def _quadtree(self, order: QuadtreeOrder) -> ScanOrder:
        levels = tuple(n for n in order.levels if n <= self.side)
        if len(levels) < 2:
            if self.side > 1:
                self.notes.append(
                    f"quadtree {list(order.levels)} has no room to subdivide; bidirectional instead"
                )
            return FixedOrder(kind="bidirectional")
        if levels != order.levels:
            self.notes.append(f"quadtree levels {list(order.levels)} are cut to {list(levels)}")
        # Windows of one token are visited as the window around them would be. (Windows are cut
        # from the map padded to a multiple of the finest level.)
        cell = -(-self.side // levels[-1])
        if idle := [n for n in levels[1:] if cell * (levels[-1] // n) < 2]:
            self.notes.append(f"quadtree level {idle[0]} cannot act: its windows are single tokens")
        return order.model_copy(update={"levels": levels})

    def _shift(self, shift: ShiftConfig) -> ShiftConfig:
        if self.side == 1:
            self.notes.append("shift cannot act on a single token")
        elif self.side < shift.fraction:
            self.notes.append(
                f"shift by 1/{shift.fraction} of the side is no token; by 1/{self.side} instead"
            )
            return shift.model_copy(update={"fraction": self.side})
        return shift
