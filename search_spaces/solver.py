"""Exact counting and walking of valid points, without enumerating them.

Choices are decided in dependency order. What the past means for the future is the tuple of
statements that are still open, reduced by what is known; two pasts with the same tuple have the
same futures. Counting is therefore one memoized pass, and independent choices just multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search_spaces.choices import freeze
from search_spaces.statements import ABSENT, Reduced, Statement, truth

State = tuple[int, ...]
"""The open statements, each by its number: rules first, then conditions."""
Step = tuple[Any, State | None]
"""A value, and the statements that it touches afterwards; None where it breaks a rule."""
Pick = Callable[[str, list[Any]], Any]
PickMany = Callable[[int, "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]
"""Which choice, the positions of its allowed options (n,), and the points asked for (m,) -> for
each point an index into these positions (m,)."""

_TRUE, _FALSE, _SILENT = 0, 1, 2


class Solver:
    """The valid points of a set of choices.

    options: choice -> its values, in dependency order. whens: choice -> statement that must be
    true for it to exist; absent for choices that always do. rules: statements that no point may
    make false. required: choices that must exist.
    """

    def __init__(
        self,
        options: Mapping[str, Sequence[Any]],
        whens: Mapping[str, Reduced],
        rules: Sequence[Reduced],
        required: Collection[str] = (),
    ) -> None:
        self.names = tuple(options)
        self.options = {name: tuple(values) for name, values in options.items()}
        self._statements: list[Reduced] = [True, False, None]
        self._numbers: dict[Statement, int] = {}
        self._rules = len(rules)
        own = {name: len(rules) + i for i, name in enumerate(whens)}
        self._own = [own.get(name) for name in self.names]
        self._without: list[tuple[Any, ...]] = [
            () if name in required else (ABSENT,) for name in self.names
        ]
        statements = (*rules, *whens.values())
        self._slots = [
            tuple(
                slot
                for slot, s in enumerate(statements)
                if slot == own.get(name)
                or (s is not None and not isinstance(s, bool) and name in s.names)
            )
            for name in self.names
        ]
        self._start: State = tuple(self._number(s) for s in statements)
        self._columns: dict[tuple[int, bool, bool, int], list[int]] = {}
        self._steps: dict[tuple[int, State], list[Step]] = {}
        self._counts: dict[tuple[int, State], int] = {}
        self._alive: dict[tuple[int, State], bool] = {}
        self._open: dict[tuple[int, State], tuple[list[Any], dict[Any, State]]] = {}
        self._forks: dict[tuple[int, State], tuple[Any, Any, list[State]]] = {}

    def _number(self, statement: Reduced) -> int:
        if statement is None:
            return _SILENT
        if isinstance(statement, bool):
            return _TRUE if statement else _FALSE
        number = self._numbers.get(statement)
        if number is None:
            number = self._numbers[statement] = len(self._statements)
            self._statements.append(statement)
        return number

    # -- one step --

    def _step(self, at: int, state: State) -> list[Step]:
        """Return every value of a choice with what it leaves; ABSENT where it does not exist."""
        slots = self._slots[at]
        key = (at, tuple([state[i] for i in slots]))
        found = self._steps.get(key)
        if found is None:
            own = self._own[at]
            active = own is None or state[own] == _TRUE
            values = self.options[self.names[at]] if active else self._without[at]
            columns = [self._column(at, i, state[i], values, active) for i in slots]
            rules = [c for i, c in zip(slots, columns) if i < self._rules]
            found = [
                (value, None if any(c[row] == _FALSE for c in rules) else
                 tuple([c[row] for c in columns]))
                for row, value in enumerate(values)
            ]  # fmt: skip
            self._steps[key] = found
        return found

    def _column(
        self, at: int, slot: int, number: int, values: tuple[Any, ...], active: bool
    ) -> list[int]:
        """Return what is left of one statement after each value of a choice."""
        if slot == self._own[at]:  # spent: it has decided whether this choice exists
            return [_TRUE] * len(values)
        statement = self._statements[number]
        if statement is None or isinstance(statement, bool):
            return [number] * len(values)
        is_rule = slot < self._rules
        key = (at, is_rule, active, number)
        found = self._columns.get(key)
        if found is None:
            found = [self._number(statement.reduce(self.names[at], v)) for v in values]
            if is_rule:  # a rule that says nothing is kept
                found = [_TRUE if left == _SILENT else left for left in found]
            self._columns[key] = found
        return found

    def _apply(self, at: int, state: State, left: State) -> State:
        changed = list(state)
        for slot, number in zip(self._slots[at], left):
            changed[slot] = number
        return tuple(changed)

    # -- queries --

    def count(self) -> int:
        """Return how many valid points there are."""
        return 0 if _FALSE in self._start[: self._rules] else self._count(0, self._start)

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
        return _FALSE not in self._start[: self._rules] and self._feasible(0, self._start)

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

    def _ways(self, at: int, state: State) -> tuple[list[Any], dict[Any, State]]:
        """Return the values that can still be completed, and what each, frozen, leaves open.

        The value is ABSENT, alone, where the choice does not exist.
        """
        found = self._open.get((at, state))
        if found is None:
            ways = [
                (value, after)
                for value, left in self._step(at, state)
                if left is not None
                and self._feasible(at + 1, after := self._apply(at, state, left))
            ]
            found = [value for value, _ in ways], {freeze(value): after for value, after in ways}
            self._open[at, state] = found
        return found

    def walk(self, pick: Pick) -> dict[str, Any] | None:
        """Decide choice after choice; return the point, or None when there is no valid one.

        pick is asked once for each choice that exists, with the values from which a valid point
        can still be reached; another value than these leads to None.
        """
        if not self.feasible():
            return None
        state, point = self._start, {}
        for at, name in enumerate(self.names):
            allowed, after = self._ways(at, state)
            if ABSENT in after:
                state = after[ABSENT]
                continue
            value = pick(name, allowed)
            if (left := after.get(freeze(value))) is None:
                return None
            point[name], state = value, left
        return point

    def walk_many(self, count: int, pick: PickMany) -> np.ndarray[Any, Any]:
        """Decide many points at once; return the options they have, by position.

        pick is asked for all points together that have the same future; see `PickMany`.
        Shape (count, choices), -1 where a choice does not exist; no rows where no point is valid.
        """
        rows = np.full((count if self.feasible() else 0, len(self.names)), -1)
        groups = {self._start: np.arange(len(rows))}
        for at in range(len(self.names)):
            reached: dict[State, list[Any]] = {}
            for state, members in groups.items():
                allowed, leads, states = self._fork(at, state)
                if not len(allowed):
                    reached.setdefault(states[0], []).append(members)
                    continue
                chosen = pick(at, allowed, members)
                rows[members, at] = allowed[chosen]
                for lead, after in enumerate(states):
                    part = members[leads[chosen] == lead]
                    if len(part):
                        reached.setdefault(after, []).append(part)
            groups = {state: np.concatenate(parts) for state, parts in reached.items()}
        return rows

    def _fork(self, at: int, state: State) -> tuple[Any, Any, list[State]]:
        """Return the positions of the allowed options, what each leads to, and these states.

        No positions and one state where the choice does not exist.
        """
        found = self._forks.get((at, state))
        if found is None:
            allowed, after = self._ways(at, state)
            if ABSENT in after:
                found = np.empty(0, dtype=int), np.empty(0, dtype=int), [after[ABSENT]]
            else:
                places = {freeze(o): i for i, o in enumerate(self.options[self.names[at]])}
                states = list(dict.fromkeys(after.values()))
                numbers = {left: i for i, left in enumerate(states)}
                keys = [freeze(value) for value in allowed]
                found = (
                    np.array([places[key] for key in keys]),
                    np.array([numbers[after[key]] for key in keys]),
                    states,
                )
            self._forks[at, state] = found
        return found

    def admits(self, point: Mapping[str, Any]) -> bool:
        """Return whether a point is valid: every choice that exists, at an option, and no other."""
        if not self.feasible():
            return False
        state, decided = self._start, 0
        for at, name in enumerate(self.names):
            key = freeze(point[name]) if name in point else ABSENT
            after = self._ways(at, state)[1].get(key)
            if after is None:
                return False
            decided += key is not ABSENT
            state = after
        return decided == len(point)

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every valid point, in the order of the options."""
        if self.feasible():
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
