"""The pictures of an inspection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from nas.report.drawings.style import (
    INK,
    PAPER,
    Picture,
    new_figure,
    plain_text,
    time_colors,
)
from nas.report.inspection.reach import Reach
from nas.report.inspection.scans import Grid, Scan
from nas.report.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 2.2
MOST_QUADTREES = 4
_DARKEST = 1e-4
"""Contributions below so much of the largest are drawn like none."""


def reach_picture(found: dict[str, Reach]) -> Picture:
    """Return effective receptive fields side by side, by what they are of."""
    said = "; ".join(f"{name}: {_areas(one)}" for name, one in found.items())
    return Picture(
        "receptive-field",
        _reach_figure(found),
        f"What each pixel contributes to the middle token, logarithmic. {said}.",
        photographs=True,
    )


def _areas(one: Reach) -> str:
    return ", ".join(
        f"{percent(share, 0)} of it in a square of {percent(area, 1)} of the image"
        for share, area in one.areas.items()
    )


@plain_text
def _reach_figure(found: dict[str, Reach]) -> Figure:
    from matplotlib.colors import LogNorm

    figure = new_figure(len(found) * 3.4 + 1.0, 3.7)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, (name, one) in zip(axes, found.items()):
        side = one.pixels.shape[0]
        drawn = axis.imshow(
            np.maximum(one.pixels, _DARKEST), norm=LogNorm(_DARKEST, 1), cmap="cividis",
            extent=(0, side, side, 0), interpolation="nearest",
        )  # fmt: skip
        axis.plot(one.center[1], one.center[0], "+", ms=7, color=PAPER)
        _bare(axis, name)
    bar = figure.colorbar(drawn, ax=list(axes), fraction=0.05, pad=0.02)
    bar.set_label("contribution to the middle token", color=INK)
    return figure


def scan_picture(scan: Scan, names: list[str], images: Tensor, token: tuple[int, int]) -> Picture:
    """Return what one token takes from the others: a row an image, a column a route.

    Shapes: images (B, 3, S, S) in [0, 1]. token: (row, column) of the query.
    """
    number = token[0] * scan.grid[1] + token[1]
    maps = [scan.attended(image, number) for image in range(len(images))]
    said = "; ".join(
        f"route {route + 1} takes from {int((maps[0][route] > 0).sum())} of "
        f"{maps[0][route].size} tokens, most from {_place(maps[0][route])}"
        for route in range(scan.routes)
    )
    return Picture(
        f"scan-{scan.block.replace(', ', '-').replace(' ', '-')}",
        _scan_figure(scan, names, images, token, maps),
        f"What the token at row {token[0] + 1}, column {token[1] + 1} of {scan.block} takes from "
        f"the others, weighted by decay. In {names[0]}: {said}.",
        photographs=True,
    )


def _place(found: np.ndarray) -> str:
    if not found.any():
        return "none"
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return f"row {row + 1}, column {column + 1}"


@plain_text
def _scan_figure(
    scan: Scan, names: list[str], images: Tensor, token: tuple[int, int], maps: list[np.ndarray]
) -> Figure:
    height, width = scan.grid
    columns = scan.routes + 2
    figure = new_figure(columns * _PANEL, len(images) * (_PANEL + 0.25) + 0.35)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, (name, image, found) in enumerate(zip(names, images, maps)):
        panels = [found.sum(0), *found]
        titles = ["all routes", *(f"route {n + 1} of {scan.routes}" for n in range(scan.routes))]
        axes[row][0].imshow(image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
        _bare(axes[row][0], name)
        for axis, panel, title in zip(axes[row][1:], panels, titles):
            shown = np.ma.masked_equal(panel, 0)
            axis.imshow(
                shown, cmap=time_colors(), vmin=0, vmax=max(float(panel.max()), 1e-12),
                extent=(0, width, height, 0), interpolation="nearest",
            )  # fmt: skip
            axis.set_facecolor("#e4e7ec")
            _bare(axis, title)
        for axis in axes[row]:
            axis.plot(token[1] + 0.5, token[0] + 0.5, "s", ms=5, mfc="none", mec="#D55E00", mew=1.6)
    figure.suptitle(f"{scan.block}, {height} x {width} tokens", color=INK)
    note = "each map from nothing (dark) to its largest; grey: not visited before the marked token"
    figure.supxlabel(note, fontsize=8, color=INK)
    return figure


def partitions_of(scans: list[Scan], names: list[str], images: Tensor) -> Picture | None:
    """Return the windows that quadtrees choose, None without any: a row an image, a column a block.

    The first `MOST_QUADTREES` blocks are drawn.
    Shapes: images (B, 3, S, S) in [0, 1].
    """
    scans = [scan for scan in scans if scan.windows is not None][:MOST_QUADTREES]
    if not scans:
        return None
    said = "; ".join(
        f"{scan.block}: "
        + ", ".join(f"{name} {len(np.unique(found))}" for name, found in zip(names, _windows(scan)))
        for scan in scans
    )
    return Picture(
        "quadtree-partitions",
        _partition_figure(scans, names, images),
        f"Windows of the quadtree over each image, by block. Windows in all: {said}.",
        photographs=True,
    )


def _windows(scan: Scan) -> np.ndarray:
    assert scan.windows is not None
    return scan.windows.view(-1, *scan.grid).numpy()


@plain_text
def _partition_figure(scans: list[Scan], names: list[str], images: Tensor) -> Figure:
    figure = new_figure(len(scans) * (_PANEL + 0.5), len(images) * (_PANEL + 0.6))
    axes = figure.subplots(len(images), len(scans), squeeze=False)
    for column, scan in enumerate(scans):
        for row, (name, image, found) in enumerate(zip(names, images, _windows(scan))):
            axis = axes[row][column]
            height, width = scan.grid
            axis.imshow(image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
            for wide, color in ((3.0, PAPER), (1.3, "#0B5A92")):  # legible on any image
                _borders(axis, found, scan.grid, wide, color)
            _bare(axis, f"{scan.block}\n{name}")
    return figure


def _borders(axis: Axes, found: np.ndarray, grid: Grid, wide: float, color: str) -> None:
    from matplotlib.collections import LineCollection

    lines: list[Any] = []
    for row, column in np.argwhere(found[:, 1:] != found[:, :-1]):
        lines.append([(column + 1, row), (column + 1, row + 1)])
    for row, column in np.argwhere(found[1:] != found[:-1]):
        lines.append([(column, row + 1), (column + 1, row + 1)])
    axis.add_collection(LineCollection(lines, colors=color, linewidths=wide, capstyle="projecting"))
    axis.set(xlim=(0, grid[1]), ylim=(grid[0], 0))


def _bare(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9, color=INK)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
