"""Results of a study as pictures: score against cost, the course of the search, outcomes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nas.report.drawings.style import COLORS, FAINT, INK, PAPER, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {"flops": ("FLOPs of one image, in 1e9", 1e-9), "params": ("parameters, in 1e6", 1e-6)}
_SIZE = (7.0, 4.6)

Row = dict[str, Any]


@plain_text
def cloud_figure(trials: list[Row], front: list[Row], cost: str) -> Figure:
    """Draw designs by score and cost, the Pareto front, and the published designs by name.

    trials, front: rows with trial, label, score, flops and params; those without a score are
    left out. cost: one of COSTS.
    """
    title, scale = COSTS[cost]
    figure = new_figure(*_SIZE)
    axis = _axis(figure, title, "top-1 under the proxy, %")
    candidates, named = _split(trials)
    axis.plot(
        [r[cost] * scale for r in candidates], [100 * r["score"] for r in candidates], "o", ms=5,
        color=COLORS[0], alpha=0.6, mec="none", label="candidates",
    )  # fmt: skip
    corner = sorted((r[cost] * scale, 100 * r["score"]) for r in front)
    if corner:
        axis.step(*zip(*corner), where="post", color=FAINT, lw=1.3, label="Pareto front")
    for row in named:
        at = (row[cost] * scale, 100 * row["score"])
        axis.plot(*at, "D", ms=7, mfc=PAPER, mec=INK)
        axis.annotate(row["label"], at, (0, 7), textcoords="offset points", ha="center",
                      fontsize=8, color=INK)  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    return figure


@plain_text
def course_figure(trials: list[Row], best: list[tuple[int, float]], noise: float | None) -> Figure:
    """Draw scores in the order proposed, and the best so far with the noise of one run."""
    figure = new_figure(*_SIZE)
    axis = _axis(figure, "trial", "top-1 under the proxy, %")
    candidates, named = _split(trials)
    for rows, style, label in (
        (candidates, {"marker": "o", "color": COLORS[0], "alpha": 0.6}, "candidates"),
        (named, {"marker": "D", "mfc": PAPER, "mec": INK}, "published designs"),
    ):
        axis.plot([r["trial"] for r in rows], [100 * r["score"] for r in rows], ls="none", ms=5,
                  label=label, **style)  # fmt: skip
    if best:
        last = max(r["trial"] for r in trials)
        at = [*(trial for trial, _ in best), last]
        height = [*(100 * score for _, score in best), 100 * best[-1][1]]
        axis.step(at, height, where="post", color=COLORS[5], lw=1.8, label="best so far")
        if noise is not None:
            low, high = ([h + sign * 100 * noise for h in height] for sign in (-1, 1))
            axis.fill_between(at, low, high, step="post", color=COLORS[5], alpha=0.18, lw=0,
                              label="noise of one run")  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    return figure


@plain_text
def outcomes_figure(trials: list[Row]) -> Figure:
    """Draw how many trials ended, or are, in which way."""
    counts = Counter(row["state"] for row in trials).most_common()
    figure = new_figure(_SIZE[0], 0.9 + 0.4 * len(counts))
    axis = _axis(figure, "trials", "")
    bars = axis.barh([state for state, _ in counts], [n for _, n in counts], color=COLORS[0])
    axis.bar_label(bars, padding=3, fontsize=8, color=INK)
    axis.invert_yaxis()
    return figure


def _axis(figure: Figure, x: str, y: str) -> Axes:
    axis = figure.subplots()
    axis.set_xlabel(x, color=INK)
    axis.set_ylabel(y, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=FAINT, alpha=0.2, lw=0.6)
    axis.set_axisbelow(True)
    return axis


def _split(trials: list[Row]) -> tuple[list[Row], list[Row]]:
    scored = [row for row in trials if row["score"] is not None]
    return [r for r in scored if r["label"] is None], [r for r in scored if r["label"] is not None]
