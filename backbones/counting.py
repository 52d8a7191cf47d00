"""What a network costs: parameters and floating point operations, without building it.

Every part states its own rule, in the order in which its module computes. Rules are exact: they
equal the parameters of the built network and fvcore's count of its trace (`flop_handles`). Two
conventions:

fvcore  multiply-adds of convolutions and linear layers count 1, a selective scan
        9 L D N + L D a route, LayerNorm 5 and BatchNorm 2 per element, RMSNorm nothing. What
        VMamba, QuadMamba, LocalVMamba, PlainMamba and EfficientVMamba report.
macs    multiply-adds only: no norms; a scan 4 L D N + 2 L D, and L D more for a gate inside.
        What MambaOut and timm report.

Activations, residual sums, unfused gates, pooling by mean and positional tables count nothing in
either. Source of the scan formulas: `kernels.scan_flops`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from backbones.catalog import load_config
from backbones.config import BackboneConfig, StageConfig
from backbones.errors import ConfigError
from backbones.image_size import ImageSize, sides
from backbones.language import Grid
from backbones.parts import BlockConfig
from backbones.tally import CONVENTIONS, Cost, Tally


def cost(
    config: BackboneConfig | str | Path,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
    widths: Sequence[int] | None = None,
) -> Cost:
    """Count the parameters and operations of a network on one image, in evaluation.

    config: a config, preset name or path. widths: stage widths that replace the config's, so
    that a solver need not rebuild it.
    Shapes: image_size is a side or (H, W) in pixels.
    Units: see the module docstring; stored with the result as `convention`.
    Raises: ConfigError for an unknown convention, or an image too small for the network.
    """
    if convention not in CONVENTIONS:
        raise ConfigError(
            f"FLOP convention {convention!r} is unknown; use {' or '.join(CONVENTIONS)}"
        )
    config = load_config(config)
    size = sides(image_size)
    if widths is None:
        widths = [stage.width for stage in config.stages]
    tally = Tally(convention, stage="stem")
    grid = _checked(config.stem.grid(size), size)
    config.stem.cost(tally, config.in_chans, widths[0], size)
    extra = config.class_tokens
    if config.position == "learned":
        table = config.stem.grid(sides(config.image_size))
        tally.add("position", (table[0] * table[1] + extra) * widths[0])
    tally.add("position", extra * widths[0])
    for index, stage in enumerate(config.stages):
        tally.stage, width = f"stage {index + 1}", widths[index]
        if stage.downsample is not None:
            stage.downsample.cost(tally, widths[index - 1], width, grid)
            grid = _checked(stage.downsample.grid(grid), size)
        for block, tally.times in distinct_blocks(config.blocks, stage, grid):
            block.cost(tally, width, grid, extra)
        tally.times = 1
    tally.stage = "head"
    config.head.cost(tally, widths[-1], grid[0] * grid[1], extra, config.num_classes)
    return Cost(
        params=sum(entry[0] for entry in tally.stages.values()),
        flops=sum(entry[1] for entry in tally.stages.values()),
        by_component={name: (p, f) for name, (p, f) in tally.components.items()},
        by_stage={name: (p, f) for name, (p, f) in tally.stages.items()},
        convention=convention,
        image_size=size,
    )


def distinct_blocks(
    blocks: dict[str, BlockConfig], stage: StageConfig, grid: Grid
) -> Iterator[tuple[BlockConfig, int]]:
    """Yield blocks of a stage that cost differently, and how often each occurs."""
    letters = stage.letters
    if stage.routes is None:
        for letter in dict.fromkeys(letters):
            yield blocks[letter], letters.count(letter)
        return
    rows: dict[tuple[str, tuple[int, ...]], list[tuple[str, ...]]] = {}
    for letter, row in zip(letters, stage.routes):
        key = blocks[letter].mixer.routes_key(row, grid)
        rows.setdefault((letter, key), []).append(row)
    for (letter, _), same in rows.items():
        block = blocks[letter]
        yield block.model_copy(update={"mixer": block.mixer.with_routes(same[0])}), len(same)


def _checked(grid: Grid, size: Grid) -> Grid:
    if min(grid) < 1:
        raise ConfigError(
            f"an image of {size[0]} x {size[1]} leaves a map of {grid[0]} x {grid[1]}; "
            "use a larger image or fewer stages"
        )
    return grid
