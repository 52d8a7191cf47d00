"""Scan orders as paths over the map: what each route visits, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backbones.orders.base import ScanOrder
from backbones.orders.shift import ShiftConfig
from backbones.registry import imported
from nas.report.drawings.style import FAINT, INK, PAPER, new_figure, plain_text, time_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Grid = tuple[int, int]

NUMBERED = 14
"""Largest side at which every token shows its step."""
_PER_ROW = 4
_PANEL = 2.7


@dataclass(frozen=True)
class Routes:
    """What a scan order visits on one map.

    steps: per route, the tokens in visiting order, numbered row by row; padding is left out.
    added: per route, tokens that are never visited alone but added onto another one's step.
    """

    grid: Grid
    steps: tuple[np.ndarray, ...]
    added: tuple[np.ndarray, ...]


def visited(
    order: ScanOrder,
    grid: Grid,
    *,
    score: np.ndarray | None = None,
    shift: ShiftConfig | None = None,
    sign: tuple[int, int] | None = None,
) -> Routes:
    """Return what the network itself visits: one-hot tokens are laid out as it lays out any.

    score: for learned orders, how much each token deserves a finer window, shape grid; by
    default a spot in the upper right. shift, sign: the cyclic shift of a block.
    """
    import torch

    tokens = grid[0] * grid[1]
    inner = max(tokens, order.least_channels)
    with torch.no_grad():
        layout = imported(order.layout)(order, inner).eval()
        if order.learned:
            layout.predictor = _given(spot(grid) if score is None else score)
        laid = layout.lay_out(torch.eye(tokens, inner)[None], grid, sign, shift)
        sequence = laid.sequence[0]
        if laid.orders is not None:
            orders = laid.orders.reshape(-1, laid.orders.shape[-1]).long()
            sequence = torch.stack([sequence[route] for route in orders])
    held = sequence[..., :tokens].numpy() > 0  # (K, steps, tokens)
    steps = tuple(route.argmax(-1)[route.any(-1)] for route in held)
    added = tuple(
        np.setdiff1d(np.flatnonzero(route.any(0)), walked) for route, walked in zip(held, steps)
    )
    return Routes(grid, steps, added)


def spot(grid: Grid) -> np.ndarray:
    """Return scores that are highest in the upper right: an example for learned orders."""
    rows, cols = (np.linspace(0, 1, n) for n in grid)
    return -((rows[:, None] - 0.2) ** 2) - (cols[None] - 0.7) ** 2


def _given(score: np.ndarray) -> object:
    """Return a module that scores tokens as given, whatever they hold."""
    import torch

    class Given(torch.nn.Module):
        def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
            padded = np.full(grid, score.min(), dtype=np.float32)
            padded[: score.shape[0], : score.shape[1]] = score
            return torch.from_numpy(padded).flatten()[None]

    return Given()


def describe_order(order: ScanOrder) -> str:
    """Return an order in a few words: its kind and what is set of it."""
    facts = order.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    if order.learned and "levels" not in facts and hasattr(order, "levels"):
        facts = {"levels": list(order.levels), **facts}
    said = "; ".join(f"{key} {_brief(value)}" for key, value in facts.items())
    return f"{order.kind} ({said})" if said else order.kind


def _brief(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@plain_text
def order_figure(order: ScanOrder, routes: Routes) -> Figure:
    """Draw every route of an order on its own map, colored from its first step to its last."""
    grid, count = routes.grid, len(routes.steps)
    columns = min(count, _PER_ROW)
    rows = -(-count // columns)
    wide, tall = (max(1.2, _PANEL * side / max(grid)) for side in reversed(grid))
    notes = _notes(order, routes)
    figure = new_figure(
        max(4.6, columns * (wide + 0.15) + 1.0), rows * (tall + 0.3) + 0.5 + 0.2 * len(notes)
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place < count:
            draw_route(axis, grid, routes.steps[place], routes.added[place])
            axis.set_title(f"route {place + 1} of {count}", fontsize=9, color=INK)
        else:
            axis.set_axis_off()
    figure.suptitle(f"{describe_order(order)}, {grid[0]} x {grid[1]} tokens", color=INK)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=8, color=INK)
    _time_bar(figure, axes, max(len(s) for s in routes.steps))
    return figure


def _notes(order: ScanOrder, routes: Routes) -> list[str]:
    said = []
    if order.learned:
        said.append("chosen per image; here for one with a spot in the upper right")
    if order.parts:
        said.append("the routes share the tokens out among themselves")
    if any(len(a) for a in routes.added):
        said.append("crosses: added onto the token of another step")
    return said


def draw_route(axis: Axes, grid: Grid, steps: np.ndarray, added: np.ndarray) -> None:
    """Draw one route: cells, the path through their middles, its start, its end, its jumps."""
    from matplotlib.collections import LineCollection

    height, width = grid
    rows, cols = np.divmod(steps, width)
    points = np.stack([cols + 0.5, rows + 0.5], axis=1)
    last = max(len(steps) - 1, 1)
    shade = np.full(grid, np.nan)
    shade[rows, cols] = time = np.arange(len(steps))
    axis.pcolormesh(
        np.arange(width + 1), np.arange(height + 1), shade, cmap=time_colors(), vmin=0, vmax=last,
        alpha=0.3, edgecolors=PAPER, linewidth=0.6,
    )  # fmt: skip
    segments = np.stack([points[:-1], points[1:]], axis=1)
    near = np.abs(np.diff(points, axis=0)).max(axis=1) <= 1
    for which, points_wide, style in ((~near, 0.8, (0, (2, 1.5))), (near, 1.8, "solid")):
        lines = LineCollection(
            list(segments[which]), cmap=time_colors(), linewidths=points_wide, linestyles=[style]
        )
        lines.set_array(time[:-1][which])
        lines.set_clim(0, last)
        axis.add_collection(lines)
    if len(steps):
        axis.plot(*points[0], "o", ms=5, mfc=PAPER, mec=INK, zorder=5)
        axis.plot(*points[-1], "s", ms=5, mfc=INK, mec=INK, zorder=5)
    lost_rows, lost_cols = np.divmod(added, width)
    axis.plot(lost_cols + 0.5, lost_rows + 0.5, "x", ms=4, color=FAINT)
    if max(grid) <= NUMBERED:
        size = min(6.5, 72 * _PANEL / max(grid) / 2.6)
        for step, (x, y) in enumerate(points):  # in a corner of the cell, off the path
            axis.text(
                x - 0.46, y + 0.46, str(step + 1), fontsize=size, color=INK, va="bottom", ha="left"
            )
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_color(FAINT)


def _time_bar(figure: Figure, axes: np.ndarray, steps: int) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colors = ScalarMappable(Normalize(1, max(steps, 2)), time_colors())
    bar = figure.colorbar(colors, ax=axes.ravel().tolist(), fraction=0.03, pad=0.01)
    bar.set_label("step", color=INK)
    bar.outline.set_visible(False)


def order_alternative(order: ScanOrder, routes: Routes) -> str:
    """Say in words what the picture shows."""
    height, width = routes.grid
    paths = []
    for number, steps in enumerate(routes.steps, start=1):
        ends = [f"row {t // width + 1} column {t % width + 1}" for t in (steps[0], steps[-1])]
        paths.append(f"route {number} visits {len(steps)} tokens from {ends[0]} to {ends[1]}")
    return f"Scan order {describe_order(order)} on {height} x {width} tokens: {'; '.join(paths)}."
