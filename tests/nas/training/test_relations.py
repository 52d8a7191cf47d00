"""Labels of marks on a grid, against a plain search over all tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nas.training.data.draws import IGNORE, Draw
from nas.training.data.relations import COLORS, RELATIONS, WINDOW, draw, label


def plainly(cells, relation, y, x):
    """Return the label of one token of one board, by looking at every mark."""
    grid = len(cells)
    marks = [(i, j) for i in range(grid) for j in range(grid) if cells[i][j] >= 0]
    if relation == "window":
        corner = y // WINDOW * WINDOW, x // WINDOW * WINDOW
        found = [(i, j) for i, j in marks if (i // WINDOW * WINDOW, j // WINDOW * WINDOW) == corner]
        return cells[found[0]] if found else IGNORE
    if relation == "nearest":
        far = {m: (m[0] - y) ** 2 + (m[1] - x) ** 2 for m in marks if m != (y, x)}
        colors = {cells[m] for m, d in far.items() if d == min(far.values())}
        return colors.pop() if len(colors) == 1 else IGNORE
    found = {
        "left": [m for m in reversed(marks) if m[0] == y and m[1] < x],
        "right": [m for m in marks if m[0] == y and m[1] > x],
        "above": [m for m in reversed(marks) if m[1] == x and m[0] < y],
        "below": [m for m in marks if m[1] == x and m[0] > y],
    }["left" if relation == "carry" else relation]
    if not found or (relation == "carry" and x - found[0][1] - 1 < grid // 4):
        return IGNORE
    return cells[found[0]]


@pytest.mark.parametrize("relation", RELATIONS)
@given(grid=st.integers(2, 9), share=st.floats(0.0, 0.6), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=25, deadline=None)
def test_labels_are_those_of_a_plain_search(relation, grid, share, seed):
    rng = np.random.default_rng(seed)
    boards = rng.integers(0, COLORS, (2, grid, grid))
    boards[rng.random(boards.shape) >= share] = IGNORE
    found = label(boards.astype(np.int8))[:, RELATIONS.index(relation)]
    for board, labels in zip(boards, found):
        plain = [[plainly(board, relation, y, x) for x in range(grid)] for y in range(grid)]
        np.testing.assert_array_equal(labels, plain)


@pytest.mark.parametrize("density", [0.03, 0.3])
@pytest.mark.parametrize(("side", "grid"), [(64, 16), (56, 56), (60, 12)])
def test_marks_fill_whole_tokens_at_the_wanted_density(density, side, grid):
    images, labels = draw(Draw("dense", "train", 60, side, grid, 0, 2, density))
    token = side // grid
    cells = images[:, :, ::token, ::token]
    whole = cells.repeat_interleave(token, 2).repeat_interleave(token, 3)
    assert (images == whole).all()
    marked = (cells.float().std(1) > 0).float().mean()
    assert marked == pytest.approx(density, rel=0.15)
    assert labels.shape == (60, len(RELATIONS), grid, grid)
