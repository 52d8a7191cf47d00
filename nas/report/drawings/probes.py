"""What orders and blocks can carry, as a picture: a panel a task, controls hollow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.evidence.findings import Probe
from nas.report.drawings.style import COLORS, FAINT, INK, PAPER, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plain_text
def probe_figure(found: Sequence[Probe]) -> Figure:
    """Draw each subject's skill with the interval of its lead over the control it is put against.

    found: a probe a task, with names as they are to be read.
    """
    rows = max(len(p.rows) for p in found)
    figure = new_figure(1.2 + 4.6 * len(found), 1.2 + 0.3 * rows)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, one in zip(axes, found):
        base = next((r.mean for r in one.rows if r.name == one.against), 0.0)
        axis.axvline(base, color=FAINT, lw=0.8)
        for place, row in enumerate(one.rows):
            color = FAINT if row.control else COLORS[0]
            if row.lead is not None:
                ends = [base + row.lead.low, base + row.lead.high]
                axis.plot(ends, [place, place], color=color, lw=1.5)
            face = PAPER if row.control else color
            axis.plot(row.mean, place, "o", ms=6, mfc=face, mec=color, mew=1.4)
        names = [r.name for r in one.rows]
        axis.set_yticks(range(len(names)), names, fontsize=8.5, color=INK)
        for label, row in zip(axis.get_yticklabels(), one.rows):
            label.set_fontstyle("italic" if row.control else "normal")
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(one.task, fontsize=10, color=INK, loc="left")
        axis.set_xlabel("skill (0 a constant answer, 1 perfect)", color=INK, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=FAINT, alpha=0.2, lw=0.6)
        axis.set_axisbelow(True)
    return figure
