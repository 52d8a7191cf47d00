"""What a recipe can rank: which kinds of choice it sees, with which sign, and how much is noise.

Trains a fixed panel of designs, all fitted to 4.5 GFLOPs, with common seeds, and asks: are scores
of one design closer to each other than to those of others (ICC)? For each kind of choice, do
designs that differ in it alone score differently (F test, Holm over all kinds), and how small a
difference would have been seen? Where a paper reports a direction, does the recipe agree? The
mixers are also compared at the best of three learning rates each.

    python benchmarks/proxy_reliability.py                        # the CPU's default, 3 seeds
    python benchmarks/proxy_reliability.py --recipe mine.yaml     # another recipe
    python benchmarks/proxy_reliability.py --report               # no training: what was measured
    python benchmarks/proxy_reliability.py --report --space vmamba --markdown
    python benchmarks/proxy_reliability.py --report --ship        # `show` warns by it from now on

Every run is appended to a file as it ends, and is not repeated: an interrupted benchmark goes on
where it stopped, and reports what it has. Scores do not depend on what else the machine does,
seconds do: take them with `--time` on an idle one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.proxy_panel import (  # noqa: E402
    AT_BEST_RATE,
    DIRECTIONS,
    LEVELS,
    RATED,
    SPACES,
    Design,
    panel,
    rated,
)  # fmt: skip
from nas.errors import StudyError  # noqa: E402
from nas.evidence.agreement import icc, icc_same_seed, paired_variance  # noqa: E402
from nas.evidence.paired import Design as Entry  # noqa: E402
from nas.evidence.paired import Fit, Scores  # noqa: E402
from nas.evidence.panel import Panel, best_of, directions_seen, kinds_seen  # noqa: E402
from nas.evidence.quantiles import LEVEL  # noqa: E402
from nas.evidence.reliability import Reliability, load_measurements  # noqa: E402
from nas.study.named_recipes import load_recipe  # noqa: E402
from nas.study.outcomes import NanLoss  # noqa: E402
from nas.study.recipe import Recipe, default_recipe  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SHIPPED = ROOT / "nas" / "evidence" / "reliability.json"
SEEDS = 3
FIRST_SEED = 50  # recipes were chosen by lower ones
BEYOND = "costs "  # how the scaling's note begins where no width meets a design's share
NOISY = "its runs scatter more than those of the others; not in ICC and noise, compared by its own"

Row = dict[str, Any]

# --- running -----------------------------------------------------------------------------------


def read(path: Path, recipe: Recipe) -> list[Row]:
    """Return the runs of this recipe that a file holds."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if line.strip()]
    return [row for row in rows if row["recipe"] == recipe.fingerprint()]


def run(seeds: list[int], recipe: Recipe, device: str, path: Path, timing: bool) -> None:
    """Train every (design, seed) that the file does not hold yet, seed by seed.

    timing: these runs serve for their seconds alone, not for their scores.
    """
    done = {(r["design"], r["seed"]) for r in read(path, recipe) if r["timing"] == timing}
    todo = [(s, d) for s in seeds for d in panel() if (d.name, s) not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    for n, (seed, design) in enumerate(todo, 1):
        load, before = os.getloadavg()[0], time.process_time()
        row = {
            "design": design.name,
            "seed": seed,
            "timing": timing,
            **train(design, recipe, seed, device),
            "cpu_seconds": round(time.process_time() - before, 2),
            "threads": recipe.threads,
            "load": round(max(load, os.getloadavg()[0]), 1),
            "recipe": recipe.fingerprint(),
        }
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        score = "not finite" if row["score"] is None else f"{row['score']:.4f}"
        said = f"{n}/{len(todo)}  {design.name:24} seed {seed}  {score}  {row['seconds']} s"
        print(said, flush=True)


def train(design: Design, recipe: Recipe, seed: int, device: str) -> Row:
    """Train a design; the score is None where its loss is not finite."""
    from nas.training.run import load_parts, train_proxy
    from nas.training.scaling import proxy_config
    from nas.training.tasks import make_task

    config, own = design.config(), rated(recipe, design)
    data = load_parts(recipe)
    classes = max(make_task(p, d, recipe).num_classes for p, d in zip(recipe.parts, data))
    scaled, notes = proxy_config(config, recipe, classes, data[0].in_chans)
    facts = {"widths": [stage.width for stage in config.stages], "notes": notes}
    started = time.monotonic()
    try:
        result = train_proxy(
            design.cut(scaled, recipe.grid), own, seed=seed, device=device,
            report=lambda metrics: None, scale=False,
        )  # fmt: skip
    except NanLoss as error:
        seconds = round(time.monotonic() - started, 2)
        return {**facts, "score": None, "error": str(error), "seconds": seconds}
    return {
        **facts,
        "score": result.score,
        "scores": result.scores,
        "seconds": round(result.seconds, 2),
        "params": result.proxy_params,
        "proxy_flops": result.proxy_flops,
        "backend": result.backend,
    }


# --- what the runs say -------------------------------------------------------------------------


def table_of(rows: list[Row], names: set[str]) -> tuple[Scores, list[tuple[str, str]]]:
    """Return the scores of designs, and those that do not take part, with why."""
    left_out: dict[str, str] = {}
    for row in rows:
        if row["score"] is None:
            left_out[row["design"]] = f"left out, seed {row['seed']}: {row['error']}"
        elif beyond := [note for note in row["notes"] if note.startswith(BEYOND)]:
            left_out[row["design"]] = f"left out, {beyond[0]}"
    kept = [d for d in panel() if d.name in names and d.name not in left_out]
    ran = {row["design"] for row in rows}
    own = [Entry(name=d.name) for d in kept if d.name in ran]
    known = {d.name for d in own}
    scored = [(r["design"], r["seed"], r["score"]) for r in rows if r["design"] in known]
    return Scores.of(own, scored), [item for item in left_out.items() if item[0] in names]


def kinds_of(space: str, fitted: Fit) -> dict[str, dict[str, str]]:
    """Return, of each kind of choice that a space has, its levels with their designs' names."""
    kinds = {k: {v: d.name for v, d in LEVELS[k].items()} for k in SPACES[space] if k in LEVELS}
    if AT_BEST_RATE in SPACES[space]:
        kinds[AT_BEST_RATE] = best_of(fitted, {m: [d.name for d in v] for m, v in RATED.items()})
    return kinds


def summarize(rows: list[Row], space: str, recipe: Recipe, device: str) -> Reliability:
    """Turn runs into what ships of one space.

    The noise is of the whole panel, the intraclass correlations are of the designs that vary
    what the space has, at the recipe's learning rate and by the seeds that all of them ran with.
    """
    timed = [r["seconds"] for r in rows if r["timing"]]
    rows = [r for r in rows if not r["timing"]]
    scores, left_out = table_of(rows, {d.name for d in panel()})
    try:
        whole = Panel.of(scores)
    except StudyError as error:
        raise SystemExit(f"too few runs for a report: {error}") from None
    kinds = kinds_of(space, whole.everything)
    noisy = [(name, NOISY) for name in whole.noisy]
    plain = {d.name for d in panel() if d.rate == 1} - set(whole.noisy)
    own = scores.only({d for levels in kinds.values() for d in levels.values()} & plain)
    groups = own.values[:, ~np.isnan(own.values).any(0)]
    if groups.shape[1] < 2:
        raise SystemExit("fewer than 2 seeds that every design ran with; run without --report")
    single, paired = icc(groups), icc_same_seed(groups)
    return Reliability(
        space=space,
        task="+".join(dict.fromkeys(part.task for part in recipe.parts)),
        date=datetime.date.today().isoformat(),
        device=describe(device),
        versions={p: metadata.version(p) for p in ("torch", "timm", "numba", "numpy")},
        recipe_fingerprint=recipe.fingerprint(),
        score=recipe.score,
        designs=groups.shape[0],
        seeds=groups.shape[1],
        icc=single.value,
        icc_low=single.low,
        icc_high=single.high,
        cpu_seconds=statistics.median(r["cpu_seconds"] for r in rows),
        median_seconds=statistics.median(timed) if timed else None,
        longest_seconds=max(timed) if timed else None,
        icc_same_seed=paired.value,
        icc_same_seed_low=paired.low,
        icc_same_seed_high=paired.high,
        noise=float(groups.var(axis=1, ddof=1).mean() ** 0.5),
        noise_same_seed=paired_variance(groups) ** 0.5,
        alpha=round(1 - LEVEL, 6),
        choices=kinds_seen(whole, kinds),
        directions=directions_seen(whole, kinds, DIRECTIONS, recipe.task),
        left_out=(*left_out, *noisy),
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

CHOICES = (
    "choice",
    "levels and their mean scores",
    "p (Holm)",
    "spread",
    "80 % power from",
    "seen",
)
SIGNS = ("choice", "published", "proxy's difference (95 %)", "proxy", "source")


def choice_cells(r: Reliability) -> list[tuple[str, ...]]:
    """Return the rows of the table of choices."""
    return [
        (
            c.kind,
            ", ".join(f"{v} {m:.3f}" for v, m in zip(c.levels, c.means or ())),
            "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}",
            f"{c.spread:.3f}",
            "-" if c.detectable is None else f"{c.detectable:.3f}",
            "yes" if c.seen else "no",
        )
        for c in r.choices
    ]


def direction_cells(r: Reliability) -> list[tuple[str, ...]]:
    """Return the rows of the table of published directions, binding ones first."""
    return [
        (
            d.kind,
            f"{d.better} over {d.worse}" + (" (binding)" if d.binding else ""),
            f"{d.estimate:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
            d.proxy,
            d.source,
        )
        for d in sorted(r.directions, key=lambda d: not d.binding)
    ]


def headline(r: Reliability) -> str:
    """Say the intraclass correlation, the noise and the time."""
    said = (
        f"{r.space} space, {r.task}: ICC {r.icc:.2f} (95 % {r.icc_low:.2f} to {r.icc_high:.2f}), "
        f"of runs with one seed {r.icc_same_seed:.2f} ({r.icc_same_seed_low:.2f} to "
        f"{r.icc_same_seed_high:.2f}); {r.designs} designs x {r.seeds} seeds, noise "
        f"{r.noise:.4f} {r.score}, with one seed {r.noise_same_seed:.4f}; "
        f"{r.cpu_seconds:.0f} CPU seconds a run"
    )
    if r.median_seconds is None or r.longest_seconds is None:
        return said + ", seconds not taken (--time)"
    return said + f", {r.median_seconds:.0f} s, longest {r.longest_seconds:.0f} s"


def left_out(r: Reliability) -> list[str]:
    """Name the designs that did not take part."""
    return [f"{name}: {why}" for name, why in r.left_out]


def show(r: Reliability, rows: list[Row]) -> None:
    """Print designs, choices and directions as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    designs = Table("design", "widths at 4.5 GFLOPs", "scores", "mean", "CPU s")
    ran: dict[str, list[Row]] = {}
    for row in rows:
        if not row["timing"] and row["score"] is not None:
            ran.setdefault(row["design"], []).append(row)
    means = {name: statistics.mean(x["score"] for x in runs) for name, runs in ran.items()}
    for name, runs in sorted(ran.items(), key=lambda item: -means[item[0]]):
        scores = " ".join(f"{x['score']:.3f}" for x in runs)
        seconds = statistics.median(x["cpu_seconds"] for x in runs)
        widths = " ".join(map(str, runs[0]["widths"]))
        designs.add_row(name, widths, scores, f"{means[name]:.4f}", f"{seconds:.0f}")
    console.print(designs)
    for header, cells in ((CHOICES, choice_cells(r)), (SIGNS, direction_cells(r))):
        table = Table(*header)
        for row in cells:
            table.add_row(*row)
        console.print(table)
    for line in (headline(r), *left_out(r)):
        console.print(line, highlight=False)


def markdown(r: Reliability) -> str:
    """Return the README's tables."""
    lines = [headline(r) + "."]
    for header, cells in ((CHOICES, choice_cells(r)), (SIGNS, direction_cells(r))):
        lines += ["", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([*lines, "", *left_out(r), f"{r.device}; {r.date}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", help="a name or a file; default: the device's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--space", choices=sorted(SPACES), default="quadtree")
    parser.add_argument("--runs", type=Path, help="JSON lines, appended to")
    parser.add_argument("--threads", type=int, help="in place of the recipe's; on a busy machine 1")
    parser.add_argument("--time", action="store_true", help="one run each, for the seconds alone")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--markdown", action="store_true", help="train nothing, print Markdown")
    parser.add_argument("--ship", action="store_true", help=f"into {SHIPPED.name}, every space")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe) if args.recipe else default_recipe(args.device)
    if args.threads is not None:
        recipe = recipe.model_copy(update={"threads": args.threads})
    path = args.runs or RESULTS / f"proxy_runs_{recipe.fingerprint()[:8]}.jsonl"
    if not (args.report or args.markdown):
        seeds = [args.first_seed + i for i in range(1 if args.time else args.seeds)]
        run(seeds, recipe, args.device, path, args.time)
    rows = read(path, recipe)
    found = summarize(rows, args.space, recipe, args.device)
    if args.markdown:
        print(markdown(found))
        return
    show(found, rows)
    if args.ship:
        whole = load_measurements()
        for space in SPACES:
            whole = whole.with_(summarize(rows, space, recipe, args.device))
        data = whole.model_dump(mode="json", by_alias=True)
        SHIPPED.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
