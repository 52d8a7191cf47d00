"""The designs that the reliability benchmark trains: a base, and what differs from it.

Each kind of choice varies against the same base at two depths, so that 36 runs serve every test;
the extension holds more levels of some choices. All are fitted to 4.5 GFLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backbones.config import BackboneConfig
from search_spaces.fit import Band, fit_widths

GFLOPS = 4.5
SHALLOW, DEEP = (2, 2, 2, 2), (2, 2, 8, 2)


@dataclass(frozen=True)
class Design:
    """A design by its choices. `first` is the mixer of stages 1 and 2, as in QuadMamba."""

    first: str = "quadtree"
    levels: tuple[int, ...] = (2, 4)
    shift: bool = False
    d_state: int = 1
    depths: tuple[int, ...] = SHALLOW

    @property
    def name(self) -> str:
        """A short name that tells every choice."""
        parts = [self.first]
        if self.first == "quadtree":
            parts.append("-".join(map(str, self.levels)))
        parts += ["shift"] * self.shift + [f"N{self.d_state}"] * (self.d_state > 1)
        return " ".join([*parts, "deep" if self.depths == DEEP else "shallow"])

    def config(self) -> BackboneConfig:
        """Return the design at 4.5 GFLOPs (224 px, fvcore)."""
        gated: dict[str, Any] = {"mixer": {"kind": "gated_conv"}}
        ffn = {"ratio": 4.0}
        first: Any = self.first
        if first == "quadtree":
            first = {"kind": "quadtree", "levels": list(self.levels)}
        early: dict[str, Any] = {"order": first, "d_state": self.d_state}
        if self.shift:
            early["shift"] = "omni"
        blocks: dict[str, Any] = {
            "q": {"mixer": {"kind": "ssm", **early}, "ffn": ffn},
            "s": {"mixer": {"kind": "ssm", "order": "cross", "d_state": self.d_state}, "ffn": ffn},
            "g": gated,
        }
        patterns = ["q", "q", "s", "s"]
        if self.first in ("gated_conv", "mixed"):
            blocks["q"]["mixer"]["order"] = {"kind": "quadtree", "levels": list(self.levels)}
            patterns = ["g"] * 4 if self.first == "gated_conv" else ["qg", "qg", "sg", "sg"]
        stages = [
            {"width": 64 * 2**i, "depth": depth, "pattern": pattern}
            | ({"downsample": "conv3x3"} if i else {})
            for i, (depth, pattern) in enumerate(zip(self.depths, patterns))
        ]
        used = set("".join(patterns))
        raw = {"blocks": {k: v for k, v in blocks.items() if k in used}, "stages": stages}
        config = BackboneConfig.model_validate(raw)
        limit = GFLOPS * 1e9
        return fit_widths(config, [Band("flops", 0.95 * limit, limit)])


def crossed(**choices: Any) -> list[Design]:
    """Return a design at both depths."""
    return [Design(**choices, depths=depths) for depths in (SHALLOW, DEEP)]


# Each kind of choice varies against the same base, at two depths: 36 runs serve all.
PANEL: list[Design] = [
    *crossed(),
    *crossed(first="gated_conv"),
    *crossed(first="cross"),
    *crossed(levels=(4, 8)),
    *crossed(shift=True),
    *crossed(d_state=8),
]

EXTENSION: list[Design] = [
    Design(first="mixed"),
    *(Design(first=order) for order in ("bidirectional", "snake", "hilbert")),
    *(Design(levels=levels) for levels in ((2, 8), (2, 4, 8))),
]

KINDS = ("mixer", "depth", "scan order", "quadtree resolutions", "shift", "d_state")


def level_of(kind: str, d: Design) -> tuple[str, Any] | None:
    """Return (level, block) of a design in the test of `kind`, None where it takes no part.

    Designs of one block differ in that choice alone.
    """
    ordered = d.first not in ("gated_conv", "mixed")
    plain = d.levels == (2, 4) and not d.shift and d.d_state == 1
    if kind == "depth":
        return "-".join(map(str, d.depths)), (d.first, d.levels, d.shift, d.d_state)
    if kind == "mixer":
        if not plain or d.first not in ("quadtree", "gated_conv", "mixed"):
            return None
        return {"quadtree": "ssm"}.get(d.first, d.first), d.depths
    if kind == "scan order":
        return (d.first, d.depths) if ordered and plain else None
    if d.first != "quadtree":
        return None
    if kind == "quadtree resolutions":
        fits = not d.shift and d.d_state == 1
        return ("-".join(map(str, d.levels)), d.depths) if fits else None
    if d.levels != (2, 4):
        return None
    if kind == "shift":
        return ("omni" if d.shift else "none", d.depths) if d.d_state == 1 else None
    return (str(d.d_state), d.depths) if not d.shift else None
