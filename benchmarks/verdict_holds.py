"""Does what a search said of its winner hold under fresh seeds?

    python benchmarks/verdict_holds.py night-0 night-1 night-2 --storage sqlite:///runs/nas.db

Trains the winner of each study's verdict and its best baseline again with 10 seeds that no study
draws, by the study's recipe, scored on the test split, and asks whether their mean paired
difference lies inside the interval that the verdict stated. Every run is appended to a file as it
ends, and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from backbones.config import BackboneConfig  # noqa: E402
from nas.evidence.verdict import Comparison, Verdict  # noqa: E402
from nas.evidence.words import difference  # noqa: E402
from nas.store import queries  # noqa: E402
from nas.study.recipe import Recipe  # noqa: E402
from nas.training.run import train_proxy  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "verdict_holds.jsonl"
# A study's seeds are hashes below 2**31; that one of them is among these is next to impossible.
FIRST_SEED, SEEDS = 9_000, 10

Row = dict[str, Any]


def stated(verdict: Verdict) -> Comparison:
    """Return what was said of the winner against the best of the baselines."""
    best = next(c.name for c in verdict.contenders if c.role == "baseline" and c.mean is not None)
    return next(c for c in verdict.comparisons if c.other == best)


def trials_of(study: str, storage: str) -> dict[str, int]:
    """Return the trials of a study's designs by the names that a verdict gives them."""
    return {
        row["label"] if row["role"] == "baseline" else f"trial {row['trial']}": row["trial"]
        for row in queries.trials(study, storage)
    }


def scores(study: str, storage: str, name: str, trial: int, known: list[Row]) -> list[float]:
    """Return a design's scores under the fresh seeds; train and write what is missing."""
    facts = queries.trial(study, storage, trial)
    recipe = Recipe.model_validate(facts["recipe"])
    config = BackboneConfig.model_validate(facts["config"])
    found = []
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        key = {"study": study, "design": name, "fingerprint": config.fingerprint(), "seed": seed}
        key["recipe"] = recipe.fingerprint()
        row = next((r for r in known if key.items() <= r.items()), None)
        if row is None:
            result = train_proxy(
                config, recipe, seed=seed, device="cpu", report=lambda _: None, split="test"
            )
            row = key | {"score": result.score, "seconds": round(result.seconds, 1)}
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        found.append(row["score"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--storage", default="sqlite:///runs/nas.db")
    args = parser.parse_args()
    held = 0
    for study in args.studies:
        summary = queries.summary(study, args.storage, top=1)
        verdict = Verdict.model_validate(summary["verdict"])
        said = stated(verdict)
        trials = trials_of(study, args.storage)
        lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
        known = [json.loads(line) for line in lines]
        ours, theirs = (
            scores(study, args.storage, name, trials[name], known)
            for name in (said.design, said.other)
        )
        gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
        inside = said.low <= mean(gaps) <= said.high
        held += inside
        low, high, now = (difference(x, verdict.unit) for x in (said.low, said.high, mean(gaps)))
        spread = stdev(gaps) / SEEDS**0.5
        print(
            f"{study}: {said.design} against {said.other}, stated {said.word}, {low} to {high}; "
            f"{SEEDS} fresh seeds: {now} (standard error {spread:.4f}): "
            + ("inside" if inside else "OUTSIDE")
        )
    print(f"inside for {held} of {len(args.studies)}")


if __name__ == "__main__":
    main()
