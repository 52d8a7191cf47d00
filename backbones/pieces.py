"""A network taken apart into what can be measured by itself and added up again.

Time, unlike operations, cannot be counted; but of a network it is nearly the sum of the times of
its stem, blocks, downsamplings and head, each on the map where it stands. A piece is one of these
at certain widths: data that says what it is, and how to build it alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from backbones.config import BackboneConfig, StageConfig
from backbones.counting import distinct_blocks
from backbones.image_size import ImageSize, sides
from backbones.language import Grid
from backbones.mixers.controls import IdentityConfig
from backbones.parts import BlockConfig

LETTER = "a"
NOTHING = BlockConfig(mixer=IdentityConfig())


@dataclass(frozen=True)
class Piece:
    """One part of a network.

    grid: of what enters, (H, W): pixels for a stem, tokens for the others. widths: its channels; a
    downsampling's before and after it. frame: a network of this one block, or of any where the
    piece is none, that is like the whole one around it.
    """

    part: Literal["stem", "block", "downsample", "head"]
    frame: BackboneConfig
    grid: Grid
    widths: tuple[int, ...]

    def at(self, *widths: int) -> Piece:
        """Return the piece at other widths."""
        return replace(self, widths=widths)

    def works(self) -> bool:
        """Whether there is such a piece at these widths."""
        if self.part == "stem":
            return self.widths[0] >= self.frame.stem.least_width
        try:
            if self.part == "block":
                self.block.check(self.widths[0], self.frame.class_tokens > 0)
        except ValueError:
            return False
        return not (self.part == "block" and self.frame.rope and self.widths[0] % 4)

    @property
    def block(self) -> BlockConfig:
        """The block of the frame."""
        return self.frame.blocks[LETTER]

    def describe(self) -> dict[str, Any]:
        """Return plain data that is equal for pieces that compute alike."""
        net, width = self.frame, self.widths[-1]
        said: dict[str, Any] = {"kind": self.part, "grid": self.grid, "widths": self.widths}
        if self.part == "stem":
            position = net.position if net.class_tokens or net.position == "learned" else "none"
            said |= {"stem": net.stem.canonical(), "in_chans": net.in_chans, "position": position}
        elif self.part == "block":
            shift = self.block.mixer.turn(0, 0)
            said |= {"block": self.block.canonical(width, shift, net.class_tokens > 0)}
            said |= {"rope": True} if net.rope else {}
        elif self.part == "downsample":
            down = net.stages[1].downsample
            assert down is not None
            return said | {"downsample": down.canonical()}
        else:
            said |= {"head": net.head.canonical(width, net.class_tokens)}
            said |= {"num_classes": net.num_classes}
        return said | ({"class_token": net.class_token} if net.class_tokens else {})

    @property
    def key(self) -> str:
        """SHA-256 (hex) of `describe`."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self) -> tuple[Any, Callable[[Any], Any], tuple[int, ...]]:
        """Return the module, what runs the piece of it, and the shape of one image's input.

        Initialized at random, in evaluation.
        """
        from backbones.network import Backbone

        (height, breadth), net = self.grid, self.frame
        if self.part == "downsample":
            down = net.stages[1].downsample
            assert down is not None
            module = down.build(*self.widths).eval()
            return module, module, (height, breadth, self.widths[0])
        (stage,), width = net.stages, self.widths[0]
        stages = (stage.model_copy(update={"width": width}),)
        module = Backbone(net.model_copy(update={"stages": stages})).eval()
        tokens = (height * breadth + net.class_tokens, width)
        if self.part == "stem":
            return module, lambda x: module.embed(x)[0], (net.in_chans, height, breadth)
        if self.part == "head":
            return module, lambda x: module.forward_head(module.leave(x, self.grid)), tokens
        block = module.stages[0].blocks[0]
        return module, lambda x: module.run_block(block, x, self.grid), tokens


def pieces(
    config: BackboneConfig, image_size: ImageSize
) -> Iterator[tuple[Piece, tuple[int, ...], int]]:
    """Yield the distinct pieces of a network, the stages whose widths they have, and how often."""
    size = sides(image_size)
    plain = _frame(config, NOTHING)
    yield Piece("stem", plain, size, (config.stages[0].width,)), (0,), 1
    grid = config.stem.grid(size)
    for i, stage in enumerate(config.stages):
        if stage.downsample is not None:
            frame = plain.model_copy(update={"stages": (*plain.stages, stage)})
            widths = (config.stages[i - 1].width, stage.width)
            yield Piece("downsample", frame, grid, widths), (i - 1, i), 1
            grid = stage.downsample.grid(grid)
        for block, times in distinct_blocks(config.blocks, stage, grid):
            yield Piece("block", _frame(config, block), grid, (stage.width,)), (i,), times
    last = len(config.stages) - 1
    yield Piece("head", plain, grid, (config.stages[last].width,)), (last,), 1


def _frame(config: BackboneConfig, block: BlockConfig) -> BackboneConfig:
    """Return a network of one block in the place of all stages."""
    stage = StageConfig(width=config.stages[0].width, depth=1, pattern=LETTER)
    return config.model_copy(update={"stages": (stage,), "blocks": {LETTER: block}})
