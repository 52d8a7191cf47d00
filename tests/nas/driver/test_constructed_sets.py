"""The two sets on which `ablate` has to be right are what they say."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))
import ablation_scan

CELLS = slice(None, None, ablation_scan.CELL)


def cells(folder, number):
    image = np.asarray(Image.open(folder / f"images/{number:04}.png"))[CELLS, CELLS]
    mask = np.asarray(Image.open(folder / f"masks/{number:04}.png"))[CELLS, CELLS]
    colors = {(20, 20, 20): 0} | {c: i + 1 for i, c in enumerate(ablation_scan.COLORS)}
    marks = np.array([[colors[tuple(int(v) for v in p)] for p in row] for row in image])
    return marks, mask


def agrees(marks, mask):
    """Share of labels that are the last mark before them in their row."""
    right = []
    for row, labels in zip(marks, mask):
        for column in np.nonzero(labels != ablation_scan.NO_LABEL)[0]:
            before = row[:column][row[:column] > 0]
            right.append(before.size > 0 and before[-1] - 1 == labels[column])
    return float(np.mean(right))


@pytest.mark.parametrize(("shuffled", "low", "high"), [(False, 1.0, 1.0), (True, 0.0, 0.5)])
def test_rows_carry_the_answer_unless_cells_are_shuffled(
    tmp_path, monkeypatch, shuffled, low, high
):
    monkeypatch.setattr(ablation_scan, "IMAGES", 20)
    ablation_scan.write_set(tmp_path / "set", shuffled, 0)
    found = np.mean([agrees(*cells(tmp_path / "set", i)) for i in range(20)])
    assert low <= found <= high
