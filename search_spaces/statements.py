"""Statements about choices: what a `when` and a constraint may say, and whether it is true.

A statement is true, false, or says nothing because a choice that it mentions does not exist in
this design. A `when` needs true; a constraint is broken by false only.

Statements are reduced one choice at a time: `reduce` gives what is left to say once a choice is
known. Equal remainders are equal objects, which is what makes exact counting cheap (`solver`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from search_spaces.choices import freeze, show

ABSENT: Any = object()
"""Stands for the value of a choice that does not exist in a design."""


@dataclass(frozen=True)
class Test:
    """One choice against fixed values.

    op: "in": is one of the values; "contains": the list, or the pattern, holds one of them.
    """

    name: str
    op: Literal["in", "contains"]
    values: tuple[Any, ...]
    shown: str = field(compare=False, default="")

    @cached_property
    def names(self) -> frozenset[str]:
        """The choices that decide the statement."""
        return frozenset((self.name,))

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        if name != self.name:
            return self
        if value is ABSENT:
            return None
        if self.op == "in":
            return freeze(value) in self.values
        held = value if isinstance(value, (str, list, tuple)) else ()
        return not {freeze(v) for v in held}.isdisjoint(self.values)

    def __str__(self) -> str:
        return f"{self.name} {self.shown}"


@dataclass(frozen=True)
class Linear:
    """A weighted sum of number choices against zero: sum + constant (<=, =) 0."""

    terms: tuple[tuple[str, int], ...]
    constant: float
    op: Literal["at_most", "is"]
    shown: str = field(compare=False, default="")

    @cached_property
    def names(self) -> frozenset[str]:
        """The choices that decide the statement."""
        return frozenset(name for name, _ in self.terms)

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        if name not in self.names:
            return self
        if value is ABSENT:
            return None
        constant, rest = self.constant, []
        for term, weight in self.terms:
            if term == name:
                constant += weight * value
            else:
                rest.append((term, weight))
        if rest:
            return replace(self, terms=tuple(rest), constant=constant)
        return constant <= 0 if self.op == "at_most" else constant == 0

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True)
class Spelling:
    """A pattern is the shortest spelling of its word at the depth of its stage.

    depths: a number, or the name of the depth choice with the depth that stands without it; of
        several stages the deepest counts. table: depth -> shortest spellings.
    """

    pattern: str
    depths: tuple[int | tuple[str, int], ...]
    table: Mapping[int, frozenset[str]] = field(compare=False, repr=False)
    value: str | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """The choices that decide the statement."""
        named = [d[0] for d in self.depths if isinstance(d, tuple)]
        return frozenset(named if self.value is not None else [*named, self.pattern])

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        if name not in self.names:
            return self
        if name == self.pattern:
            if value is ABSENT:
                return None
            if len(self.depths) == 1 and isinstance(self.depths[0], int):
                return value in self.table[self.depths[0]]
            left = replace(self, value=value)
        else:
            known = [
                (d[1] if value is ABSENT else value) if isinstance(d, tuple) and d[0] == name else d
                for d in self.depths
            ]
            deepest = max((d for d in known if isinstance(d, int)), default=1)
            named = [d for d in known if isinstance(d, tuple)]
            left = replace(self, depths=(deepest, *named))
        return left if left.names else left.settle()

    def settle(self) -> bool:
        """Return the truth once pattern and depths are known."""
        deepest = max(d for d in self.depths if isinstance(d, int))
        return self.value in self.table[deepest]

    def __str__(self) -> str:
        return f"{self.pattern} is the shortest spelling at its depth, with every letter in use"


@dataclass(frozen=True)
class _Group:
    parts: tuple[Statement, ...]
    silent: bool = False
    """Whether a part that says nothing was dropped."""

    @cached_property
    def names(self) -> frozenset[str]:
        """The choices that decide the statement."""
        return frozenset().union(*(p.names for p in self.parts))


class All_(_Group):
    """Every part is true."""

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        return all_of([p.reduce(name, value) for p in self.parts], self.silent)

    def __str__(self) -> str:
        return " and ".join(_inner(p) for p in self.parts)


class Any_(_Group):
    """At least one part is true."""

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        return any_of([p.reduce(name, value) for p in self.parts], self.silent)

    def __str__(self) -> str:
        if len(self.parts) == 2 and isinstance(self.parts[0], Not_):
            return f"{_inner(self.parts[1])} if {_inner(self.parts[0].part)}"
        return _alternatives(self.parts) or " or ".join(_inner(p) for p in self.parts)


@dataclass(frozen=True)
class Not_:
    """The part is false."""

    part: Statement

    @cached_property
    def names(self) -> frozenset[str]:
        """The choices that decide the statement."""
        return self.part.names

    def reduce(self, name: str, value: Any) -> Reduced:
        """Return what is left once choice `name` is `value`."""
        return negation(self.part.reduce(name, value))

    def __str__(self) -> str:
        return f"not ({self.part})"


def _inner(part: Statement) -> str:
    return f"({part})" if isinstance(part, (All_, Any_)) else str(part)


def _alternatives(parts: tuple[Statement, ...]) -> str | None:
    """Return "a, b or c contains q" for parts that say the same of several choices."""
    tests = [p for p in parts if isinstance(p, Test)]
    if len(tests) < len(parts) or len({t.shown for t in tests}) > 1:
        return None
    names = [t.name for t in tests]
    return f"{', '.join(names[:-1])} or {names[-1]} {tests[0].shown}"


def all_of(parts: list[Reduced], silent: bool = False) -> Reduced:
    """Join by "and": false wins, then what is open, then silence."""
    return _join(parts, silent, wins=False, group=All_)


def any_of(parts: list[Reduced], silent: bool = False) -> Reduced:
    """Join by "or": true wins, then what is open, then silence."""
    return _join(parts, silent, wins=True, group=Any_)


def _join(
    parts: list[Reduced], silent: bool, wins: bool, group: type[All_] | type[Any_]
) -> Reduced:
    pending: list[Statement] = []
    for part in parts:
        if part is wins:
            return wins
        if part is None:
            silent = True
        elif not isinstance(part, bool):
            pending.append(part)
    if not pending:
        return None if silent else not wins
    if len(pending) == 1 and not silent:
        return pending[0]
    return group(tuple(pending), silent)


def negation(part: Reduced) -> Reduced:
    """Join by "not"."""
    if part is None:
        return None
    return (not part) if isinstance(part, bool) else Not_(part)


def given(statement: Reduced, values: Mapping[str, Any]) -> Reduced:
    """Return what is left to say once some choices are known."""
    for name, value in values.items():
        if statement is None or isinstance(statement, bool):
            break
        statement = statement.reduce(name, value)
    return statement


def truth(statement: Reduced, values: Mapping[str, Any]) -> Truth:
    """Return whether the statement holds in a complete design; unnamed choices are absent."""
    while statement is not None and not isinstance(statement, bool):
        name = next(iter(statement.names))
        statement = statement.reduce(name, values.get(name, ABSENT))
    return statement


def one_of(name: str, values: list[Any], shown: str = "") -> Test:
    """Return the statement that a choice has one of the values."""
    text = shown or (
        f"is {show(values[0])}"
        if len(values) == 1
        else f"is {', '.join(show(v) for v in values[:-1])} or {show(values[-1])}"
    )
    return Test(name, "in", tuple(freeze(v) for v in values), text)


Truth = bool | None
"""None: says nothing."""
Statement = Test | Linear | Spelling | Any_ | All_ | Not_
Reduced = Statement | Truth
