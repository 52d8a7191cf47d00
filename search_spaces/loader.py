"""Gives a space file its meaning, and refuses one that has none.

Reading goes from shape (`language`) to base, choices, order, statements and points; then `proof`
shows that the space can hold what it says.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel

from backbones import yaml_files
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.yaml_files import Document, Loc
from search_spaces import patterns
from search_spaces.choices import Choice, Value, freeze, show
from search_spaces.conditions import TESTS, WORDS, Reader
from search_spaces.definition import Definition, point_config
from search_spaces.errors import SpaceError
from search_spaces.language import ChoiceEntry, SpaceFile
from search_spaces.paths import Path, expand, within
from search_spaces.proof import check_possible, prove
from search_spaces.statements import All_, Linear, Reduced, Spelling, Test, all_of, any_of

MAX_OPTIONS = 2000
"""More options than that are no table of choices; a pattern of 8 from 2 letters has 510."""


def read(document: Document, folder: FilePath | None = None, proven: bool = False) -> Definition:
    """Return the definition that a space file holds.

    folder: where a base path is looked up; the current folder without. proven: whether the text
    has been loaded before, by this version or an older one, and need not be proved again.
    Raises: SpaceError with file, line and remedy.
    """
    _refuse_booleans(document.data, (), document)
    file = yaml_files.validate(SpaceFile, document, SpaceError)
    config = _base(file, document, folder)
    base = config.model_dump(mode="json", by_alias=True)
    base.update(name=None, drop_path_rate=config.drop_path_rate)
    space = Definition(file, document, config, base, fit=file.fit)
    depths = _read_targets(space)
    for name, entry in file.choices.items():
        space.choices[name] = _choice(space, name, entry, depths)
    reader = Reader(space.choices, space.fail)
    for name, entry in file.choices.items():
        if entry.when is not None:
            space.whens[name] = reader.read(entry.when, ("choices", name, "when"))
    _order(space, depths)
    space.rules += [_spelling(space, n, depths) for n, c in space.choices.items() if c.letters]
    for i, raw in enumerate(file.constraints):
        space.constraints.append(reader.read(raw, ("constraints", i)))
    space.rules += space.constraints
    check_possible(space)
    _infer_use(space)
    _order(space, depths)
    check_possible(space)
    if not proven:
        prove(space)
    _read_points(space)
    return space


def _refuse_booleans(node: Any, loc: Loc, document: Document) -> None:
    """Raise SpaceError for a name such as off, which YAML reads as false."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, bool):
                texts = [at[-1] for at in document.lines if at[:-1] == loc]
                text = next((t for t in texts if yaml.safe_load(str(t)) is key), key)
                at = ".".join(map(str, loc)) or "the file"
                raise SpaceError(
                    f"{document.where((*loc, text))}: {at}: {text} is {show(key)} to YAML, and no "
                    f"name; write it in quotes: '{text}'"
                )
            _refuse_booleans(value, (*loc, key), document)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            _refuse_booleans(value, (*loc, i), document)


# --- base --------------------------------------------------------------------------------------


class _Inline(BaseModel):
    """Holds an inline base, so that mistakes in it are reported as base.<field>."""

    base: BackboneConfig


def _base(file: SpaceFile, document: Document, folder: FilePath | None) -> BackboneConfig:
    where = document.where(("base",))
    if isinstance(file.base, str):
        from backbones.catalog import load_config

        beside = None if folder is None else folder / file.base
        is_file = beside is not None and beside.is_file()
        try:
            return load_config(str(beside) if is_file else file.base)
        except ConfigError as exc:
            raise SpaceError(f"{where}: base: {exc}") from None
    inline = Document({"base": file.base}, document.source, document.lines)
    return yaml_files.validate(_Inline, inline, SpaceError).base


# --- choices -----------------------------------------------------------------------------------


def _read_targets(space: Definition) -> dict[int, tuple[str, int]]:
    """Expand the paths of all choices; return stage -> (choice of its depth, base depth)."""
    depths: dict[int, tuple[str, int]] = {}
    owner: dict[Path, str] = {}
    for name, entry in space.file.choices.items():
        if name in WORDS or name in TESTS:
            space.fail(("choices", name), "is a word of the language; choose another name")
        found: list[Path] = []
        for text in _path_texts(entry):
            try:
                places = expand(text, space.base)
            except SpaceError as exc:
                space.fail(("choices", name, "sets" if entry.sets else "options"), str(exc))
            found += places
            if not entry.sets:
                space.spread.setdefault(name, {}).update(dict.fromkeys(places, text))
        for path in found:
            least = {"stages": 3, "blocks": 2}.get(str(path[0]), 1)
            if len(path) < least:
                field = "blocks.LETTER.mixer" if path[0] == "blocks" else "stages.N.depth"
                space.fail(
                    ("choices", name, "sets" if entry.sets else "options"),
                    f"{'.'.join(map(str, path))} is more than one field; name what varies in it, "
                    f"e.g. {field}",
                )
        space.targets[name] = found
        for path in found:
            if path in owner and space.file.choices[owner[path]].when == entry.when:
                space.fail(
                    ("choices", name, "sets"),
                    f"{'.'.join(map(str, path))} is already set by {owner[path]}; "
                    "keep one of the two, or give them conditions that exclude each other",
                )
            owner[path] = name
            if len(path) == 3 and path[0] == "stages" and path[2] == "depth":
                stage = int(path[1])
                depths[stage] = (name, space.base["stages"][stage]["depth"])
    _check_below_null(space)
    return depths


def _path_texts(entry: ChoiceEntry) -> tuple[str, ...]:
    if entry.sets or not isinstance(entry.options, dict):
        return entry.sets
    first = next(iter(entry.options.values()))
    return tuple(first) if isinstance(first, dict) else ()


def _check_below_null(space: Definition) -> None:
    """Refuse paths below a null of the base, unless another choice fills it."""
    for name, found in space.targets.items():
        for path in found:
            node: Any = space.base
            for end, key in enumerate(path):
                if node is None:
                    above = path[:end]
                    others = [p for n, ps in space.targets.items() if n != name for p in ps]
                    if not any(within(above, p) for p in others):
                        space.fail(
                            ("choices", name, "sets"),
                            f"{'.'.join(map(str, above))} is null in the base, so "
                            f"{'.'.join(map(str, path))} does not exist; give it a value there",
                        )
                    break
                node = node[key]


def _choice(
    space: Definition, name: str, entry: ChoiceEntry, depths: Mapping[int, tuple[str, int]]
) -> Choice:
    common: dict[str, Any] = {"name": name, "sets": _path_texts(entry), "about": entry.about}
    if entry.range is not None:
        low, high = entry.range
        values = tuple(range(low, high + 1, entry.step))
        return Choice(
            kind="int", form="range", options=values, settings=values,
            low=low, high=high, step=entry.step, **common,
        )  # fmt: skip
    if entry.of is not None and entry.choose is not None:
        sets = _subsets(space, name, entry.of, *entry.choose)
        return Choice(kind="categorical", form="subset", options=sets, settings=sets, **common)
    if entry.letters is not None:
        listed = _patterns(space, name, entry, depths)
        return Choice(
            kind="categorical", form="pattern", options=listed,
            settings=tuple("".join(entry.letters[x] for x in p) for p in listed),
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
        if block not in space.base["blocks"]:
            space.fail(
                (*here, "letters"),
                f"letter {letter!r} names block {block!r}, which is not under base.blocks; "
                f"declared: {', '.join(space.base['blocks'])}",
            )
    for path in space.targets[name]:
        if len(path) != 3 or (path[0], path[2]) != ("stages", "pattern"):
            space.fail((*here, "sets"), "letters sets the pattern of stages: stages.N.pattern")
    possible = _possible_depths(space, name, depths)
    if entry.patterns is not None:
        for i, pattern in enumerate(entry.patterns):
            foreign = sorted(set(pattern) - set(entry.letters))
            if not pattern or foreign:
                space.fail(
                    (*here, "patterns", i),
                    f"{pattern!r} uses {foreign[0]!r}; letters: {', '.join(entry.letters)}"
                    if foreign
                    else "a pattern has one letter or more",
                )
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
                written: Any = range(entry.range[0], entry.range[1] + 1, entry.step)
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


def _spelling(space: Definition, name: str, depths: Mapping[int, tuple[str, int]]) -> Spelling:
    stages = [int(path[1]) for path in space.targets[name]]
    fixed = [space.base["stages"][s]["depth"] for s in stages if s not in depths]
    named = sorted({depths[s] for s in stages if s in depths})
    options = space.choices[name].options
    table = {d: patterns.spellings(options, d) for d in _possible_depths(space, name, depths)}
    return Spelling(name, (*([max(fixed)] if fixed else []), *named), table)


# --- use ---------------------------------------------------------------------------------------


def _infer_use(space: Definition) -> None:
    """Let a choice that writes into blocks alone exist only where a pattern places one of them."""
    asked: dict[str, set[str]] = {name: _names(when) for name, when in space.whens.items()}
    inside = {
        name: {str(p[1]) for p in paths} if all(p[0] == "blocks" for p in paths) else set()
        for name, paths in space.targets.items()
    }
    for name, blocks in inside.items():
        used = _placed(space, blocks) if blocks else None
        above = _names(used)
        while (more := above.union(*(asked.get(n, set()) for n in above))) > above:
            above = more
        when = space.whens.get(name)
        parts = when.parts if isinstance(when, All_) else (when,)
        # A choice that needs another one of the same blocks needs no word of the blocks.
        implied = used in parts or any(
            isinstance(part, (Test, Linear)) and inside[n] and inside[n] <= blocks
            for part in parts
            for n in _names(part)
        )
        if used is not None and name not in above and not implied:
            space.whens[name] = used if name not in asked else all_of([when, used])


def _placed(space: Definition, blocks: set[str]) -> Reduced:
    """Return the statement that one of the blocks is in use; None where one always may be."""
    tests: list[Reduced] = []
    chosen: set[Any] = set()
    for name, choice in space.choices.items():
        if not choice.letters:
            continue
        named = space.file.choices[name].letters or {}
        letters = tuple(x for x in choice.letters if named[x] in blocks)
        optional = name in space.whens
        chosen |= set() if optional else {path[1] for path in space.targets[name]}
        if letters and all(set(letters) & set(option) for option in choice.options):
            return None
        if letters:
            shown = f"contains {' or '.join(letters)}"
            tests.append(Test(name, "contains", letters, shown))
    for index, stage in enumerate(space.base["stages"]):
        if index not in chosen and blocks & set(stage["pattern"]):
            return None
    return any_of(tests) if tests else None


def _names(statement: Reduced) -> set[str]:
    if statement is None or isinstance(statement, bool):
        return set()
    return set(statement.names)


# --- order and possibility ---------------------------------------------------------------------


def _order(space: Definition, depths: Mapping[int, tuple[str, int]]) -> None:
    """Put the choices in dependency order, as near to the written order as it goes."""
    needs: dict[str, set[str]] = {name: set() for name in space.choices}
    for name, when in space.whens.items():
        if when is not None and not isinstance(when, bool):
            needs[name] |= when.names
    for name, choice in space.choices.items():
        if choice.letters:
            stages = (int(path[1]) for path in space.targets[name])
            needs[name] |= {depths[s][0] for s in stages if s in depths}
    ordered: list[str] = []
    while len(ordered) < len(needs):
        ready = next((n for n in needs if n not in ordered and needs[n] <= set(ordered)), None)
        if ready is None:
            _fail_on_cycle(space, {n: needs[n] - set(ordered) for n in needs if n not in ordered})
        ordered.append(ready)
    space.choices = {name: space.choices[name] for name in ordered}
    space.whens = {name: space.whens[name] for name in ordered if name in space.whens}


def _fail_on_cycle(space: Definition, needs: Mapping[str, set[str]]) -> NoReturn:
    trail = [next(iter(needs))]
    while trail[-1] not in trail[:-1]:
        trail.append(min(needs[trail[-1]]))
    cycle = trail[trail.index(trail[-1]) :]
    at = next(n for n in cycle if n in space.whens)
    space.fail(
        ("choices", at, "when"),
        f"choices wait for each other: {' needs '.join(cycle)}; remove one of the conditions",
    )


# --- points ------------------------------------------------------------------------------------


def _read_points(space: Definition) -> None:
    if not space.file.points:
        return
    from backbones.catalog import list_presets

    presets = list_presets()
    for name, changes in space.file.points.items():
        if name not in presets:
            near = difflib.get_close_matches(name, presets, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"presets: {', '.join(presets)}"
            space.fail(("points", name), f"is no preset; {hint}")
        space.points[name] = dict(changes or {})
        try:
            point_config(name, space.points[name])
        except SpaceError as exc:
            space.fail(("points", name), str(exc))
