"""How often verdicts are wrong: the decision functions on simulated searches.

Every figure is a share of whole decisions, made by the functions that ship: finalists chosen
from noisy single runs, confirmed with fresh common seeds (at once or as a race), judged; levels
of a choice compared until the answer is clear; studies with planted effects analyzed. Scores are
in units of one run's standard deviation beside what its seed does to all designs.

    python benchmarks/verdicts.py                # 5,000 simulations a setting, minutes
    python benchmarks/verdicts.py --sims 200     # a look
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nas.evidence import ablation, racing  # noqa: E402
from nas.evidence.confirmation import judge  # noqa: E402
from nas.evidence.effects import Sample, analyze  # noqa: E402
from nas.evidence.finalists import Noise, choose_finalists  # noqa: E402
from nas.evidence.paired import Design, Scores  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
KNOWN = Noise(1.0, 22)  # of the search's single runs; df as the shipped reliability has it
BASELINES = 4
DIVERGED = -25.0  # a run that came out near 0, at a noise of 3 points

Rates = dict[str, float]
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=shape)


def unequal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """One design in three is three times as noisy."""
    sd = np.where(rng.random(shape[0]) < 1 / 3, 3.0, 1.0)
    return rng.normal(size=shape) * sd[:, None]


def noisy_baselines(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    sd = np.ones(shape[0])
    sd[-BASELINES:] = 3.0
    return rng.normal(size=shape) * sd[:, None]


def noisy_candidate(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    sd = np.ones(shape[0])
    sd[0] = 3.0
    return rng.normal(size=shape) * sd[:, None]


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with 3 degrees of freedom, variance 1."""
    return rng.standard_t(3, size=shape) / 3**0.5


def diverging(share: float, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(shape) < share, DIVERGED, rng.normal(size=shape))


def search(
    rng: np.random.Generator,
    truth: np.ndarray,
    *,
    most: int = 5,
    repeats: int = 5,
    draw: Draw = normal,
    race: bool = False,
) -> Rates:
    """Carry out one search and its confirmation; truth: candidates, then the baselines."""
    count = len(truth) - BASELINES
    names = [f"c{i}" for i in range(count)] + [f"b{i}" for i in range(BASELINES)]
    true = dict(zip(names, truth))
    single = truth[:count] + draw(rng, (count + BASELINES, 1))[:count, 0]
    chosen = choose_finalists(dict(zip(names, single.tolist())), KNOWN, most).names
    designs = [
        Design(
            name=n,
            role="baseline" if n.startswith("b") else "candidate",
            params=int(rng.integers(1_000_000)),
        )
        for n in (*chosen, *names[count:])
    ]
    means = np.array([true[d.name] for d in designs])
    seeds = repeats * 2 if race else repeats
    whole = means[:, None] + draw(rng, (len(designs), seeds)) + rng.normal(size=seeds)
    values, dropped, used = whole, (), len(designs) * repeats
    if race:
        values, dropped = _raced(designs, whole, used)
        used = int((~np.isnan(values)).sum())
    scores = Scores(tuple(designs), tuple(range(seeds)), values, np.zeros(values.shape, bool))
    v = judge(scores, unit="plain", dropped=dropped)
    said = v.comparisons + v.chosen_comparisons
    gaps = {c: true[c.design] - true[c.other] for c in said}
    top = max((d.name for d in designs), key=lambda n: true[n])
    return {
        "false_better": any(c.word == "better" and g <= 0 for c, g in gaps.items()),
        "false_worse": any(c.word == "worse" and g >= 0 for c, g in gaps.items()),
        "covered": all(c.low <= gaps[c] <= c.high for c in v.comparisons),
        "beats_all": v.beats_all,
        "best_listed": v.contender(top).may_be_best,
        "best_dropped": top in dropped,
        "listed": len(v.may_be_best),
        "runs": used,
    }


def _raced(
    designs: list[Design], whole: np.ndarray, runs: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Let the planner ask for runs until the race is over."""
    row = {d.name: i for i, d in enumerate(designs)}
    values = np.full(whole.shape, np.nan)
    none = np.zeros(whole.shape, bool)
    seeds = tuple(range(whole.shape[1]))
    while True:
        step = racing.plan(Scores(tuple(designs), seeds, values, none), seeds=seeds, runs=runs)
        if step.over:
            return values, step.dropped
        for name, seed in step.runs:
            values[row[name], seed] = whole[row[name], seed]


def ablate(
    rng: np.random.Generator, truth: np.ndarray, margin: float, seeds: int, draw: Draw = normal
) -> Rates:
    """Compare levels until the answer is clear; the last design is a control, 3 units below."""
    means = np.append(truth, truth.min() - 3)
    designs = tuple(
        Design(name=f"l{i}", role="control" if i == len(truth) else "candidate", params=i)
        for i in range(len(means))
    )
    whole = means[:, None] + draw(rng, (len(means), seeds)) + rng.normal(size=seeds)
    # All runs at once: the planner reads seed by seed and stops where it would have stopped.
    table = Scores(designs, tuple(range(seeds)), whole, np.zeros(whole.shape, bool))
    step = ablation.plan(table, choice="scan", unit="plain", margin=margin, seeds=range(seeds))
    found = step.found
    assert found is not None
    true = {f"l{i}": m for i, m in enumerate(truth)}
    best = max(true, key=true.__getitem__)
    wrong = [c for c in found.comparisons if c.word == "better" and true[c.design] <= true[c.other]]
    return {
        "matters": found.outcome == "matters",
        "does_not_matter": found.outcome == "does not matter",
        "not_resolved": found.outcome == "not resolved",
        "false_word": bool(wrong),
        "best_listed": best in found.may_be_best,
        "sees_control": bool(found.sees),
        "seeds": found.seeds,
    }


CHOICES = {
    "mixer": ("ssm", "conv", "mixed"),
    "order": ("cross", "raster"),
    "depth": ("2-2-8-2", "2-2-2-2"),
    "d_state": ("1", "4", "16"),
}


def study(rng: np.random.Generator, trials: int, evolving: bool, draw: Draw = normal) -> Rates:
    """Analyze a study with planted effects; evolving: most designs are mutants of good ones."""
    effects = {k: {v: rng.normal() for v in vs} for k, vs in CHOICES.items()}
    samples: list[Sample] = []
    noise = draw(rng, (trials, 1))[:, 0]
    for i in range(trials):
        if evolving and i >= 12 and rng.random() < 0.8:
            field = rng.choice(len(samples), 5, replace=False)
            parent = max(field, key=lambda j: samples[j].score)
            choices = dict(samples[parent].choices)
            name = str(rng.choice(list(CHOICES)))
            choices[name] = str(rng.choice(CHOICES[name]))
        else:
            choices = {k: str(rng.choice(v)) for k, v in CHOICES.items()}
        cost = float(rng.uniform(4.275e9, 4.5e9))
        score = sum(effects[k][v] for k, v in choices.items()) + noise[i] + 5 * np.log(cost)
        samples.append(Sample(str(i), choices, float(score), cost))
    found = analyze(samples, unit="plain", noise=1.0, importance=False)
    held = [
        e.low <= effects[f.factor][e.level] - effects[f.factor][f.reference] <= e.high
        for f in found.factors
        for e in f.levels
        if not f.pooled
    ]
    return {
        "covered": float(np.mean(held)),
        "false_interaction": any(i.p_holm < 0.05 for i in found.interactions),
    }


def equal(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(count + BASELINES)


def one_above(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.r_[3.0, np.zeros(count - 1 + BASELINES)]


def scattered(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=count + BASELINES)


Setting = tuple[str, Callable[[np.random.Generator], Rates], int]


def _search(truth: Callable, rng: np.random.Generator, **given: object) -> Rates:
    return search(rng, truth(rng), **given)


def _ablate(truth: list[float], rng: np.random.Generator, **given: object) -> Rates:
    return ablate(rng, np.array(truth), **given)


def settings(sims: int) -> list[Setting]:
    """Return all settings: name, one simulation, how many."""
    made: list[Setting] = []

    def add(name: str, truth: Callable, count: int, **given: object) -> None:
        made.append((name, partial(_search, partial(truth, count), **given), sims))

    for count in (12, 40, 200):
        add(f"equal, {count} candidates, 5x5", equal, count)
    add("equal, 40 candidates, 5x3", equal, 40, repeats=3)
    add("equal, 40 candidates, 5x10", equal, 40, repeats=10)
    add("equal, 40 candidates, 5x5 raced", equal, 40, race=True)
    add("one 3 above, 40 candidates, 5x5", one_above, 40)
    add("one 3 above, 40 candidates, 5x3", one_above, 40, repeats=3)
    add("one 3 above, 40 candidates, 5x5 raced", one_above, 40, race=True)
    add("scattered, 40 candidates, 5x5", scattered, 40)
    add("scattered, 40 candidates, 5x5 raced", scattered, 40, race=True)
    for name, draw in {
        "one in three 3x as noisy": unequal,
        "baselines 3x as noisy": noisy_baselines,
        "one candidate 3x as noisy": noisy_candidate,
        "t with 3 df": heavy,
        "2 % of runs diverge": partial(diverging, 0.02),
        "5 % of runs diverge": partial(diverging, 0.05),
    }.items():
        add(f"equal, 40 candidates, 5x5, {name}", equal, 40, draw=draw)
        add(f"one 3 above, 40 candidates, 5x5, {name}", one_above, 40, draw=draw)
    four = {"equal": [0, 0, 0, 0], "apart by the margin": [1, 0, 0, 0], "2 apart": [2, 0, 0, 0]}
    for name, truth in four.items():
        for seeds in (10, 30):
            one = partial(_ablate, truth, margin=1.0, seeds=seeds)
            made.append((f"ablate, 4 levels, {name}, margin 1, {seeds} seeds", one, sims))
    for name, draw in {"unequal": unequal, "t with 3 df": heavy}.items():
        one = partial(_ablate, [0, 0, 0, 0], margin=1.0, seeds=10, draw=draw)
        made.append((f"ablate, 4 levels, equal, margin 1, 10 seeds, {name}", one, sims))
    for trials in (40, 100):
        for evolving in (False, True):
            name = f"analyze, {trials} trials, {'evolving' if evolving else 'drawn'}"
            given = {"trials": trials, "evolving": evolving}
            made.append((name, partial(study, **given), min(500, sims)))
    return made


def measure(one: Callable[[np.random.Generator], Rates], sims: int, seed: int = 0) -> Rates:
    """Return the mean of each figure over simulations."""
    streams = np.random.SeedSequence(seed).spawn(sims)
    rows = [one(np.random.default_rng(s)) for s in streams]
    return {key: round(float(np.mean([r[key] for r in rows])), 4) for key in rows[0]}


def _timed(setting: Setting) -> tuple[str, int, Rates, float]:
    name, one, sims = setting
    start = time.process_time()
    return name, sims, measure(one, sims), round(time.process_time() - start, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sims", type=int, default=5000)
    parser.add_argument("--only", default="", help="settings whose name contains this; merged")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    chosen = [s for s in settings(args.sims) if args.only in s[0]]
    rows = []
    with ProcessPoolExecutor(args.workers) as pool:
        for name, sims, rates, seconds in pool.map(_timed, chosen):
            said = "  ".join(f"{k} {v:g}" for k, v in rates.items())
            print(f"{name}: {said}  ({seconds:.0f} s)", flush=True)
            rows.append({"setting": name, "simulations": sims, "cpu_seconds": seconds, **rates})
    if args.sims >= 5000:
        out = RESULTS / f"verdict_simulation_{datetime.date.today().isoformat()}.json"
        known = json.loads(out.read_text())["settings"] if out.exists() else []
        by_name = {row["setting"]: row for row in known + rows}
        kept = [by_name[name] for name, _, _ in settings(1) if name in by_name]
        out.write_text(json.dumps({"schema": 1, "settings": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
