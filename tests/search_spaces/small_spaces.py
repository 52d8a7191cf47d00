"""Small spaces for tests, and what several test files ask of a space."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from search_spaces import Band, SearchSpace, SpaceError

BAND = Band("flops", 0.95 * 4.5e9, 4.5e9)

TINY = """\
schema: 1
name: tiny
base:
  blocks:
    q: {mixer: {kind: ssm, order: quadtree}}
    s: {mixer: {kind: ssm, order: cross}}
    g: {mixer: {kind: gated_conv}}
  stages:
  - {width: 32, depth: 2, pattern: q}
  - {width: 64, depth: 2, pattern: s, downsample: conv3x3}
choices:
  depth: {range: [1, 4], sets: stages.0.depth}
  mixer:
    letters: qsg
    max_period: 2
    sets: stages.0.pattern
  levels:
    options: [[2, 4], [2, 8]]
    sets: blocks.q.mixer.order.levels
    when: {mixer: {contains: q}}
fit: {kind: width}
"""

SHIFTED = """\
schema: 1
name: shifted
base: vmamba_tiny_s1l8
choices:
  early: {range: [1, 3], sets: [stages.0.depth, stages.1.depth]}
  late: {range: [2, 6], step: 2, sets: stages.2.depth}
  scan: {options: [raster, cross, snake], sets: blocks.s.mixer.order}
  shift:
    options: {none: null, one: {direction: up_left}, omni: {direction: omni}}
    sets: blocks.s.mixer.shift
    when: {scan: {not: raster}}
  blocks:
    options: [odd, all]
    sets: blocks.s.mixer.shift.blocks
    when: {any: [{shift: one}, {shift: omni}]}
  merge:
    options: [sum, mean]
    sets: blocks.s.mixer.merge
    when: {all: [{scan: {in: [cross, snake]}}, {not: {shift: omni}}]}
constraints:
- {late: {at_least: early}}
- {sum: [early, late], at_most: 7}
- {if: {scan: snake}, then: {early: {at_most: 2}}}
"""

SMALL = {"tiny": TINY, "shifted": SHIFTED}


@cache
def space(name: str) -> SearchSpace:
    """Return a shipped or a small space; loaded once."""
    return SearchSpace.from_text(SMALL[name]) if name in SMALL else SearchSpace.load(name)


seeds = st.integers(min_value=0, max_value=2**32 - 1)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def every_point(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield every assignment, absent choices included, that `check` lets pass."""
    missing = object()
    options = [[missing, *choice.options] for choice in space.choices.values()]
    for values in product(*options):
        point = {n: v for n, v in zip(space.choices, values) if v is not missing}
        try:
            space.check(point)
        except SpaceError:
            continue
        yield point
