"""Which fields of the canonical form the options of a choice move, and to what.

Each option is built on the base alone and its canonical form split into the fields of every
block and those of everything else. Choices that move the same field are built together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from search_spaces.choices import Value, freeze
from search_spaces.definition import Definition
from search_spaces.paths import within

MAX_JOINT = 4000
"""Combinations tried of choices that move the same field; past that they are left unfiltered."""

Leaves = dict[str, Any]
Place = tuple[int, int]
"""(stage, block); OUTSIDE for everything that is no block."""
OUTSIDE: Place = (-1, -1)
Probe = Callable[[Mapping[str, Value]], "dict[Place, Leaves] | None"]
MISSING = "(absent)"


def _flat(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, freeze(node)


def split(canonical: dict[str, Any], known: dict[str, Leaves]) -> dict[Place, Leaves]:
    """Split a canonical form into the fields of each block, and all others.

    known: keeps one object for equal blocks, of which there are many.
    """
    found: dict[Place, Leaves] = {}
    rest: Leaves = {k: v for k, v in canonical.items() if k != "stages"}
    for s, stage in enumerate(canonical["stages"]):
        rest[f"stages.{s}"] = {k: v for k, v in stage.items() if k != "blocks"}
        for b, block in enumerate(stage["blocks"]):
            text = repr(block)
            if text not in known:
                known[text] = dict(_flat(block))
            found[s, b] = known[text]
    found[OUTSIDE] = dict(_flat(rest))
    return found


@dataclass
class Match:
    """What the options of some choices do to the fields of one place.

    allowed: choice -> options that agree with the target; failing: fields that none brings to
    the target's value.
    """

    allowed: dict[str, set[Any]]
    failing: list[str]


class Family:
    """Choices that act on the same places, and the fields that each of them moves there."""

    def __init__(
        self,
        space: Definition,
        names: Sequence[str],
        probe: Probe,
        allowed: Mapping[str, set[Any]],
    ) -> None:
        self._space = space
        self._allowed = allowed
        self._probe = probe
        self._base = probe({})
        self._known: dict[tuple[frozenset[str], Place], set[str]] = {}
        groups = [frozenset((n,)) for n in names]
        for a in names:
            for b in names:
                if a != b and any(within(p, q) for p in space.targets[a] for q in space.targets[b]):
                    groups = _joined(groups, {a, b})
        self._tables = {group: self._try(group) for group in groups}
        while (pair := self._overlap()) is not None:
            for old in pair:
                del self._tables[old]
            merged = pair[0] | pair[1]
            self._tables[merged] = self._try(merged)

    def _try(self, group: frozenset[str]) -> list[tuple[dict[str, Value], dict[Place, Leaves]]]:
        """Return (options, fields) of every combination in a group that can be built."""
        names = sorted(group)
        ways: list[list[Any]] = []
        total = 1
        for name in names:
            options = self._space.choices[name].options
            kept = [o for o in options if freeze(o) in self._allowed.get(name, {freeze(o)})]
            here: list[Any] = [(name, o) for o in kept]
            ways.append([*here, None] if len(names) > 1 or name in self._space.whens else here)
            total *= len(ways[-1])
        if total > MAX_JOINT:
            return []
        tried = []
        for combination in product(*ways):
            point = dict(pair for pair in combination if pair is not None)
            found = self._probe(point)
            if found is not None:
                tried.append((point, found))
        return tried

    def _moved(self, group: frozenset[str], place: Place) -> set[str]:
        """Return the fields of a place that differ between combinations of a group."""
        moved = self._known.get((group, place))
        if moved is None:
            rows = [found[place] for _, found in self._tables[group]]
            if self._base is not None:
                rows.append(self._base[place])
            first, others = rows[0], {id(row): row for row in rows[1:]}
            moved = {
                k
                for row in others.values()
                if row is not first
                for k in row.keys() | first.keys()
                if row.get(k, MISSING) != first.get(k, MISSING)
            }
            self._known[group, place] = moved
        return moved

    def _overlap(self) -> tuple[frozenset[str], frozenset[str]] | None:
        places = list(self._base or {})
        groups = [g for g in self._tables if self._tables[g]]
        for place in places:
            owner: dict[str, frozenset[str]] = {}
            for group in groups:
                for key in self._moved(group, place):
                    if owner.setdefault(key, group) != group:
                        return owner[key], group
        return None

    def match(self, place: Place, target: Leaves, ignored: set[str]) -> Match:
        """Compare one place with the target's fields."""
        allowed: dict[str, set[Any]] = {}
        moved_by_any: set[str] = set(ignored)
        failing: list[str] = []
        unfiltered = False
        for group, tried in self._tables.items():
            if not tried:
                unfiltered = True
                continue
            moved = self._moved(group, place) - ignored
            moved_by_any |= moved
            hits = [
                point
                for point, found in tried
                if all(found[place].get(k, MISSING) == target.get(k, MISSING) for k in moved)
            ]
            if not hits:
                failing += [
                    k
                    for k in sorted(moved)
                    if all(f[place].get(k, MISSING) != target.get(k, MISSING) for _, f in tried)
                ] or sorted(moved)
            for name in group:
                allowed[name] = {freeze(p[name]) for p in hits if name in p}
        if self._base is not None and not unfiltered:
            mine = self._base[place]
            failing += [
                k
                for k in dict.fromkeys([*target, *mine])
                if k not in moved_by_any and mine.get(k, MISSING) != target.get(k, MISSING)
            ]
        return Match(allowed, failing)


def _joined(groups: list[frozenset[str]], names: set[str]) -> list[frozenset[str]]:
    touched = [g for g in groups if g & names]
    return [g for g in groups if not g & names] + [frozenset().union(*touched)]
