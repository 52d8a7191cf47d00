"""How fast feasible, distinct designs are made: drawn, fitted, costed and hashed.

    python benchmarks/proposals.py [--designs 1000] [--rounds 5]

Cases: the quadtree space at 4.5 GFLOPs; with a bound on parameters too; a space without `fit`,
whose draws are repaired into the band. Figures are designs per second of processor time of one
core, so that other work on the machine disturbs them little; the cases take turns, and medians
are taken over the rounds. The first round, in which the rules of parts are first asked, is
reported apart. The figures go to benchmarks/results/proposals_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from search_spaces import Band, SearchSpace, SpaceError  # noqa: E402
from search_spaces.costs import WidthCosts  # noqa: E402
from search_spaces.rows import Rows  # noqa: E402

OPERATIONS = Band("flops", 0.95 * 4.5e9, 4.5e9)
PARAMETERS = Band("params", 0.8 * 30e6, 30e6)
AT_ONCE = 1000
"""Points drawn together, as strategies that compare many do (`search_spaces.rows`)."""
REPAIRED_SHARE = 20
"""Of a space without fit, a design in so many is made: each takes a search."""


def rate(
    space: SearchSpace, bands: list[Band], designs: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return distinct designs per second of processor time, and the share of draws that fitted."""
    seen: set[str] = set()
    rows, drawn, draws = Rows(space), [], 0
    began = time.process_time()
    while len(seen) < designs:
        if not drawn:
            drawn = [rows.point(row) for row in rows.sample(min(designs, AT_ONCE), rng)]
        point = drawn.pop()
        draws += 1
        try:
            if not space.fits_widths:
                point = space.repair(point, bands, rng)
            config = space.build(point, bands)
        except SpaceError:
            continue
        params, flops = WidthCosts(config, 224, "fvcore")([s.width for s in config.stages])
        spent = {"params": params, "flops": flops}
        assert all(band.lo <= spent[band.metric] <= band.hi for band in bands)
        seen.add(config.fingerprint())
    return designs / (time.process_time() - began), designs / draws


def cases(designs: int) -> dict[str, Callable[[np.random.Generator], tuple[float, float]]]:
    """Return what is measured, by name."""
    quadtree = SearchSpace.load("quadtree")
    free = SearchSpace.from_text(quadtree.source_text.split("\nfit:")[0] + "\n")
    return {
        "quadtree, 4.5 GFLOPs": lambda rng: rate(quadtree, [OPERATIONS], designs, rng),
        "quadtree, 4.5 GFLOPs and 30 M parameters": lambda rng: rate(
            quadtree, [OPERATIONS, PARAMETERS], designs // 4, rng
        ),
        "quadtree without fit, 4.5 GFLOPs": lambda rng: rate(
            free, [OPERATIONS], max(1, designs // REPAIRED_SHARE), rng
        ),
    }


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    measured = cases(asked.designs)
    rates: dict[str, list[float]] = {name: [] for name in measured}
    fitted: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(asked.rounds + 1):
        for name, measure in measured.items():
            per_second, share = measure(np.random.default_rng(turn))
            rates[name].append(per_second)
            fitted[name].append(share)
    figures = {
        name: {
            "designs_per_second": round(median(rates[name][1:]), 1),
            "lowest": round(min(rates[name][1:]), 1),
            "highest": round(max(rates[name][1:]), 1),
            "first_round": round(rates[name][0], 1),
            "share_of_draws_that_fit": round(median(fitted[name]), 3),
        }
        for name in measured
    }
    for name, row in figures.items():
        print(f"{name:44s}{row['designs_per_second']:10,.0f} a second")
    now = datetime.now(timezone.utc)
    report = {
        "date": now.isoformat(timespec="seconds"),
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "pydantic")},
        "designs": asked.designs,
        "rounds": asked.rounds,
        "figures": figures,
    }
    path = ROOT / "benchmarks" / "results" / f"proposals_{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
