"""Numbers and commands as people read and type them."""

from __future__ import annotations

import sys
from pathlib import Path

from nas.study.tasks import TOP1, Metric

INSTALLED = "scannas"


def invoked_as() -> str:
    """Return how this program was called, to name its next command in the same way."""
    return INSTALLED if Path(sys.argv[0]).stem == INSTALLED else "python cli.py"


def giga(flops: float | None) -> str:
    """Format operations in units of 1e9."""
    return "-" if flops is None else f"{flops / 1e9:.3f}G"


def mega(params: float | None) -> str:
    """Format a parameter count in units of 1e6."""
    return "-" if params is None else f"{params / 1e6:.2f}M"


def percent(share: float | None, digits: int = 2) -> str:
    """Format a share in 0..1 as a percentage."""
    return "-" if share is None else f"{100 * share:.{digits}f}%"


def scored(score: float | None, metric: Metric = TOP1, digits: int = 2) -> str:
    """Format a score as its metric is read."""
    if score is None or metric.unit == "percent":
        return percent(score, digits)
    return f"{score:.{digits + 2}f}"


def duration(seconds: float | None) -> str:
    """Format a time span: 12 s, 3 min, 2.5 h."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
