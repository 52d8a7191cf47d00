"""Refuses a space that cannot hold what it says.

Conditions that are never true, constraints that exclude each other, options that no design can
take; then every option is put into a design and built once, so that a path or a value that the
backbone language does not know is found with its line, and not in the middle of a search.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from backbones.yaml_files import Loc
from search_spaces.choices import Value, freeze, show
from search_spaces.definition import Definition, blamed
from search_spaces.errors import SpaceError

IDLE_WALKS = 12
"""Walks without a new option after which the options that are left are asked for one by one."""


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


def try_every_option(space: Definition) -> None:
    """Build designs until every option was in one of them."""
    left = {n: {freeze(o) for o in c.options} for n, c in space.choices.items()}

    turn = 0

    def prefer_untried(name: str, allowed: list[Value]) -> Value:
        other = allowed[turn % len(allowed)]
        return next((v for v in allowed if freeze(v) in left[name]), other)

    def build(point: dict[str, Value] | None) -> bool:
        assert point is not None
        news = [n for n, v in point.items() if freeze(v) in left[n]]
        for name, value in point.items():
            left[name].discard(freeze(value))
        if news:
            _build_or_fail(space, point)
        return bool(news)

    solver = space.solver()
    idle = 0
    while idle < IDLE_WALKS and any(left.values()):
        idle = 0 if build(solver.walk(prefer_untried)) else idle + 1
        turn += 1
    for name, choice in space.choices.items():
        for index, option in enumerate(choice.options):
            if freeze(option) not in left[name]:
                continue
            forced = space.solver({name: [option]}, required={name}).walk(prefer_untried)
            if forced is None:
                entry = space.file.choices[name]
                at: Loc = ("choices", name)
                if entry.options is not None:
                    labeled = isinstance(entry.options, dict)
                    at = (*at, "options", show(option) if labeled else index)
                space.fail(
                    at,
                    f"{show(option)} can never be chosen: the conditions and constraints exclude "
                    "it; remove it or relax them",
                )
            build(forced)


def _build_or_fail(space: Definition, point: Mapping[str, Value]) -> None:
    try:
        space.assemble(point)
    except ValidationError as exc:
        blame, problem = blamed(space, point, exc)
        loc: Loc = ("choices", blame) if blame else ("choices",)
        value = f"{show(point[blame])} does not fit: " if blame else ""
        space.fail(loc, f"{value}{problem}")
    except SpaceError as exc:
        name = str(exc).split(":", 1)[0]
        space.fail(("choices", name, "sets"), str(exc).removeprefix(f"{name}: "))
