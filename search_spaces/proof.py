"""Refuses a space that cannot hold what it says.

Conditions that are never true, constraints that exclude each other, options that no design can
take. Then every option, and every pair of options that meet in one block, is put into a design
and built, so that what the backbone language does not take is found with its line, and not in
the middle of a search. Last, choices and options that make no difference.

What is accepted does not depend on the order in which options are written: an option or a pair is
refused when no design that was tried with it can be built, whatever the rest of the design.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import ValidationError

from backbones.yaml_files import Loc
from search_spaces.choices import Choice, Choices, Value, freeze, show
from search_spaces.definition import Definition, blamed
from search_spaces.errors import SpaceError
from search_spaces.statements import given
from search_spaces.variation import alone

TRIES = 24
"""Random designs tried with an option, or a pair, before it is refused."""
TOLD_APART = 24
"""Options of a choice that are compared with each other; patterns and subsets differ anyway."""
SURROUNDINGS = 48
"""Designs in which two options must be the same before one of them is refused."""


def check_possible(space: Definition) -> None:
    """Raise SpaceError for constraints that leave no design, or a condition that never holds."""
    if not space.solver().feasible():
        space.rules = space.rules[: len(space.rules) - len(space.constraints)]
        for i, rule in enumerate(space.constraints):
            space.rules.append(rule)
            if not space.solver().feasible():
                space.fail(
                    ("constraints", i),
                    f"no design satisfies '{rule}' with what stands before it; relax one of them",
                )
    for name, when in space.whens.items():
        if not space.solver(required={name}).feasible():
            said = f"'{when}' is never true" if when is not None else "it is never true"
            space.fail(("choices", name, "when"), f"{said}; correct it or remove the choice")


def prove(space: Definition) -> None:
    """Raise SpaceError for an option, or a pair, that no design takes, or one without effect."""
    proof = _Proof(space)
    proof.try_options()
    proof.try_pairs()
    proof.tell_apart()


Option = tuple[str, Any]
"""A choice and one of its values, frozen."""


class _Proof:
    """The designs that were built so far: which options, and which pairs, they hold."""

    def __init__(self, space: Definition) -> None:
        self.space = space
        self.solver = space.solver()
        self.meets = _meetings(space)
        self.holding: dict[Option, Choices] = {}
        self.pairs: set[tuple[Option, Option]] = set()
        self.built: list[Choices] = []
        self.turn = 0

    def build(self, point: Choices | None) -> Exception | None:
        """Build a design and note what it holds; return what the language says against it."""
        assert point is not None
        try:
            self.space.assemble(point)
        except (ValidationError, SpaceError) as error:
            return error
        self.built.append(point)
        for name, value in point.items():
            self.holding.setdefault((name, freeze(value)), point)
        for a, b in self.meets:
            if a in point and b in point:
                self.pairs.add(((a, freeze(point[a])), (b, freeze(point[b]))))
        return None

    # -- options and pairs --

    def try_options(self) -> None:
        """Build designs until every option was in one of them."""
        held = -1
        while len(self.holding) > held:
            held = len(self.holding)
            self._try({}, {})
        for name, choice in self.space.choices.items():
            for index, option in enumerate(choice.options):
                if (name, freeze(option)) in self.holding:
                    continue
                point, error = self._try({name: option}, {})
                if point is None:
                    self.space.fail(
                        self._loc(choice, index),
                        f"{show(option)} can never be chosen: the conditions and constraints "
                        "exclude it; remove it or relax them",
                    )
                if error is not None:
                    self._refuse(choice, option, point, error)

    def try_pairs(self) -> None:
        """Build designs until every pair of options that meet in a block was in one of them."""
        for a, b in self.meets:
            known = next((point for point in self.built if a in point and b in point), {})
            for x in self.space.choices[a].options:
                for y in self.space.choices[b].options:
                    if ((a, freeze(x)), (b, freeze(y))) in self.pairs:
                        continue
                    point, error = self._try({a: x, b: y}, known)
                    if point is None or error is None:
                        continue  # the constraints exclude the pair, or a design holds it
                    said = str(error)
                    if isinstance(error, ValidationError):
                        said = blamed(self.space, point, error)[1]
                    rule = f"{{if: {{{a}: {_flow(x)}}}, then: {{{b}: {{not: {_flow(y)}}}}}}}"
                    self.space.fail(
                        ("choices", b),
                        f"{show(y)} does not go with {a} {show(x)}: {said}; add the constraint "
                        f"{rule}",
                    )

    def _try(self, wanted: dict[str, Value], known: Choices) -> tuple[Choices | None, Any]:
        """Return a design with these values, None where there is none, and what is against it.

        known: what goes with them, but for choices that meet others: they take turns.
        """
        self.turn += 1

        def pick(name: str, allowed: list[Value]) -> Value:
            if name in wanted or (name in known and not any(name in pair for pair in self.meets)):
                return wanted.get(name, known.get(name))
            untried = (v for v in allowed if (name, freeze(v)) not in self.holding)
            return next(untried, allowed[self.turn % len(allowed)])

        whens = (self.space.whens.get(name, True) for name in wanted)
        if any(given(when, wanted) is False for when in whens):
            return None, None
        point = self.solver.walk(pick)
        if point is None or not wanted.items() <= point.items():
            forced = self.space.solver({n: [v] for n, v in wanted.items()}, required=wanted)
            point = forced.walk(lambda n, vs: known[n] if known.get(n) in vs else vs[0])
        if point is None:
            return None, None
        error = self.build(point)
        return point, None if error is None or self._saved(point, wanted) else error

    def _saved(self, point: Choices, wanted: Mapping[str, Value]) -> bool:
        """Whether a design with these values can be built, this or that choice being another."""
        for name in point.keys() - wanted.keys():
            for value in self.space.choices[name].options:
                child = alone(self.space, self.solver, point, name, value)
                if child is not None and wanted.items() <= child.items() and not self.build(child):
                    return True
        solver = self.space.solver({n: [v] for n, v in wanted.items()}, required=wanted)
        rng = np.random.default_rng(0)
        walks = (
            solver.walk(lambda n, allowed: self.space.choices[n].draw(allowed, rng))
            for _ in range(TRIES)
        )
        return any(self.build(walk) is None for walk in walks)

    def _refuse(self, choice: Choice, option: Value, point: Choices, error: Exception) -> None:
        if isinstance(error, ValidationError):
            blame, said = blamed(self.space, point, error)
            if blame is None or (blame, freeze(point[blame])) in self.holding:
                blame = choice.name
            self.space.fail(("choices", blame), f"{show(point[blame])} does not fit: {said}")
        name = str(error).split(":", 1)[0]
        self.space.fail(("choices", name, "sets"), str(error).removeprefix(f"{name}: "))

    def _loc(self, choice: Choice, index: int) -> Loc:
        entry = self.space.file.choices[choice.name]
        if entry.options is None:
            return ("choices", choice.name)
        labeled = isinstance(entry.options, dict)
        return ("choices", choice.name, "options",
                show(choice.options[index]) if labeled else index)  # fmt: skip

    # -- effects --

    def tell_apart(self) -> None:
        """Raise SpaceError for a choice, or two options, that make no difference anywhere."""
        for name, choice in self.space.choices.items():
            compared = choice.options[: TOLD_APART if choice.form in ("options", "range") else 2]
            known = self.holding[name, freeze(choice.options[0])]
            groups: dict[Any, Value] = {}
            for option in compared:
                design = self._design(known, name, option)
                same = None if design is None else groups.setdefault(design, option)
                if same is None or same is option or self._differ(name, same, option):
                    continue
                index = choice.options.index(option)
                self.space.fail(
                    self._loc(choice, index) if len(choice.options) > 2 else ("choices", name),
                    f"{show(same)} and {show(option)} are the same function wherever they were "
                    f"tried; remove one of them, or {name} if it changes nothing",
                )

    def _differ(self, name: str, x: Value, y: Value) -> bool:
        around = [point for point in self.built if name in point]
        for point in around[:: max(1, len(around) // SURROUNDINGS)]:
            first, second = (self._design(point, name, value) for value in (x, y))
            if first is not None and second is not None and first != second:
                return True
        return False

    def _design(self, point: Choices, name: str, value: Value) -> Any:
        child = alone(self.space, self.solver, point, name, value)
        if child is None or self.build(child) is not None:
            return None
        return self.space.identity(self.space.assemble(child))


def _flow(value: Value) -> str:
    return f"[{', '.join(map(_flow, value))}]" if isinstance(value, list) else show(value)


def _meetings(space: Definition) -> list[tuple[str, str]]:
    """Return the pairs of choices that write into one block, or one of them around all blocks."""
    reach: dict[str, set[str]] = {}
    for name, choice in space.choices.items():
        roots = {
            path[:2] if path[0] in ("blocks", "stages") else () for path in space.targets[name]
        }
        reach[name] = {f"block {root[1]}" for root in roots if root[:1] == ("blocks",)}
        if () in roots:
            reach[name] |= {"around"}
        elif choice.letters:
            reach[name] |= {"pattern"}
    met = []
    for a, b in combinations(space.choices, 2):
        blocks = any(root.startswith("block") for root in reach[a] & reach[b])
        if blocks or ("around" in reach[a] | reach[b] and reach[a] and reach[b]):
            met.append((a, b))
    return met
