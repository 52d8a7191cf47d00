"""The four forms of a choice: how what is written becomes options and what they write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from backbones.language import spell
from backbones.yaml_files import Loc
from search_spaces import patterns
from search_spaces.choices import Choice, Value, freeze, show
from search_spaces.definition import Definition
from search_spaces.language import ChoiceEntry
from search_spaces.paths import Path
from search_spaces.statements import Spelling

MAX_OPTIONS = 2000
"""More options than that are no table of choices; a pattern of 8 from 2 letters has 510."""


def path_texts(entry: ChoiceEntry) -> tuple[str, ...]:
    """Return the paths that a choice writes to, as written."""
    if entry.sets or not isinstance(entry.options, dict):
        return entry.sets
    first = next(iter(entry.options.values()))
    return tuple(first) if isinstance(first, dict) else ()


def choice(
    space: Definition, name: str, entry: ChoiceEntry, depths: Mapping[int, tuple[str, int]]
) -> Choice:
    """Return a choice as its entry describes it; depths: stage -> (choice, base depth)."""
    common: dict[str, Any] = {"name": name, "sets": path_texts(entry), "about": entry.about}
    if entry.range is not None:
        values = entry.numbers
        if any(isinstance(v, float) for v in values):
            values = tuple(float(v) for v in values)
            return Choice(
                kind="categorical", form="range", options=values, settings=values, **common
            )
        return Choice(
            kind="int", form="range", options=values, settings=values,
            low=int(values[0]), high=int(values[-1]), step=int(entry.step), **common,
        )  # fmt: skip
    if entry.of is not None and entry.choose is not None:
        sets = _subsets(space, name, entry.of, *entry.choose)
        return Choice(kind="categorical", form="subset", options=sets, settings=sets, **common)
    if entry.letters is not None:
        listed = _patterns(space, name, entry, depths)
        return Choice(
            kind="categorical", form="pattern", options=listed,
            settings=tuple("".join(entry.letters.get(x, x) for x in p) for p in listed),
            letters=tuple(entry.letters), **common,
        )  # fmt: skip
    here = ("choices", name, "options")
    assert entry.options is not None
    if isinstance(entry.options, dict):
        options: tuple[Value, ...] = tuple(entry.options)
        settings: tuple[Any, ...] = tuple(entry.options.values())
    else:
        options = settings = tuple(entry.options)
        for i, option in enumerate(options):
            if isinstance(option, dict):
                space.fail((*here, i), "a mapping needs a label; write options: {LABEL: {...}}")
    choice = Choice(kind="categorical", form="options", options=options, settings=settings,
                    **common)  # fmt: skip
    seen: dict[Any, Value] = {}
    for i, option in enumerate(options):
        stored = freeze(choice.encode(option))
        if stored in seen:
            space.fail(
                (*here, i), f"{show(option)} and {show(seen[stored])} are one option; keep one"
            )
        seen[stored] = option
    return choice


def _subsets(
    space: Definition, name: str, of: list[str | int], fewest: int, most: int
) -> tuple[list[str | int], ...]:
    if len({freeze(v) for v in of}) < len(of):
        space.fail(("choices", name, "of"), f"{show(of)} names a value twice; keep one")
    if sum(math.comb(len(of), n) for n in range(fewest, most + 1)) > MAX_OPTIONS:
        space.fail(
            ("choices", name, "choose"),
            f"there are more than {MAX_OPTIONS} subsets; choose fewer, or of fewer",
        )
    return tuple(list(s) for n in range(fewest, most + 1) for s in combinations(of, n))


def _patterns(
    space: Definition, name: str, entry: ChoiceEntry, depths: Mapping[int, tuple[str, int]]
) -> tuple[str, ...]:
    here: Loc = ("choices", name)
    assert entry.letters is not None
    for letter, block in entry.letters.items():
        known = space.copies.written["blocks"]
        if block not in known:
            space.fail(
                (*here, "letters"),
                f"letter {letter!r} names block {block!r}, which is not under base.blocks; "
                f"declared: {', '.join(known)}",
            )
    for path in space.targets[name]:
        if len(path) != 3 or (path[0], path[2]) != ("stages", "pattern"):
            space.fail((*here, "sets"), "letters sets the pattern of stages: stages.N.pattern")
    possible = _possible_depths(space, name, depths)
    if entry.patterns is not None:
        for i, pattern in enumerate(entry.patterns):
            foreign = sorted(set(filter(str.isalpha, pattern)) - set(entry.letters))
            if foreign:
                said = f"{pattern!r} uses {foreign[0]!r}; letters: {', '.join(entry.letters)}"
                space.fail((*here, "patterns", i), said)
            try:
                spell(pattern, 1)
            except ValueError as error:
                space.fail((*here, "patterns", i), str(error))
        kept = patterns.useful(entry.patterns, possible)
        for i, pattern in enumerate(entry.patterns):
            if pattern not in kept or pattern in entry.patterns[:i]:
                space.fail(
                    (*here, "patterns", i),
                    f"{pattern!r} spells what a shorter one spells, or has letters beyond every "
                    "depth; remove it",
                )
        return kept
    assert entry.max_period is not None
    if len(entry.letters) ** entry.max_period > MAX_OPTIONS:
        space.fail(
            (*here, "max_period"),
            f"{len(entry.letters)} letters in patterns of {entry.max_period} are more than "
            f"{MAX_OPTIONS} options; lower max_period or list patterns",
        )
    return patterns.useful(patterns.all_patterns(tuple(entry.letters), entry.max_period), possible)


def _possible_depths(
    space: Definition, name: str, depths: Mapping[int, tuple[str, int]]
) -> set[int]:
    """Return every depth that the deepest stage of a pattern may have."""
    per_stage: list[set[int]] = []
    for path in space.targets[name]:
        stage = int(path[1])
        base = int(space.base["stages"][stage]["depth"])
        values = {base}
        if stage in depths:
            entry = space.file.choices[depths[stage][0]]
            if entry.range is not None:
                written: Any = entry.numbers
            else:
                raw: Any = entry.options or ()
                settings = raw.values() if isinstance(raw, dict) else raw
                at: Path = ("stages", stage, "depth")
                written = [space.written(depths[stage][0], at, s) for s in settings]
            if not all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in written):
                space.fail(("choices", depths[stage][0]), "a depth is an integer of 1 or more")
            values = set(written) | (values if entry.when is not None else set())
        per_stage.append(values)
    smallest = max(min(v) for v in per_stage)
    return {d for v in per_stage for d in v if d >= smallest}


def spelling(space: Definition, name: str, depths: Mapping[int, tuple[str, int]]) -> Spelling:
    """Return the rule that a pattern is the shortest spelling at the depth of its stage."""
    stages = [int(path[1]) for path in space.targets[name]]
    fixed = [space.base["stages"][s]["depth"] for s in stages if s not in depths]
    named = sorted({depths[s] for s in stages if s in depths})
    options = space.choices[name].options
    table = {d: patterns.spellings(options, d) for d in _possible_depths(space, name, depths)}
    return Spelling(name, (*([max(fixed)] if fixed else []), *named), table)
