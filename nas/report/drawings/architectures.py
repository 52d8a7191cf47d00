"""Architectures as rows of blocks, a row a stage, with what each stage costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from backbones import cost
from backbones.config import BackboneConfig, PlacedBlock, resolve_blocks
from backbones.image_size import ImageSize, shown, sides
from backbones.mixers.base import MixerConfig
from backbones.orders.base import ScanOrder
from backbones.parts import BlockConfig
from backbones.tally import Cost
from nas.report.drawings.orders import describe_order, visited
from nas.report.drawings.style import COLORS, FAINT, INK, new_sheet, plain_text, swatch, time_colors
from nas.report.text import giga, mega, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_LEFT, _BLOCK, _GAP, _BARS, _LINE = 1.75, 0.86, 0.1, 2.9, 0.2
_PER_LINE = 12
_SKETCH = (8, 8)
"""Map on which the routes of a block are sketched."""
_CHUNKS = 8
"""Colors of a sketched route: few, so that a file stays small."""
_ARROWS = {(1, 1): "↘", (-1, -1): "↖", (1, -1): "↙", (-1, 1): "↗"}


@plain_text
def architecture_figure(
    config: BackboneConfig, *, name: str, image_size: ImageSize = 224
) -> Figure:
    """Draw stages, blocks, their patterns and scan orders, and each stage's share of the cost.

    Raises: ConfigError for an image that is too small for the network.
    """
    counted = cost(config, image_size=image_size)
    stages = resolve_blocks(config)
    colors = _colors(config)
    columns = min(_PER_LINE, max(map(len, stages)))
    lines = [-(-len(blocks) // _PER_LINE) for blocks in stages]
    legend = [(letter, describe_block(config.blocks[letter])) for letter in _used(config)]
    wide = max(_LEFT + columns * (_BLOCK + _GAP) + _BARS, 9.0)
    top = 0.75
    tall = top + sum(lines) * (_BLOCK + _GAP) + 0.25 * len(stages) + _LINE * (len(legend) + 2)
    figure, axis = new_sheet(wide, tall)
    total = (
        f"{mega(counted.params)} parameters, {giga(counted.flops)} FLOPs at {shown(image_size)} px"
    )
    axis.text(0.15, 0.3, name, fontsize=13, weight="bold", color=INK, va="center")
    axis.text(0.15, 0.56, f"{config.stem.kind} stem; {total}", fontsize=9, color=INK, va="center")
    axis.text(
        wide - _BARS + 0.15, 0.56, "FLOPs (dark), parameters (grey)", fontsize=8, color=INK,
        va="center",
    )  # fmt: skip
    y = top
    for index, blocks in enumerate(stages):
        grid = _grids(config, image_size)[index]
        _label(axis, y, f"stage {index + 1}", f"{grid[0]} x {grid[1]} tokens", blocks[0].width)
        for place, block in enumerate(blocks):
            row, column = divmod(place, _PER_LINE)
            letter = config.stages[index].letters[place]
            corner = (_LEFT + column * (_BLOCK + _GAP), y + row * (_BLOCK + _GAP))
            _block(axis, corner, block, letter, colors[letter])
        _bars(axis, wide - _BARS + 0.15, y + 0.12, counted, f"stage {index + 1}")
        y += lines[index] * (_BLOCK + _GAP) + 0.25
    for letter, text in legend:
        swatch(axis, (0.2, y - 0.07), (0.28, 0.16), colors[letter])
        axis.text(0.34, y + 0.01, letter, fontsize=8, weight="bold", color=INK, ha="center",
                  va="center")  # fmt: skip
        axis.text(0.6, y, text, fontsize=8.5, color=INK, va="center")
        y += _LINE
    if any(order_of(config.blocks[letter].mixer) for letter, _ in legend):
        said = "inside a block: the routes of its scan, dark first; an arrow: its cyclic shift"
        axis.text(0.2, y, said, fontsize=8, color=FAINT, va="center")
    return figure


def architecture_alternative(config: BackboneConfig, name: str, image_size: ImageSize = 224) -> str:
    """Say in words what the picture shows."""
    counted = cost(config, image_size=image_size)
    stages = "; ".join(
        f"stage {i + 1} of {stage.width} channels has blocks {stage.letters}"
        for i, stage in enumerate(config.stages)
    )
    kinds = "; ".join(f"{x} is {describe_block(config.blocks[x])}" for x in _used(config))
    return (
        f"Architecture {name}: {mega(counted.params)} parameters and {giga(counted.flops)} FLOPs "
        f"at {shown(image_size)} px. {stages}. {kinds}."
    )


def describe_block(block: BlockConfig) -> str:
    """Return what a block is, in a line: the mixer, what is set of it, the FFN."""
    said = [_describe_mixer(block.mixer)]
    if block.beside is not None:
        said.append(f"beside it {_describe_mixer(block.beside)}")
    said.append("no FFN" if block.ffn is None else f"FFN {block.ffn.ratio:g}")
    return "; ".join(said)


def _describe_mixer(mixer: MixerConfig) -> str:
    words = [mixer.kind]
    for key in type(mixer).model_fields:
        value: Any = getattr(mixer, key)
        if isinstance(value, ScanOrder):
            words.insert(1, describe_order(value))
        elif key in ("d_state", "expand", "kernel"):
            words.append(f"{key} {value:.3g}")
        elif key == "shift" and value is not None:
            words.append(f"shift {value.direction} ({value.blocks} blocks)")
        elif key == "gate" and value != "none":
            words.append(f"gate at the {value}")
    return ", ".join(words)


def _used(config: BackboneConfig) -> list[str]:
    return list(dict.fromkeys("".join(stage.letters for stage in config.stages)))


def _colors(config: BackboneConfig) -> dict[str, str]:
    """Return a color for each letter: blocks of one mixer and order share theirs."""
    sorts = {x: _sort(config.blocks[x].mixer) for x in _used(config)}
    palette = {
        sort: COLORS[i % len(COLORS)] for i, sort in enumerate(dict.fromkeys(sorts.values()))
    }
    return {letter: palette[sort] for letter, sort in sorts.items()}


def _sort(mixer: MixerConfig) -> tuple[str, str]:
    order = order_of(mixer)
    return mixer.kind, "" if order is None else order.kind


def order_of(mixer: MixerConfig) -> ScanOrder | None:
    """Return the scan order of a mixer, None where it scans nothing."""
    found = getattr(mixer, "order", None)
    return found if isinstance(found, ScanOrder) else None


def _grids(config: BackboneConfig, image_size: ImageSize) -> list[tuple[int, int]]:
    grid = config.stem.grid(sides(image_size))
    grids = []
    for stage in config.stages:
        grid = grid if stage.downsample is None else stage.downsample.grid(grid)
        grids.append(grid)
    return grids


def _label(axis: Axes, y: float, name: str, grid: str, width: int) -> None:
    axis.text(0.15, y + 0.18, name, fontsize=10, weight="bold", color=INK, va="center")
    axis.text(0.15, y + 0.42, grid, fontsize=8.5, color=INK, va="center")
    axis.text(0.15, y + 0.62, f"{width} channels", fontsize=8.5, color=INK, va="center")


def _block(
    axis: Axes, corner: tuple[float, float], block: PlacedBlock, letter: str, color: str
) -> None:
    x, y = corner
    swatch(axis, corner, (_BLOCK, _BLOCK), color)
    axis.text(x + 0.11, y + 0.12, letter, fontsize=8, weight="bold", color=INK, ha="center",
              va="center")  # fmt: skip
    if block.shift is not None:
        axis.text(x + _BLOCK - 0.11, y + 0.11, _ARROWS[block.shift], fontsize=10, color=INK,
                  ha="center", va="center")  # fmt: skip
    order = order_of(block.block.mixer)
    if order is None:
        words = block.block.mixer.kind.replace("_", "\n")
        axis.text(x + _BLOCK / 2, y + _BLOCK / 2 + 0.06, words, fontsize=8, color=INK,
                  ha="center", va="center")  # fmt: skip
        return
    shift = getattr(block.block.mixer, "shift", None)
    for points, share in _sketch(order, shift, block.shift):
        axis.plot(
            x + 0.11 + points[:, 0] * (_BLOCK - 0.22),
            y + 0.21 + points[:, 1] * (_BLOCK - 0.3),
            color=time_colors()(share), linewidth=0.7, solid_capstyle="round",
        )  # fmt: skip


@lru_cache(maxsize=256)
def _sketch(order: ScanOrder, shift: Any, sign: Any) -> tuple[tuple[np.ndarray, float], ...]:
    """Return pieces of the routes of an order in a unit square, each with its time in 0..1."""
    return tuple(_pieces(order, shift, sign))


def _pieces(order: ScanOrder, shift: Any, sign: Any) -> Iterator[tuple[np.ndarray, float]]:
    steps = visited(order, _SKETCH, shift=shift, sign=sign).steps
    across = 1 if len(steps) == 1 else 2 if len(steps) <= 4 else 3
    down = -(-len(steps) // across)
    for number, route in enumerate(steps):
        row, column = divmod(number, across)
        rows, cols = np.divmod(route, _SKETCH[1])
        # Every route in a cell of its own, with a margin around.
        points = np.stack(
            [
                (column + 0.08 + 0.84 * (cols + 0.5) / _SKETCH[1]) / across,
                (row + 0.08 + 0.84 * (rows + 0.5) / _SKETCH[0]) / down,
            ],
            axis=1,
        )
        size = -(-len(points) // _CHUNKS)
        for start in range(0, len(points) - 1, size):
            yield points[start : start + size + 1], start / len(points)


def _bars(axis: Axes, x: float, y: float, counted: Cost, stage: str) -> None:
    params, flops = counted.by_stage[stage]
    rows = ((flops, counted.flops, giga(flops), INK), (params, counted.params, mega(params), FAINT))
    for place, (part, whole, said, color) in enumerate(rows):
        length = 1.1 * part / max(whole, 1)
        axis.barh(y + 0.26 * place, length, height=0.18, left=x, color=color)
        axis.text(
            x + length + 0.06, y + 0.26 * place, f"{said} ({percent(part / whole, 0)})",
            fontsize=8, color=INK, va="center",
        )  # fmt: skip
