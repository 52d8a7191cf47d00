"""Latency and memory over the input's size as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.report.drawings.style import COLORS, FAINT, new_figure, plain_text, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (10.0, 4.6)


@plain_text
def sweep_figure(report: dict[str, Any]) -> Figure:
    """Draw milliseconds an image and peak memory against the side, a line for each series.

    report: of `nas.report.sweep.sweep`. Compiled models are dashed; crossings are marked.
    """
    figure = new_figure(*_SIZE)
    time, memory = figure.subplots(1, 2)
    names = [m["model"] for m in report["models"]]
    series: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for point in report["points"]:
        series.setdefault((point["model"], point["mode"], point["batch"]), []).append(point)
    several = len({key[1:] for key in series}) > 1
    for (name, mode, batch), points in series.items():
        label = f"{name}, {mode}, batch {batch}" if several else name
        style: dict[str, Any] = {
            "color": COLORS[names.index(name) % len(COLORS)],
            "linestyle": "--" if mode == "compiled" else "-",
            "marker": "o",
            "markersize": 4,
            "label": label,
        }
        done = [p for p in points if p["failed"] is None]
        sides = [math.sqrt(math.prod(p["size"])) for p in done]
        time.plot(sides, [p["latency_ms"] / p["batch"] for p in done], **style)
        peaks = [(side, p["peak_mb"]) for side, p in zip(sides, done) if p["peak_mb"] is not None]
        if peaks:
            memory.plot(*zip(*peaks), **style)
    for crossing in report["crossings"]:
        if crossing["side"]:
            time.axvline(crossing["side"], color=FAINT, linestyle=":", linewidth=1)
    ticks = sorted({round(math.sqrt(math.prod(p["size"]))) for p in report["points"]})
    held = "of a batch" if report["device"] != "cpu" else "of the process"
    for axis, title in ((time, "milliseconds an image"), (memory, f"peak memory {held}, MB")):
        axis.set(xscale="log", xlabel="side of the image, pixels", title=title)
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
        axis.minorticks_off()
        axis.grid(color="#e3e6ec", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    time.set_yscale("log")
    time.yaxis.set_major_formatter("{x:g}")
    time.yaxis.set_minor_formatter("{x:g}")
    time.legend(frameon=False, fontsize=8)
    return figure


def draw_sweep(report: dict[str, Any], path: Path) -> Path:
    """Write the picture, with the crossings as its alternative; errors as `style.save`."""
    said = "; ".join(crossing["sentence"] for crossing in report["crossings"])
    names = ", ".join(m["model"] for m in report["models"])
    alternative = f"Latency and memory over the size of the image: {names}. {said}"
    return save(sweep_figure(report), path, title=f"Sweep of {names}", alternative=alternative)
