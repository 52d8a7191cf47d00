"""Typed changes of a point: one mutation, one crossover, a repair into a budget.

A child that the backbone language refuses is no child: the next one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from search_spaces.choices import Assigned, Choices, Value, freeze, fresh
from search_spaces.definition import Definition
from search_spaces.errors import SpaceError
from search_spaces.solver import Pick, Solver

if TYPE_CHECKING:
    import numpy as np

DRAWS = 200
"""Points drawn, one after the other, until one can be built."""
STEPS = 24
"""Changes of one choice on the way into a budget, before it begins anew from another point."""
STARTS = 8
"""Points from which a way into a budget is sought."""
LISTED = 20_000
"""A space of so many points or fewer is searched whole before a budget is said to be empty."""

Design = Callable[[Assigned], object | None]
"""Point -> what tells its design apart, or None where it cannot be built."""
Miss = Callable[[Assigned], float]
"""Point -> how far out of a budget it is, 0 inside, infinite where it cannot be built."""


def sample(space: Definition, solver: Solver, rng: np.random.Generator) -> Choices:
    """Draw a point that can be built; see `SearchSpace.sample`."""
    for _ in range(DRAWS):
        point = solver.walk(lambda name, allowed: space.choices[name].draw(allowed, rng))
        assert point is not None, "a space without points does not load"
        if _builds(space, point):
            return fresh(point)
    raise SpaceError(
        f"none of {DRAWS} draws from space {space.file.name} can be built; write as constraints "
        "which of its options exclude each other"
    )


def mutate(
    space: Definition,
    solver: Solver,
    design: Design,
    choices: Assigned,
    rng: np.random.Generator,
) -> Choices:
    """Return a point with one choice changed and another design; see `SearchSpace.mutate`."""
    before = design(choices)
    for name, value in _proposals(space, choices, rng):
        child = alone(space, solver, choices, name, value, rng)
        if child is not None and design(child) not in (None, before):
            return fresh(child)
    for name, value in _proposals(space, choices, rng):
        child = with_repair(space, choices, name, value, rng)
        if child is not None and design(child) not in (None, before):
            return fresh(child)
    return fresh(choices)


def _proposals(
    space: Definition, choices: Assigned, rng: np.random.Generator
) -> Iterator[tuple[str, Value]]:
    names = [n for n in space.choices if n in choices]
    for i in rng.permutation(len(names)):
        for value in space.choices[names[i]].neighbors(choices[names[i]], rng):
            yield names[i], value


def alone(
    space: Definition,
    solver: Solver,
    choices: Assigned,
    name: str,
    value: Value,
    rng: np.random.Generator | None = None,
) -> Choices | None:
    """Return the point with one choice changed, or None where others would have to follow.

    rng: draws choices that come into existence; without it they take their first value.
    """
    child = solver.walk(_picker(space, {**choices, name: value}, rng))
    return None if child is None or name not in child else child


def with_repair(
    space: Definition,
    choices: Assigned,
    name: str,
    value: Value,
    rng: np.random.Generator | None = None,
) -> Choices | None:
    """Return the point with one choice changed and others moved to the nearest that goes with it.

    rng: draws choices that come into existence; without it they take their first value.
    """
    pick = _picker(space, {**choices, name: value}, rng, nearest=True)
    return space.solver({name: [value]}, required={name}).walk(pick)


def _picker(
    space: Definition, wanted: Assigned, rng: np.random.Generator | None, nearest: bool = False
) -> Pick:
    """Return what takes the wanted values, or the nearest to them, and others as `alone` says."""

    def pick(at: str, allowed: list[Value]) -> Value:
        choice = space.choices[at]
        if at in wanted:
            return choice.nearest(wanted[at], allowed) if nearest else wanted[at]
        return allowed[0] if rng is None else choice.draw(allowed, rng)

    return pick


def crossover(
    space: Definition,
    solver: Solver,
    a: Assigned,
    b: Assigned,
    rng: np.random.Generator,
) -> Choices:
    """Return a point that takes each choice from one of two; see `SearchSpace.crossover`."""

    def pick(name: str, allowed: list[Value]) -> Value:
        parents = (a, b) if rng.random() < 0.5 else (b, a)
        values = [p[name] for p in parents if name in p]
        if not values:
            return space.choices[name].draw(allowed, rng)
        fitting = [v for v in values if v in allowed]
        return fitting[0] if fitting else space.choices[name].nearest(values[0], allowed)

    for _ in range(DRAWS):
        child = solver.walk(pick)
        assert child is not None, "a space without points does not load"
        if _builds(space, child):
            return fresh(child)
    return fresh(a)


def _builds(space: Definition, point: Assigned) -> bool:
    try:
        space.assemble(point)
    except (ValidationError, SpaceError):
        return False
    return True


# --- into a budget -----------------------------------------------------------------------------


def into_budget(
    space: Definition,
    solver: Solver,
    miss: Miss,
    choices: Assigned,
    rng: np.random.Generator,
) -> Choices:
    """Return a point inside a budget, few changes away; see `SearchSpace.repair`.

    From point to point, one choice changed at a time, always to the nearest to the budget; at a
    dead end anew, from a point drawn. Small spaces are searched whole at last. What comes
    nearest is returned where nothing lies inside.
    """
    best, least = fresh(choices), miss(choices)
    point, now = best, least
    for start in range(STARTS):
        for _ in range(STEPS):
            if now == 0:
                return point
            near = [
                (miss(child), float(rng.random()), child)
                for name in point
                for value in space.choices[name].options
                if freeze(value) != freeze(point[name])
                and (child := alone(space, solver, point, name, value, rng)) is not None
            ]
            spent, _, child = min(near, key=lambda n: n[:2], default=(now, 0.0, point))
            if spent >= now:
                break
            point, now = fresh(child), spent
        if now < least:
            best, least = point, now
        if start + 1 < STARTS:
            point = fresh(solver.walk(lambda n, allowed: space.choices[n].draw(allowed, rng)) or {})
            now = miss(point)
    if solver.count() <= LISTED:
        nearest = min(solver.points(), key=miss, default=best)
        best = fresh(nearest) if miss(nearest) < least else best
    return best
