"""Is `ablate --choice scan` right? Where order decides by construction, and where it cannot.

    python benchmarks/ablation_scan.py                 # 10 seeds of both, each within 15 minutes
    python benchmarks/ablation_scan.py --sets rows --seeds 2

Both sets are dense: a sparse grid of colored marks, and per cell the color of the last mark before
it in its row. One SSM block without convolution reads it by rows, by columns, or both ways. In
`rows` the row's route alone carries the answer. In `shuffled` the cells of every image, and their
labels with them, are put in a random order: no fixed order can carry anything, and all are equal.
Right is: rows matter and are the best; in the shuffled set nothing is said to matter.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nas.driver.ablating import ablation_of, question  # noqa: E402
from nas.driver.request import this_machine  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import start  # noqa: E402
from nas.evidence.findings import Ablation, ablation_sentences  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.store import queries  # noqa: E402
from nas.study.recipe import Recipe  # noqa: E402

SIDE, CELL, IMAGES = 8, 8, 400
COLORS = ((220, 40, 40), (40, 200, 40), (50, 80, 230))
NO_LABEL = 255
SPACE = """
schema: 1
name: one_block
version: 1
description: One scan over one map, without convolution.
base:
  stem: {kind: patchify, patch: 16, norm: null}
  blocks:
    m: {mixer: {kind: ssm, order: raster, d_state: 4, expand: 2.0, conv: null, gate: output}}
  stages:
  - {width: 32, depth: 2, pattern: m}
choices:
  scan:
    about: the only route
    options:
      rows: {kind: routes, routes: [h]}
      columns: {kind: routes, routes: [v]}
      columns_back: {kind: routes, routes: [v_flip]}
    sets: blocks.m.mixer.order
fit: {kind: width, step: 4}
"""
RECIPE = {
    "task": "dense", "score": "top1", "image_size": SIDE * CELL, "stem_stride": 4,
    "train_size": 320, "val_size": 80, "flops_ratio": 0.33, "width_step": 4, "depth_ratio": 1.0,
    "epochs": 6, "batch_size": 16, "lr": 1e-2, "threads": 1,
}  # fmt: skip
MARGIN, SEEDS = 0.05, 8


def write_set(folder: Path, shuffled: bool, seed: int) -> None:
    """Write images and masks of one data set."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(IMAGES):
        marks = np.where(rng.random((SIDE, SIDE)) < 0.3, rng.integers(1, 4, (SIDE, SIDE)), 0)
        labels = np.full((SIDE, SIDE), NO_LABEL, dtype=np.uint8)
        for row in range(SIDE):
            last = 0
            for column in range(SIDE):
                if last:
                    labels[row, column] = last - 1
                last = int(marks[row, column]) or last
        if shuffled:
            order = rng.permutation(SIDE * SIDE)
            marks = marks.reshape(-1)[order].reshape(SIDE, SIDE)
            labels = labels.reshape(-1)[order].reshape(SIDE, SIDE)
        colors = np.array([(20, 20, 20), *COLORS], dtype=np.uint8)[marks]
        cell = np.ones((CELL, CELL), dtype=np.uint8)
        Image.fromarray(np.kron(colors, cell[:, :, None])).save(folder / f"images/{number:04}.png")
        Image.fromarray(np.kron(labels, cell)).save(folder / f"masks/{number:04}.png")


def ablate(folder: Path, seed: int, **changes: object) -> Ablation:
    """Ask about the scan on one data set."""
    space = folder / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    recipe = Recipe.model_validate({**RECIPE, "dataset": f"folder:{folder}", **changes})
    place = this_machine("cpu")
    settings, point = question(
        space=str(space), choice="scan", place=place, recipe=recipe, seed=seed
    )
    asked = ablation_of(
        settings, point, "scan", subject="one block", margin=MARGIN, seeds=SEEDS, controls=False
    )
    storage = f"sqlite:///{folder}/nas.db"
    study = start("scan", storage, settings, place)
    try:
        study.compare(asked)
        run(study, InlineExecutor())
    finally:
        study.close()
    return Ablation.model_validate(queries.summary("scan", storage)["comparisons"][0]["found"])


def right(name: str, found: Ablation) -> bool:
    if name == "rows":
        return found.outcome == "matters" and found.best == "rows"
    return found.outcome == "does not matter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["rows", "shuffled"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    rows = []
    for name in args.sets:
        began = time.monotonic()
        for seed in range(args.seeds):
            with TemporaryDirectory() as folder:
                path = Path(folder) / "set"
                write_set(path, name == "shuffled", seed)
                found = ablate(path, seed)
            said = ablation_sentences(found)
            seconds = round(time.monotonic() - began, 1)
            data = found.model_dump(mode="json", by_alias=True)
            row = {"set": name, "seed": seed, "right": right(name, found), "seconds": seconds}
            rows.append(row | data)
            word = "right" if row["right"] else "WRONG"
            print(f"{name} {seed}: {word}: {said[0]} ({found.seeds} seeds, {seconds:.0f} s so far)")
    for name in args.sets:
        mine = [r["right"] for r in rows if r["set"] == name]
        print(f"{name}: right on {sum(mine)} of {len(mine)}")
    file = args.out / f"ablation_scan_{datetime.date.today()}.json"
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
