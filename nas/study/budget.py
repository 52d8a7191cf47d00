"""Budgets: what a user writes after --budget, as bands of cost.

Grammar:  [LOW-]HIGH UNIT  with UNIT one of [K|M|G|T]FLOPs, MACs or params, which are counted, and
us, ms, s (of one batch on the latency device) or KiB, MiB, GiB (of activations that training keeps
of one image), which are measured; e.g. 4.5GFLOPs, 4.2-4.5GFLOPs, 30Mparams, 8ms, 150MiB.
Without LOW the band is the top 5 % below HIGH, so that designs are compared at nearly equal cost;
but what is measured is only a limit where something is counted, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nas.errors import BudgetError
from search_spaces.fit import MEASURED, Band

DEFAULT_LOW_SHARE = 0.95
GRAMMAR = (
    "a budget is [LOW-]HIGH[K|M|G|T]UNIT, e.g. 4.5GFLOPs, 4.2-4.5GFLOPs, 5GMACs, 30Mparams, 8ms "
    "or 150MiB"
)

_PREFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_UNIT = {
    # unit -> metric, counting convention (None: any)
    "flops": ("flops", "fvcore"),
    "macs": ("flops", "macs"),
    "params": ("params", None),
}
_MEASURED = {
    # unit -> metric, how much of the band's unit it is
    "us": ("latency", 1e-3),
    "ms": ("latency", 1.0),
    "s": ("latency", 1e3),
    "kib": ("memory", 2.0**10),
    "mib": ("memory", 2.0**20),
    "gib": ("memory", 2.0**30),
}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_BUDGET = re.compile(
    rf"(?:(?P<low>{_NUMBER})\s*-\s*)?(?P<high>{_NUMBER})\s*(?P<unit>[a-z]*)",
    re.IGNORECASE,
)


class Budget(BaseModel):
    """Bands that every candidate lies in.

    text: as written, one entry per budget, what is counted first. bands: in the same order, in
    FLOPs, parameters, ms or bytes, stored with a study: what a text means may change. convention:
    how FLOPs are counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: tuple[str, ...]
    bands: tuple[Band, ...]
    convention: Literal["fvcore", "macs"]

    def admits(self, **spent: float) -> bool:
        """Whether a design of that cost (flops in `convention`, params, ...) lies in every band."""
        return all(band.lo <= spent[band.metric] <= band.hi for band in self.bands)


def parse_budget(texts: Sequence[str]) -> Budget:
    """Read one or more budgets.

    Raises: BudgetError for anything ambiguous (a bare number, an unknown unit, an empty or
    inverted band, two budgets on one quantity), with the grammar.
    """
    if not texts:
        raise BudgetError(f"no budget given; {GRAMMAR}")
    found: list[tuple[str, Band]] = []
    conventions: set[str] = set()
    for text in texts:
        band, convention = _parse_one(text)
        if any(b.metric == band.metric for _, b in found):
            raise BudgetError(
                f"budget {text!r} limits {band.metric} a second time; write one band, "
                "e.g. 4.2-4.5GFLOPs"
            )
        found.append((text, band))
        if convention is not None:
            conventions.add(convention)
    found.sort(key=lambda one: one[1].metric in MEASURED)
    first = found[0][1]
    bands = [_limit(text, b) if b is not first else b for text, b in found]
    convention = conventions.pop() if conventions else "fvcore"
    return Budget(text=tuple(t for t, _ in found), bands=tuple(bands), convention=convention)


def _limit(text: str, band: Band) -> Band:
    """Return a band beside another one: of what is measured, the upper end alone is stated."""
    if band.metric not in MEASURED or "-" in text:
        return band
    return Band(band.metric, 0.0, band.hi)


def _parse_one(text: str) -> tuple[Band, str | None]:
    stripped = text.strip()
    if stripped.startswith("-"):
        raise BudgetError(f"budget {text!r} is negative; {GRAMMAR}")
    match = _BUDGET.fullmatch(stripped)
    if match is None:
        raise BudgetError(f"cannot read budget {text!r}; {GRAMMAR}")
    written = match["unit"].lower()
    if written in ("", *_PREFIX):
        raise BudgetError(f"budget {text!r} has no unit; {GRAMMAR}")
    metric, scale, convention = _meaning(written, text, match["unit"])
    high = float(match["high"]) * scale
    low = float(match["low"]) * scale if match["low"] else DEFAULT_LOW_SHARE * high
    if high <= 0:
        raise BudgetError(f"budget {text!r} is zero; {GRAMMAR}")
    if low >= high:
        raise BudgetError(f"budget {text!r}: the low end must be below the high end; {GRAMMAR}")
    return Band(metric, low, high), convention


def _meaning(unit: str, text: str, written: str) -> tuple[str, float, str | None]:
    """Return the metric of a unit, its size, and the convention that it implies."""
    if unit in _MEASURED:
        return *_MEASURED[unit], None
    prefix, counted = (unit[0], unit[1:]) if unit[0] in _PREFIX else ("", unit)
    if counted not in _UNIT:
        raise BudgetError(f"budget {text!r} has unknown unit {written!r}; {GRAMMAR}")
    metric, convention = _UNIT[counted]
    return metric, _PREFIX[prefix], convention
