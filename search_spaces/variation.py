"""Typed changes of a point: one mutation, one crossover."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from search_spaces.choices import Assigned, Choices, Value, freeze
from search_spaces.definition import Definition
from search_spaces.solver import Solver

if TYPE_CHECKING:
    import numpy as np

Design = Callable[[Assigned], str]


def mutate(
    space: Definition,
    solver: Solver,
    design: Design,
    choices: Assigned,
    rng: np.random.Generator,
) -> Choices:
    """Return a point with one choice changed and another design; see `SearchSpace.mutate`.

    design: point -> fingerprint.
    """
    before = design(choices)
    for name, value in _proposals(space, choices, rng):
        child = alone(space, solver, choices, name, value, rng)
        if child is not None and design(child) != before:
            return child
    for name, value in _proposals(space, choices, rng):
        child = with_repair(space, choices, name, value, rng)
        if child is not None and design(child) != before:
            return child
    return copy.deepcopy(dict(choices))


def _proposals(
    space: Definition, choices: Assigned, rng: np.random.Generator
) -> Iterator[tuple[str, Value]]:
    names = [n for n in space.choices if n in choices]
    for i in rng.permutation(len(names)):
        for value in space.choices[names[i]].neighbors(choices[names[i]], rng):
            yield names[i], value


class _Moved(Exception):
    """Another choice would have to change as well."""


def alone(
    space: Definition,
    solver: Solver,
    choices: Assigned,
    name: str,
    value: Value,
    rng: np.random.Generator,
) -> Choices | None:
    """Return the point with one choice changed, or None where others would have to follow."""
    wanted = {**choices, name: value}

    def pick(at: str, allowed: list[Value]) -> Value:
        if at not in wanted:
            return allowed[int(rng.integers(len(allowed)))]
        if freeze(wanted[at]) not in {freeze(v) for v in allowed}:
            raise _Moved
        return wanted[at]

    try:
        child = solver.walk(pick)
    except _Moved:
        return None
    return None if child is None or name not in child else copy.deepcopy(child)


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
    wanted = {**choices, name: value}

    def pick(at: str, allowed: list[Value]) -> Value:
        if at in wanted:
            return space.choices[at].nearest(wanted[at], allowed)
        return allowed[0 if rng is None else int(rng.integers(len(allowed)))]

    child = space.solver({name: [value]}, required={name}).walk(pick)
    return None if child is None else copy.deepcopy(child)


def crossover(
    space: Definition, solver: Solver, a: Assigned, b: Assigned, rng: np.random.Generator
) -> Choices:
    """Return a point that takes each choice from one of two; see `SearchSpace.crossover`."""

    def pick(name: str, allowed: list[Value]) -> Value:
        parents = (a, b) if rng.random() < 0.5 else (b, a)
        values = [p[name] for p in parents if name in p]
        if not values:
            return allowed[int(rng.integers(len(allowed)))]
        fitting = [v for v in values if v in allowed]
        return fitting[0] if fitting else space.choices[name].nearest(values[0], allowed)

    child = solver.walk(pick)
    assert child is not None, "a space without points does not load"
    return copy.deepcopy(child)
