"""The designs that the reliability benchmark trains: VMamba-T, and what differs from it.

Each design differs from the base in one kind of choice, so that one run of the base serves every
test; all are fitted to 4.5 GFLOPs. Base: VMamba-T[s1l8] (arXiv 2401.10166): cross scan, one state,
depths 2-2-8-2, a 3 x 3 depthwise convolution before the scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from backbones.config import BackboneConfig
from nas.evidence.panel import Published
from nas.study.recipe import Recipe
from search_spaces.fit import Band, fit_widths

GFLOPS = 4.5
RATES = (0.5, 1.0, 2.0)  # of the recipe's learning rate

# Routes of all SSM blocks: equally many, so that orders have equal parameters.
ORDERS: dict[str, Any] = {
    "cross": "cross",
    "rows": {"kind": "routes", "routes": ["h"] * 4},
    "rows both ways": {"kind": "routes", "routes": ["h", "h_flip"] * 2},
    "hilbert": "hilbert",
}
# Pixels a side of the windows of QuadMamba's ablation, whose first map has 56 tokens a side.
_PUBLISHED_SIDE = 56
LETTERS = {"s": "ssm", "g": "gated_conv", "m": "mixed"}


@dataclass(frozen=True)
class Design:
    """A design by its choices.

    mixers: of each stage: s SSM, g gated convolution (MambaOut's block), m both in turn. order: of
    all SSM blocks, see `ORDERS`. levels: of a quadtree in stages 1 and 2. windows: scanned there in
    their place, tokens a side of a map of 56; 0 scans rows both ways, with as many routes (two).
    conv: kernel before the scan. rate: times the recipe's learning rate.
    """

    mixers: str = "ssss"
    order: str = "cross"
    levels: tuple[int, ...] = ()
    windows: int | None = None
    shift: str | None = None
    d_state: int = 1
    depths: tuple[int, ...] = (2, 2, 8, 2)
    conv: int | None = 3
    rate: float = 1.0

    @property
    def name(self) -> str:
        """A short name that tells what differs from the base."""
        parts = [] if self.mixers == "ssss" else [self.mixers]
        parts += [] if self.order == "cross" else [self.order]
        parts += ["quadtree " + text(self.levels)] if self.levels else []
        parts += [] if self.windows is None else [f"windows {self.windows or 'none'}"]
        parts += [f"shift {self.shift}"] if self.shift else []
        parts += [f"N{self.d_state}"] if self.d_state > 1 else []
        parts += [] if self.depths == BASE.depths else [text(self.depths)]
        parts += [] if self.conv == 3 else [f"conv {self.conv or 'none'}"]
        parts += [] if self.rate == 1 else [f"lr x{self.rate:g}"]
        return " ".join(parts) or "base"

    def config(self) -> BackboneConfig:
        """Return the design at 4.5 GFLOPs (224 px, fvcore), windows not yet cut."""
        ffn = {"ratio": 4.0}
        own: dict[str, Any] = {"kind": "ssm", "expand": 1.0, "d_state": self.d_state}
        own["conv"] = None if self.conv is None else {"kernel": self.conv}
        early = own | {"order": ORDERS[self.order]}
        if self.levels:
            early["order"] = {"kind": "quadtree", "levels": list(self.levels)}
        if self.windows is not None:
            early["order"] = {"kind": "routes", "routes": ["h", "h_flip"]}
        if self.shift:
            early["shift"] = {"direction": self.shift}
        blocks: dict[str, Any] = {
            "q": {"mixer": early, "ffn": ffn},
            "s": {"mixer": own | {"order": ORDERS[self.order]}, "ffn": ffn},
            "g": {"mixer": {"kind": "gated_conv"}},
        }
        stages = []
        for i, (depth, kind) in enumerate(zip(self.depths, self.mixers)):
            letter = "q" if i < 2 else "s"
            pattern = {"s": letter, "g": "g", "m": letter + "g"}[kind]
            stage = {"width": 64 * 2**i, "depth": depth, "pattern": pattern}
            stages.append(stage | ({"downsample": "conv3x3"} if i else {}))
        used = set("".join(str(s["pattern"]) for s in stages))
        config = BackboneConfig.model_validate(
            {"blocks": {k: v for k, v in blocks.items() if k in used}, "stages": stages}
        )
        limit = GFLOPS * 1e9
        return fit_widths(config, [Band("flops", 0.95 * limit, limit)])

    def cut(self, scaled: BackboneConfig, grid: int) -> BackboneConfig:
        """Return the scaled-down design with its windows, the same share of the first map.

        A window as wide as published would hold most of the proxy's map, and one that does not
        divide it would pad: windows are cut after the widths are found.
        """
        if not self.windows:
            return scaled
        tokens = max(2, round(self.windows * grid / _PUBLISHED_SIDE))
        raw = scaled.to_dict()
        order = {"kind": "routes", "routes": [f"w{tokens}", f"w{tokens}_flip"]}
        for letter in set(scaled.stages[0].letters + scaled.stages[1].letters):
            raw["blocks"][letter]["mixer"]["order"] = order
        return BackboneConfig.model_validate(raw)


def text(numbers: tuple[int, ...]) -> str:
    """Return "2-4" of (2, 4)."""
    return "-".join(map(str, numbers))


BASE = Design()
QUADTREE = replace(BASE, levels=(2, 4))
MIXERS = [BASE, replace(BASE, mixers="gggg"), replace(BASE, mixers="mmmm")]

# Of each kind of choice its levels, by the label that a table shows; they differ in it alone.
LEVELS: dict[str, dict[str, Design]] = {
    "mixer": {LETTERS[d.mixers[0]]: d for d in MIXERS},
    "mixer by stage": {
        " ".join(m): replace(BASE, mixers=m) for m in ("ssss", "ggss", "ssgg", "gggg")
    },
    "scan order": {o: replace(BASE, order=o) for o in ORDERS},
    "windows": {str(w or "none"): replace(BASE, windows=w) for w in (0, 14, 2)},
    "quadtree resolutions": {text(v): replace(BASE, levels=v) for v in ((2, 4), (4, 8), (2, 4, 8))},
    "shift": {
        "none": QUADTREE,
        "one": replace(QUADTREE, shift="down_right"),
        "omni": replace(QUADTREE, shift="omni"),
    },
    "d_state": {str(n): replace(BASE, d_state=n) for n in (1, 4, 16)},
    "depth": {
        text(d): replace(BASE, depths=d)
        for d in ((2, 2, 8, 2), (2, 2, 2, 2), (2, 8, 2, 2), (2, 2, 2, 8))
    },
    "local convolution": {"3": BASE, "none": replace(BASE, conv=None)},
}
# Each mixer at its best learning rate: compared as `mixer` is, at the best of these.
RATED: dict[str, list[Design]] = {
    LETTERS[d.mixers[0]]: [replace(d, rate=rate) for rate in RATES] for d in MIXERS
}
AT_BEST_RATE = "mixer, each at its best learning rate"

# The kinds of choice that each shipped space around the base has.
SPACES: dict[str, tuple[str, ...]] = {
    "quadtree": ("mixer", AT_BEST_RATE, "mixer by stage", "scan order", "windows",
                 "quadtree resolutions", "shift", "d_state", "depth"),
    "vmamba": ("scan order", "d_state", "depth", "local convolution"),
    "hybrid": ("mixer", AT_BEST_RATE, "mixer by stage", "scan order", "windows",
               "quadtree resolutions", "shift", "d_state", "depth", "local convolution"),
}  # fmt: skip

_VMAMBA, _QUADMAMBA, _MAMBAOUT = "arXiv 2401.10166", "arXiv 2410.06806", "arXiv 2405.07992"
_MAPS = ("dense", "reconstruct")

# Whose direction is published; tasks: where it holds. Values are top-1 unless said otherwise.
DIRECTIONS: list[Published] = [
    Published("scan order", "cross", "rows", f"VMamba {_VMAMBA}, table 10: 82.60 to 82.26", True),
    Published("scan order", "cross", "rows both ways",
              f"VMamba {_VMAMBA}, table 10: 82.60 to 82.49"),
    Published("windows", "14", "none",
              f"QuadMamba {_QUADMAMBA}, table 4: 73.5 to 72.2, box AP 35.8 to 33.1", True),
    Published("windows", "14", "2",
              f"QuadMamba {_QUADMAMBA}, table 4: 73.5 to 72.4, box AP 35.8 to 33.4"),
    Published("mixer", "ssm", "gated_conv",
              f"MambaOut {_MAMBAOUT}: VMamba-T over MambaOut-T, box AP +1.4 to +2.3", True, _MAPS),
    Published(AT_BEST_RATE, "ssm", "gated_conv",
              f"MambaOut {_MAMBAOUT}: VMamba-T over MambaOut-T, box AP +1.4 to +2.3", True, _MAPS),
    Published("mixer", "gated_conv", "ssm",
              f"MambaOut {_MAMBAOUT}: MambaOut-T over VMamba-T, +0.1 to +0.5", False,
              ("classify",)),
    Published("quadtree resolutions", "2-4", "4-8", f"QuadMamba {_QUADMAMBA}: 73.8 to 73.6"),
    Published("shift", "omni", "none", f"QuadMamba {_QUADMAMBA}: 74.0 to 73.8"),
    Published("depth", "2-2-8-2", "2-2-2-2",
              f"VMamba {_VMAMBA}: stage 3 of 8 blocks over 5, 82.60 to 81.87 (FLOPs differ)"),
    Published("depth", "2-2-8-2", "2-8-2-2",
              f"QuadMamba {_QUADMAMBA}: 82.0 to 81.5 (FLOPs differ)"),
    Published("depth", "2-2-8-2", "2-2-2-8",
              f"QuadMamba {_QUADMAMBA}: 82.0 to 81.8 (FLOPs differ)"),
    Published("d_state", "4", "1", f"VMamba {_VMAMBA}: 82.51 to 82.49"),
    Published("d_state", "1", "16", f"VMamba {_VMAMBA}: 82.49 to 82.31"),
    Published("local convolution", "3", "none", f"VMamba {_VMAMBA}, table 10: 82.60 to 82.25"),
]  # fmt: skip


def panel() -> list[Design]:
    """Return every design once, those that the binding directions need first."""

    def every() -> Iterator[Design]:
        yield BASE
        for kind in ("mixer", "scan order", "windows", *LEVELS):
            yield from LEVELS[kind].values()
        for designs in RATED.values():
            yield from designs

    return list(dict.fromkeys(every()))


def rated(recipe: Recipe, design: Design) -> Recipe:
    """Return the recipe at a design's learning rate."""
    return recipe.model_copy(update={"lr": recipe.lr * design.rate})
