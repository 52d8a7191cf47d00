"""Which scan orders a proxy can tell apart: single-stage networks, equal routes and parameters.

Trains one small network per scan order and seed on `relations` and on `reconstruct`, each a stack
of scans without local convolution or positions, so that the order alone carries space. Asks how
much of the variance of scores lies between orders (intraclass correlation, paired by seed), and
whether orders, and quadtree resolutions, differ at all (F test, Holm over all of them).

    python benchmarks/proxy_sees.py                  # 8 orders and 3 quadtrees x 5 seeds x 2 tasks
    python benchmarks/proxy_sees.py --task relations --seeds 2
    python benchmarks/proxy_sees.py --report         # no training: read what was measured

Every run is appended to a file as it ends, and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nas.evidence.agreement import icc_same_seed  # noqa: E402
from nas.evidence.intervals import holm  # noqa: E402
from nas.evidence.levels import LevelRun, level_test  # noqa: E402
from nas.study.orders import read_order  # noqa: E402
from nas.training.probes import (  # noqa: E402
    CONTROLS,
    ProbeTask,
    equal_routes,
    network,
    recipe,
    ssm,
)  # fmt: skip

RESULTS = ROOT / "benchmarks" / "results" / "proxy_sees.jsonl"
SEEDS = 5
BARS: dict[ProbeTask, float] = {"relations": 0.8, "reconstruct": 0.6}


# Four routes each, so that all have the same parameters; the first two along one axis, twice.
ORDERS: dict[str, dict[str, Any]] = {
    name: equal_routes(read_order(text)).model_dump()
    for name, text in {
        "rows": "bidirectional",
        "columns": "{kind: routes, routes: [v, v_flip]}",
        "cross": "cross",
        "snake": "snake",
        "hilbert": "hilbert",
        "zorder": "zorder",
        "windows and rows": "{kind: routes, routes: [w4, w4_flip, h, h_flip]}",
    }.items()
} | {"random": CONTROLS["random routes"]}
# Two routes each, chosen per image.
QUADTREES: dict[str, dict[str, Any]] = {
    "quadtree 2-4": {"kind": "quadtree", "levels": [2, 4]},
    "quadtree 4-8": {"kind": "quadtree", "levels": [4, 8]},
    "quadtree 2-4-8": {"kind": "quadtree", "levels": [2, 4, 8]},
}


def train(
    name: str, task: ProbeTask, threads: int, seed: int, conv: int | None = None
) -> dict[str, Any]:
    """Train an order with a seed; return what is stored of it."""
    from nas.training.run import train_proxy

    how = recipe(task, threads=threads)
    config = network(task, ssm((ORDERS | QUADTREES)[name], conv))
    result = train_proxy(config, how, seed=seed, device="cpu", report=lambda metrics: None)
    return {
        "order": name,
        "task": task,
        "seed": seed,
        "conv": conv,
        "score": result.score,
        "scores": result.scores,
        "params": result.proxy_params,
        "seconds": round(result.seconds, 1),
        "backend": result.backend,
        "load": round(os.getloadavg()[0], 1),
        "recipe": how.fingerprint(),
    }


def read(path: Path, conv: int | None) -> list[dict[str, Any]]:
    """Return the stored runs of the recipes as they are now."""
    known = {recipe(task).fingerprint() for task in BARS}
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["recipe"] in known and row["conv"] == conv]


def measures(rows: list[dict[str, Any]]) -> dict[str, dict[tuple[str, int], float]]:
    """Return, for the score and each of its parts, the value of every (order, seed)."""
    parts = [k for k in rows[0]["scores"] if k not in ("loss", "top1", "miou", "likelihood")]
    return {p: {(r["order"], r["seed"]): r["scores"][p] for r in rows} for p in parts}


def report(rows: list[dict[str, Any]]) -> None:
    """Print a table per task, and the tests."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    tests: list[tuple[str, float, float]] = []
    for task, bar in BARS.items():
        mine = [row for row in rows if row["task"] == task]
        if not mine:
            continue
        found = measures(mine)
        table = Table("order", *found, "params", "s", title=task)
        for name in dict.fromkeys(row["order"] for row in mine):
            own = [row for row in mine if row["order"] == name]
            cells = [
                f"{statistics.mean(v):.3f} ({min(v):.2f} to {max(v):.2f})"
                for v in ([row["scores"][part] for row in own] for part in found)
            ]
            seconds = statistics.median(row["seconds"] for row in own)
            table.add_row(name, *cells, str(own[0]["params"]), f"{seconds:.0f}")
        console.print(table)
        for part, values in found.items():
            for family, names in (("orders", ORDERS), ("quadtree resolutions", QUADTREES)):
                seeds = [s for s in range(SEEDS) if all((n, s) in values for n in names)]
                if len(seeds) < 2:
                    continue
                label = f"{task} {part}, {family}"
                estimate = icc_same_seed([[values[n, s] for s in seeds] for n in names])
                runs = [LevelRun(n, "all", s, values[n, s]) for n in names for s in seeds]
                test = level_test(runs)
                tests.append((label, test.p_value, test.detectable))
                wanted = f", bar {bar}" if part == "skill" and family == "orders" else ""
                console.print(
                    f"{label}: ICC {estimate}{wanted}; {len(seeds)} seeds", soft_wrap=True
                )
    for (label, _, smallest), p in zip(tests, holm(tuple(p for _, p, _ in tests))):
        console.print(f"{label}: p {p:.2g} (Holm), a spread of {smallest:.3f} would have been seen")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(BARS), action="append", help="default: both")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--conv", type=int, help="kernel of a local convolution; default: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=RESULTS, help="JSON lines, appended to")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    done = {(r["order"], r["task"], r["seed"]) for r in read(args.runs, args.conv)}
    for seed in range(0 if args.report else args.seeds):
        for task in args.task or BARS:
            for name in (*ORDERS, *QUADTREES):
                if (name, task, seed) in done:
                    continue
                row = train(name, task, args.threads, seed, args.conv)
                args.runs.parent.mkdir(parents=True, exist_ok=True)
                with args.runs.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{task:12} {name:18} seed {seed}  {row['score']:.3f}  {row['seconds']} s")
    report(read(args.runs, args.conv))


if __name__ == "__main__":
    main()
