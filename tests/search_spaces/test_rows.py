"""Many points at once: search_spaces/rows.py."""

from collections import Counter

import numpy as np
import pytest
from small_spaces import TINY

from search_spaces import SearchSpace
from search_spaces.rows import Rows

SPACES = pytest.mark.parametrize("source", ["quadtree", "hybrid", "local", TINY])


def load(source):
    return SearchSpace.from_text(source) if "\n" in source else SearchSpace.load(source)


@SPACES
def test_drawn_rows_are_points(source):
    space = load(source)
    rows = Rows(space)
    drawn = rows.sample(60, np.random.default_rng(0))
    assert drawn.shape == (60, len(space.choices))
    for row in drawn:
        point = rows.point(row)
        space.check(point)
        assert rows.row(point) == row.tolist()


@SPACES
def test_rows_that_are_points_are_kept_and_changed_ones_repaired(source):
    space, rng = load(source), np.random.default_rng(1)
    rows = Rows(space)
    drawn = rows.sample(40, rng)
    assert (rows.like(drawn, rng) == drawn).all()
    wanted = np.where(rng.random(drawn.shape) < 0.2, -1, drawn)
    for row in rows.like(wanted, rng):
        space.check(rows.point(row))


def test_rows_are_drawn_as_points_are():
    space, rng = load(TINY), np.random.default_rng(2)
    rows = Rows(space)
    many = Counter(str(rows.point(row)) for row in rows.sample(6000, rng))
    single = Counter(str(space.sample(rng)) for _ in range(6000))
    names = set(many) | set(single)
    assert len(names) <= space.size
    # Twice a multinomial of 6000: ten standard deviations of the difference in all.
    apart = sum((many[n] - single[n]) ** 2 / (many[n] + single[n]) for n in names)
    assert apart < len(names) + 10 * np.sqrt(2 * len(names))
