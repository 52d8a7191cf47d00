"""Results of a study as pictures: score against cost, the course of the search, outcomes."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from nas.evidence.findings import Analysis
from nas.evidence.verdict import Verdict
from nas.evidence.words import plural
from nas.report.drawings.style import COLORS, FAINT, INK, PAPER, new_figure, plain_text
from nas.study.tasks import TOP1, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {
    "flops": ("FLOPs of one image, in 1e9", 1e-9),
    "params": ("parameters, in 1e6", 1e-6),
    "latency_ms": ("measured latency, ms", 1.0),
}
COUNTS = 0.05
"""A choice is seen to count below this p, corrected for all choices."""
MOST_CHOICES = 8
_SIZE = (7.0, 4.6)

Row = dict[str, Any]


@plain_text
def cloud_figure(trials: list[Row], front: list[Row], cost: str, metric: Metric = TOP1) -> Figure:
    """Draw designs by score and cost, the Pareto front, and the published designs by name.

    trials, front: rows with trial, label, score and the cost; those without a score or the cost
    are left out. cost: one of COSTS.
    """
    title, scale = COSTS[cost]
    figure = new_figure(*_SIZE)
    axis = _axis(figure, title, _under_proxy(metric))
    candidates, named = _split([row for row in trials if row[cost] is not None])
    axis.plot(
        [r[cost] * scale for r in candidates], _scores(candidates, metric), "o", ms=5,
        color=COLORS[0], alpha=0.6, mec="none", label="candidates",
    )  # fmt: skip
    corner = sorted((r[cost] * scale, _scale(metric) * r["score"]) for r in front)
    if corner:
        axis.step(*zip(*corner), where="post", color=FAINT, lw=1.3, label="Pareto front")
    for row in named:
        at = (row[cost] * scale, _scale(metric) * row["score"])
        axis.plot(*at, "D", ms=7, mfc=PAPER, mec=INK)
        axis.annotate(row["label"], at, (0, 7), textcoords="offset points", ha="center",
                      fontsize=8, color=INK)  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    return figure


@plain_text
def course_figure(
    trials: list[Row],
    best: list[tuple[int, float]],
    noise: float | None,
    metric: Metric = TOP1,
) -> Figure:
    """Draw scores in the order proposed, and the best so far with the noise of one run."""
    figure = new_figure(*_SIZE)
    axis = _axis(figure, "trial", _under_proxy(metric))
    candidates, named = _split(trials)
    for rows, style, label in (
        (candidates, {"marker": "o", "color": COLORS[0], "alpha": 0.6}, "candidates"),
        (named, {"marker": "D", "mfc": PAPER, "mec": INK}, "published designs"),
    ):
        axis.plot([r["trial"] for r in rows], _scores(rows, metric), ls="none", ms=5,
                  label=label, **style)  # fmt: skip
    if best:
        last = max(r["trial"] for r in trials)
        at = [*(trial for trial, _ in best), last]
        height = [_scale(metric) * score for _, score in [*best, best[-1]]]
        axis.step(at, height, where="post", color=COLORS[5], lw=1.8, label="best so far")
        if noise is not None:
            low, high = ([h + sign * _scale(metric) * noise for h in height] for sign in (-1, 1))
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


@plain_text
def effects_figure(analysis: Analysis, metric: Metric = TOP1) -> Figure:
    """Draw what levels do to the score against their choice's reference, with 95 % intervals.

    The choices with the strongest evidence, `MOST_CHOICES` at most; those that are not seen to
    count are drawn faintly.
    """
    chosen = sorted(analysis.factors, key=lambda f: f.p_holm)[:MOST_CHOICES]
    rows = sum(1 + len(factor.levels) for factor in chosen)
    figure = new_figure(_SIZE[0] + 1, 1.0 + 0.21 * rows)
    scale = _scale(metric)
    points = "points of " if metric.unit == "percent" else ""
    axis = _axis(figure, f"{points}{metric.metric} against the reference level, at equal cost", "")
    axis.axvline(0, color=FAINT, lw=0.8)
    place, ticks = 0, []
    for factor in chosen:
        seen = factor.p_holm < COUNTS
        ticks.append(
            (place, f"{factor.factor} (p {_p(factor.p_holm)}), against {factor.reference}")
        )
        place += 1
        for level in factor.levels:
            ends = [scale * level.low, scale * level.high]
            color = COLORS[0] if seen else FAINT
            axis.plot(ends, [place, place], color=color, lw=1.4, alpha=1.0 if seen else 0.6)
            axis.plot(scale * level.estimate, place, "o", ms=5, color=color)
            ticks.append((place, f"{level.level} ({plural(level.designs, 'design')})"))
            place += 1
    axis.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8, color=INK)
    for label, (_, text) in zip(axis.get_yticklabels(), ticks):
        label.set_fontweight("bold" if ", against " in text else "normal")
    # An interval that says nothing, of a level of one design say, runs out of the picture.
    levels = [level for factor in chosen for level in factor.levels]
    usual = median(level.high - level.low for level in levels)
    reach = 1.2 * scale * (max(abs(level.estimate) for level in levels) + usual / 2)
    axis.set(xlim=(-reach, reach), ylim=(place - 0.3, -0.7))
    return figure


@plain_text
def verdict_figure(verdict: Verdict) -> Figure:
    """Draw the intervals of the leader's differences from the designs it was compared with."""
    percent = verdict.unit == "percent"
    scale = 100.0 if percent else 1.0
    figure = new_figure(_SIZE[0], 1.1 + 0.32 * len(verdict.comparisons))
    what = f"{verdict.leader} minus the other" + (", points" if percent else "")
    axis = _axis(figure, f"{what} ({100 * verdict.level:.0f} % intervals)", "")
    axis.axvline(0, color=FAINT, lw=0.8)
    for place, pair in enumerate(verdict.comparisons):
        color = FAINT if pair.word == "not distinguishable" else COLORS[0]
        axis.plot([scale * pair.low, scale * pair.high], [place, place], color=color, lw=1.6)
        axis.plot(scale * pair.estimate, place, "o", ms=6, color=color)
    names = [f"{pair.other}: {pair.word}" for pair in verdict.comparisons]
    axis.set_yticks(range(len(names)), names, fontsize=8.5, color=INK)
    axis.set_ylim(len(names) - 0.5, -0.5)
    return figure


def _scale(metric: Metric) -> float:
    return 100.0 if metric.unit == "percent" else 1.0


def _scores(rows: list[Row], metric: Metric) -> list[float]:
    return [_scale(metric) * row["score"] for row in rows]


def _under_proxy(metric: Metric) -> str:
    return f"{metric.metric} under the proxy" + (", %" if metric.unit == "percent" else "")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


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
