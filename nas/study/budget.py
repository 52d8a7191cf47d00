"""Budgets: what a user writes after --budget, as bands of cost.

Grammar:  [LOW-]HIGH[K|M|G|T]UNIT  with UNIT one of FLOPs, MACs, params; e.g. 4.5GFLOPs,
4.2-4.5GFLOPs, 30Mparams. Without LOW the band is the top 5 % below HIGH, so that designs are
compared at nearly equal cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nas.errors import BudgetError
from search_spaces.fit import Band

DEFAULT_LOW_SHARE = 0.95
GRAMMAR = "a budget is [LOW-]HIGH[K|M|G|T]UNIT, e.g. 4.5GFLOPs, 4.2-4.5GFLOPs, 5GMACs or 30Mparams"

_PREFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_UNIT = {
    # unit -> metric, counting convention (None: any)
    "flops": ("flops", "fvcore"),
    "macs": ("flops", "macs"),
    "params": ("params", None),
}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_BUDGET = re.compile(
    rf"(?:(?P<low>{_NUMBER})\s*-\s*)?(?P<high>{_NUMBER})\s*(?P<unit>[a-z]*)",
    re.IGNORECASE,
)


class Budget(BaseModel):
    """Bands that every candidate lies in.

    text: as written, one entry per budget. bands: in the same order, in FLOPs or parameters,
    stored with a study: what a text means may change. convention: how FLOPs are counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: tuple[str, ...]
    bands: tuple[Band, ...]
    convention: Literal["fvcore", "macs"]

    def admits(self, *, flops: float, params: float) -> bool:
        """Whether a design of that cost (FLOPs in `convention`) lies in every band."""
        value = {"flops": flops, "params": params}
        return all(band.lo <= value[band.metric] <= band.hi for band in self.bands)


def parse_budget(texts: Sequence[str]) -> Budget:
    """Read one or more budgets.

    Raises: BudgetError for anything ambiguous (a bare number, an unknown unit, an empty or
    inverted band, two budgets on one quantity), with the grammar.
    """
    if not texts:
        raise BudgetError(f"no budget given; {GRAMMAR}")
    bands: list[Band] = []
    conventions: set[str] = set()
    for text in texts:
        band, convention = _parse_one(text)
        if any(b.metric == band.metric for b in bands):
            raise BudgetError(
                f"budget {text!r} limits {band.metric} a second time; write one band, "
                "e.g. 4.2-4.5GFLOPs"
            )
        bands.append(band)
        if convention is not None:
            conventions.add(convention)
    convention = conventions.pop() if conventions else "fvcore"
    return Budget(text=tuple(texts), bands=tuple(bands), convention=convention)


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
    prefix, unit = (written[0], written[1:]) if written[0] in _PREFIX else ("", written)
    if unit not in _UNIT:
        raise BudgetError(f"budget {text!r} has unknown unit {match['unit']!r}; {GRAMMAR}")
    metric, convention = _UNIT[unit]
    scale = _PREFIX[prefix]
    high = float(match["high"]) * scale
    low = float(match["low"]) * scale if match["low"] else DEFAULT_LOW_SHARE * high
    if high <= 0:
        raise BudgetError(f"budget {text!r} is zero; {GRAMMAR}")
    if low >= high:
        raise BudgetError(f"budget {text!r}: the low end must be below the high end; {GRAMMAR}")
    return Band(metric, low, high), convention
