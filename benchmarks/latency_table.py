"""How far the sum of a design's parts is from the time and memory of the whole network.

    python benchmarks/latency_table.py [--designs 30] [--space hybrid] [--budget 4.5GFLOPs]
        [--device cpu] [--batch 1] [--image-size 224]

Designs are drawn from a space and fitted to the budget, as in a search. The table that a search
would measure for them is measured, then each network is timed whole in the same way, by its fastest
run; it wants a machine that does nothing else. Reported: the relative error of each sum, its mean,
median absolute and largest absolute, the rank correlation, and what the table cost; of memory too.
The figures go to benchmarks/results/latency_table_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

import backbones  # noqa: E402
from backbones.config import BackboneConfig  # noqa: E402
from nas.planning.meters import Times  # noqa: E402
from nas.planning.timing import fastest_ms, kept_bytes, memory_of, this_device  # noqa: E402
from nas.study.budget import parse_budget  # noqa: E402
from search_spaces import SearchSpace, UnreachableError  # noqa: E402
from search_spaces.meters import PieceMeter  # noqa: E402


def designs(space: str, budget: str, count: int, size: int) -> list[BackboneConfig]:
    """Return distinct designs of a space in a budget."""
    searched, limits, rng = (
        SearchSpace.load(space),
        parse_budget([budget]),
        np.random.default_rng(0),
    )
    found: dict[str, BackboneConfig] = {}
    while len(found) < count:
        try:
            config = searched.build(
                searched.sample(rng), limits.bands, image_size=size, convention=limits.convention
            )
        except UnreachableError:
            continue
        found[config.fingerprint()] = config
    return list(found.values())


def error(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Return how far the sums are from what was measured of whole networks."""
    off = [100 * (row[f"{name}_sum"] / row[name] - 1) for row in rows]
    ranks = spearmanr([row[f"{name}_sum"] for row in rows], [row[name] for row in rows])
    return {
        "mean_percent": round(mean(off), 2),
        "median_absolute_percent": round(median(map(abs, off)), 2),
        "largest_absolute_percent": round(max(map(abs, off)), 2),
        "rank_correlation": round(float(ranks.statistic), 4),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and write down; return what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--designs", type=int, default=30)
    parser.add_argument("--space", default="hybrid")
    parser.add_argument("--budget", default="4.5GFLOPs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    asked = parser.parse_args(arguments)
    size, on = asked.image_size, this_device(asked.device, batch=asked.batch)
    times = Times(on)
    kept: dict[str, float] = {}

    def memory(piece: Any) -> float:
        if piece.key not in kept:
            kept[piece.key] = memory_of(piece)
        return kept[piece.key]

    rows, table_s = [], 0.0
    for number, config in enumerate(designs(asked.space, asked.budget, asked.designs, size)):
        widths = [stage.width for stage in config.stages]
        began = time.perf_counter()
        latency_sum = PieceMeter(times.of)(config, size)(widths)
        table_s += time.perf_counter() - began
        model = backbones.create(config).eval().to(on.device)
        image = torch.randn(asked.batch, 3, size, size, device=on.device)
        row = {"latency_sum": latency_sum, "latency": fastest_ms(model, image, on)}
        row["memory_sum"] = PieceMeter(memory)(config, size)(widths)
        row["memory"] = kept_bytes(model, model, image[:1].clone())
        rows.append(row)
        print(
            f"{number + 1:3d}  {row['latency']:9.2f} ms, {row['latency_sum']:9.2f} as a sum;  "
            f"{row['memory'] / 2**20:8.1f} MiB, {row['memory_sum'] / 2**20:8.1f} as a sum",
            flush=True,
        )
    now = datetime.now(timezone.utc)
    report = {
        "date": now.isoformat(timespec="seconds"),
        "on": on.to_dict(),
        **{k: getattr(asked, k) for k in ("space", "budget", "designs", "image_size")},
        "pieces_timed": len(times.known),
        "table_seconds": round(table_s, 1),
        "latency": error(rows, "latency"),
        "memory": error(rows, "memory"),
        "rows": rows,
    }
    print(json.dumps({k: report[k] for k in ("latency", "memory", "pieces_timed")}, indent=1))
    kind = asked.device.partition(":")[0]
    path = asked.results / f"latency_table_{kind}_{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(path)
    return report


if __name__ == "__main__":
    main()
