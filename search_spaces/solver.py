"""Exact counting and walking of valid points, without enumerating them.

Choices are decided in dependency order. What the past means for the future is the tuple of
statements that are still open, reduced by what is known; two pasts with the same tuple have the
same futures. Counting is therefore one memoized pass, and independent choices just multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.statements import ABSENT, Reduced, truth

State = tuple[Reduced, ...]
Pick = Callable[[str, list[Any]], Any]


class Solver:
    """The valid points of a set of choices.

    options: choice -> its values, in dependency order. whens: choice -> statement that must be
    true for it to exist; absent for choices that always do. rules: statements that no point may
    make false.
    """

    def __init__(
        self,
        options: Mapping[str, Sequence[Any]],
        whens: Mapping[str, Reduced],
        rules: Sequence[Reduced],
    ) -> None:
        self.names = tuple(options)
        self.options = {name: tuple(values) for name, values in options.items()}
        self._when_slot = {name: len(rules) + i for i, name in enumerate(whens)}
        statements: State = (*rules, *whens.values())
        self._slots = []
        for name in self.names:
            own = self._when_slot.get(name)
            self._slots.append(
                tuple(
                    i
                    for i, s in enumerate(statements)
                    if i == own or (s is not None and not isinstance(s, bool) and name in s.names)
                )
            )
        self._rules = len(rules)
        self._start: State | None = None
        if not any(s is False for s in rules):
            self._start = statements
        self._steps: dict[tuple[int, State], list[tuple[Any, State | None]]] = {}
        self._columns: dict[tuple[int, bool, bool, Reduced], list[Reduced]] = {}
        self._counts: dict[tuple[int, State], int] = {}
        self._alive: dict[tuple[int, State], bool] = {}

    # -- one step --

    def _step(self, at: int, state: State) -> list[tuple[Any, State | None]]:
        """Return (value, the statements of this step's slots afterwards), None where broken."""
        slots = self._slots[at]
        key = (at, tuple(state[i] for i in slots))
        found = self._steps.get(key)
        if found is None:
            own = self._when_slot.get(self.names[at])
            active = own is None or state[own] is True
            values = self.options[self.names[at]] if active else (ABSENT,)
            columns = [self._column(at, i, state[i], i == own, active) for i in slots]
            found = [
                (value, None if False in rules else (*rules, *conditions))
                for value, rules, conditions in self._rows(values, slots, columns)
            ]
            self._steps[key] = found
        return found

    def _rows(
        self, values: tuple[Any, ...], slots: tuple[int, ...], columns: list[list[Reduced]]
    ) -> Iterator[tuple[Any, State, State]]:
        """Yield (value, rules afterwards, conditions afterwards) for each value."""
        split = sum(i < self._rules for i in slots)  # rules come before conditions
        for at, value in enumerate(values):
            row = tuple(column[at] for column in columns)
            yield value, row[:split], row[split:]

    def _column(
        self, at: int, slot: int, statement: Reduced, own: bool, active: bool
    ) -> list[Reduced]:
        """Return what is left of one statement after each value of a choice."""
        values = self.options[self.names[at]] if active else (ABSENT,)
        if own:  # spent: it has decided whether this choice exists
            return [True] * len(values)
        if statement is None or isinstance(statement, bool):
            return [statement] * len(values)
        key = (at, slot < self._rules, active, statement)
        found = self._columns.get(key)
        if found is None:
            found = [statement.reduce(self.names[at], value) for value in values]
            if slot < self._rules:  # a rule that says nothing is kept
                found = [True if left is None else left for left in found]
            self._columns[key] = found
        return found

    def _apply(self, at: int, state: State, left: State) -> State:
        changed = list(state)
        for slot, statement in zip(self._slots[at], left):
            changed[slot] = statement
        return tuple(changed)

    # -- queries --

    def count(self) -> int:
        """Return how many valid points there are."""
        return 0 if self._start is None else self._count(0, self._start)

    def _count(self, at: int, state: State) -> int:
        if at == len(self.names):
            return 1
        known = self._counts.get((at, state))
        if known is None:
            groups: dict[State, int] = {}
            for _, left in self._step(at, state):
                if left is not None:
                    groups[left] = groups.get(left, 0) + 1
            known = sum(
                times * self._count(at + 1, self._apply(at, state, left))
                for left, times in groups.items()
            )
            self._counts[(at, state)] = known
        return known

    def feasible(self) -> bool:
        """Return whether there is a valid point at all."""
        return self._start is not None and self._feasible(0, self._start)

    def _feasible(self, at: int, state: State) -> bool:
        if at == len(self.names):
            return True
        known = self._alive.get((at, state))
        if known is None:
            known = any(
                left is not None and self._feasible(at + 1, self._apply(at, state, left))
                for _, left in self._step(at, state)
            )
            self._alive[(at, state)] = known
        return known

    def walk(self, pick: Pick) -> dict[str, Any] | None:
        """Decide choice after choice; return the point, or None when there is no valid one.

        pick is asked once for each choice that exists, with the values from which a valid point
        can still be reached, and returns one of them.
        """
        if not self.feasible():
            return None
        assert self._start is not None
        state, point = self._start, {}
        for at, name in enumerate(self.names):
            ways = [
                (value, after)
                for value, left in self._step(at, state)
                if left is not None
                and self._feasible(at + 1, after := self._apply(at, state, left))
            ]
            if ways[0][0] is ABSENT:
                state = ways[0][1]
                continue
            allowed = [value for value, _ in ways]
            value = pick(name, allowed)
            state = ways[allowed.index(value)][1]
            point[name] = value
        return point

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every valid point, in the order of the options."""
        if self._start is not None:
            yield from self._points(0, self._start, {})

    def _points(self, at: int, state: State, point: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if at == len(self.names):
            yield dict(point)
            return
        for value, left in self._step(at, state):
            if left is None:
                continue
            after = self._apply(at, state, left)
            if not self._feasible(at + 1, after):
                continue
            if value is not ABSENT:
                point[self.names[at]] = value
            yield from self._points(at + 1, after, point)
            point.pop(self.names[at], None)


def holds(statement: Reduced, values: Mapping[str, Any]) -> bool:
    """Return whether a rule is kept: true, or silent."""
    return truth(statement, values) is not False
