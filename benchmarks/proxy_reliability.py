"""What the proxy can rank: intraclass correlation, and which kinds of choice it sees.

Trains a fixed panel of designs, all fitted to 4.5 GFLOPs, with several seeds each, and asks two
things. Are scores of one design closer to each other than to those of others (ICC)? And for
each kind of choice, do designs that differ in it alone score differently (eta squared, F test)?

    python benchmarks/proxy_reliability.py                 # the panel: 12 designs x 3 seeds
    python benchmarks/proxy_reliability.py --extended      # more levels of some choices
    python benchmarks/proxy_reliability.py --report        # no training: read what was measured
    python benchmarks/proxy_reliability.py --markdown      # the table for the README

Every run is appended to a file as it ends, and is not repeated: an interrupted benchmark goes on
where it stopped. Scores do not depend on what else the machine does, seconds do: take them with
`--time` on an idle one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.proxy_panel import EXTENSION, KINDS, PANEL, Design, level_of  # noqa: E402
from nas.evidence.agreement import icc, icc_same_seed, paired_variance  # noqa: E402
from nas.evidence.levels import LevelRun, level_test  # noqa: E402
from nas.evidence.reliability import ChoiceReliability, Reliability  # noqa: E402
from nas.study.recipe import Recipe, default_recipe  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SHIPPED = ROOT / "nas" / "evidence" / "reliability.json"
ALPHA = 0.05
ICC_BAR, SECONDS_BAR = 0.7, 25.0
SEEDS = 3

Row = dict[str, Any]

# --- statistics --------------------------------------------------------------------------------

Scored = tuple[Design, int, float]


def choice_test(kind: str, rows: Iterable[Scored]) -> ChoiceReliability:
    """Test whether the levels of a choice score differently, blocks and seeds taken out.

    rows: design, seed and score of each run.
    """
    found = level_test(
        [
            LevelRun(level=place[0], block=str(place[1]), seed=seed, score=score)
            for design, seed, score in rows
            if (place := level_of(kind, design)) is not None
        ]
    )
    return ChoiceReliability(
        kind=kind,
        levels=found.levels,
        runs=found.runs,
        eta_squared=found.eta_squared,
        epsilon_squared=found.epsilon_squared,
        p_value=found.p_value,
        spread=found.spread,
        seen=found.p_value < ALPHA,
    )


# --- running -----------------------------------------------------------------------------------


def training_key(recipe: Recipe) -> str:
    """Return what names a training: recipes that differ in the score alone share their runs."""
    return recipe.model_copy(update={"score": "top1"}).fingerprint()


def read(path: Path, recipe: Recipe) -> list[Row]:
    """Return the runs of this recipe that a file holds, scored as the recipe says."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [
        r | {"score": r["top1"] if recipe.score == "top1" else math.exp(-r["val_loss"])}
        for r in rows
        if r["recipe"] == training_key(recipe)
    ]


def run(
    designs: list[Design], seeds: int, recipe: Recipe, device: str, path: Path, timing: bool
) -> None:
    """Train every (design, seed) that the file does not hold yet, seed by seed.

    timing: these runs serve for their seconds alone, not for their scores.
    """
    from rich.console import Console

    from nas.training.run import train_proxy

    console = Console()
    done = {(r["design"], r["seed"]) for r in read(path, recipe) if r["timing"] == timing}
    todo = [(s, d) for s in range(seeds) for d in designs if (d.name, s) not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    for n, (seed, design) in enumerate(todo, 1):
        config = design.config()
        load = os.getloadavg()[0]
        before = time.process_time()
        result = train_proxy(config, recipe, seed=seed, device=device, report=lambda m: None)
        row = {
            "design": design.name,
            "seed": seed,
            "timing": timing,
            "score": result.score,
            "top1": result.top1,
            "val_loss": result.val_loss,
            "seconds": round(result.seconds, 2),
            "cpu_seconds": round(time.process_time() - before, 2),
            "threads": recipe.threads,
            "load": round(max(load, os.getloadavg()[0]), 1),
            "widths": [stage.width for stage in config.stages],
            "proxy_flops": result.proxy_flops,
            "backend": result.backend,
            "notes": list(result.notes),
            "recipe": training_key(recipe),
        }
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        console.print(
            f"{n}/{len(todo)}  {design.name:28} seed {seed}  {result.score:.4f}"
            f"  {result.seconds:.1f} s",
            highlight=False,
        )


def summarize(rows: list[Row], designs: list[Design], recipe: Recipe, device: str) -> Reliability:
    """Turn runs into the numbers that ship."""
    by_name = {d.name: d for d in designs}
    rows = [r for r in rows if r["design"] in by_name]
    timed = [r["seconds"] for r in rows if r["timing"]]
    rows = [r for r in rows if not r["timing"]]
    of = {(r["design"], r["seed"]): r["score"] for r in rows}
    seeds = [s for s in range(SEEDS) if all((d.name, s) in of for d in PANEL)]
    if len(seeds) < 2:
        raise SystemExit("fewer than 2 seeds of the panel are whole; run without --report first")
    panel = [[of[d.name, s] for s in seeds] for d in PANEL]
    single, paired = icc(panel), icc_same_seed(panel)
    scored = [(by_name[r["design"]], r["seed"], r["score"]) for r in rows]
    return Reliability(
        date=datetime.date.today().isoformat(),
        device=describe(device),
        versions={p: metadata.version(p) for p in ("torch", "timm", "numba", "numpy")},
        recipe_fingerprint=recipe.fingerprint(),
        score=recipe.score,
        designs=len(PANEL),
        seeds=len(seeds),
        icc=single.value,
        icc_low=single.low,
        icc_high=single.high,
        cpu_seconds=statistics.median(r["cpu_seconds"] for r in rows),
        median_seconds=statistics.median(timed) if timed else None,
        longest_seconds=max(timed) if timed else None,
        icc_same_seed=paired.value,
        icc_same_seed_low=paired.low,
        icc_same_seed_high=paired.high,
        noise=statistics.mean(statistics.variance(v) for v in panel) ** 0.5,
        noise_same_seed=paired_variance(np.array(panel)) ** 0.5,
        alpha=ALPHA,
        choices=tuple(choice_test(kind, scored) for kind in KINDS),
    )


def describe(device: str) -> str:
    """Name the device in words."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [n for n in cpuinfo.read_text().splitlines() if n.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


# --- showing -----------------------------------------------------------------------------------


def cells(r: Reliability) -> list[tuple[str, ...]]:
    """Return the rows of the table of choices."""
    return [
        (
            c.kind,
            ", ".join(c.levels),
            str(c.runs),
            f"{c.eta_squared:.2f}",
            "< 0.001" if c.p_value < 0.001 else f"{c.p_value:.3f}",
            f"{c.spread:.3f}",
            "yes" if c.seen else "no",
        )
        for c in r.choices
    ]


HEADER = ("choice", "levels", "runs", "variance explained", "p", "spread", "seen")


def headline(r: Reliability) -> str:
    """Say the intraclass correlation and the time in one line."""
    said = (
        f"ICC {r.icc:.2f} (95 % {r.icc_low:.2f} to {r.icc_high:.2f}; bar {ICC_BAR}), of runs with "
        f"one seed {r.icc_same_seed:.2f} ({r.icc_same_seed_low:.2f} to "
        f"{r.icc_same_seed_high:.2f}); {r.designs} designs x {r.seeds} seeds, noise "
        f"{r.noise:.4f} {r.score}, with one seed {r.noise_same_seed:.4f}; "
        f"{r.cpu_seconds:.0f} CPU seconds a run"
    )
    if r.median_seconds is None or r.longest_seconds is None:
        return said + ", seconds not taken (--time)"
    return said + (
        f", {r.median_seconds:.0f} s, longest {r.longest_seconds:.0f} s (bar {SECONDS_BAR:.0f})"
    )


def show(r: Reliability, rows: list[Row], designs: list[Design]) -> None:
    """Print designs and choices as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("design", "widths at 4.5 GFLOPs", "scores", "mean", "top-1", "loss", "s")
    rows = [x for x in rows if not x["timing"]]
    order = {d.name: [x for x in rows if x["design"] == d.name] for d in designs}
    for name, runs in sorted(
        order.items(), key=lambda item: -sum(x["score"] for x in item[1]) / max(1, len(item[1]))
    ):
        if runs:
            mean = {k: statistics.mean(x[k] for x in runs) for k in ("score", "top1", "val_loss")}
            table.add_row(
                name,
                " ".join(map(str, runs[0]["widths"])),
                " ".join(f"{x['score']:.3f}" for x in runs),
                *(f"{v:.4f}" for v in mean.values()),
                f"{statistics.median(x['seconds'] for x in runs):.1f}",
            )
    console.print(table)
    choices = Table(*HEADER)
    for row in cells(r):
        choices.add_row(*row)
    console.print(choices)
    console.print(headline(r), highlight=False)


def markdown(r: Reliability) -> str:
    """Return the README's table."""
    lines = [headline(r) + ".", "", " | ".join(("", *HEADER, "")).strip()]
    lines.append("|" + " --- |" * len(HEADER))
    lines += ["| " + " | ".join(row) + " |" for row in cells(r)]
    lines += ["", f"{r.device}; {r.date}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", type=Path, help="a recipe file; default: the device's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--extended", action="store_true", help="more levels of some choices")
    parser.add_argument("--runs", type=Path, help="JSON lines, appended to")
    parser.add_argument("--threads", type=int, help="in place of the recipe's; on a busy machine 1")
    parser.add_argument("--score", choices=("top1", "likelihood"), help="in place of the recipe's")
    parser.add_argument("--time", action="store_true", help="one run each, for the seconds alone")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--markdown", action="store_true", help="train nothing, print Markdown")
    parser.add_argument("--ship", action="store_true", help=f"write {SHIPPED.name}")
    args = parser.parse_args()
    recipe = Recipe.load(args.recipe) if args.recipe else default_recipe(args.device)
    if args.threads is not None:
        recipe = recipe.model_copy(update={"threads": args.threads})
    if args.score is not None:
        recipe = recipe.model_copy(update={"score": args.score})
    today = datetime.date.today().isoformat()
    runs = args.runs or RESULTS / f"proxy_runs_{training_key(recipe)[:8]}.jsonl"
    if not (args.report or args.markdown):
        chosen = PANEL + EXTENSION * args.extended
        seeds = 1 if args.time else args.seeds
        run(chosen, seeds, recipe, args.device, runs, args.time)
    designs = PANEL + EXTENSION
    rows = read(runs, recipe)
    summary = summarize(rows, designs, recipe, args.device)
    if args.markdown:
        print(markdown(summary))
        return
    show(summary, rows, designs)
    data = summary.model_dump(mode="json", by_alias=True)
    out = RESULTS / f"proxy_reliability_{today}.json"
    out.write_text(json.dumps(data | {"recipe": recipe.to_dict(), "runs": rows}, indent=1) + "\n")
    if args.ship:
        SHIPPED.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
