"""Gives a space file its meaning, and refuses one that has none.

Reading goes from shape (`language`) to base, choices, order, statements and points; then `proof`
shows that the space can hold what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel

from backbones import yaml_files
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.yaml_files import Document, Loc
from kernels.errors import nearest
from search_spaces import forms
from search_spaces.choices import show
from search_spaces.conditions import TESTS, WORDS, Reader
from search_spaces.definition import Definition, point_config
from search_spaces.errors import SpaceError
from search_spaces.language import ChoiceEntry, SpaceFile
from search_spaces.paths import Path, expand, within
from search_spaces.proof import check_possible, prove
from search_spaces.statements import All_, Linear, Reduced, Test, all_of, any_of


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
    base.update(name=None, family=None, drop_path_rate=config.drop_path_rate)
    space = Definition(file, document, config, base, fit=file.fit)
    file = space.file = _each(space)
    depths = _read_targets(space)
    for name, entry in file.choices.items():
        space.choices[name] = forms.choice(space, name, entry, depths)
    reader = Reader(space.choices, space.fail)
    for name, entry in file.choices.items():
        if entry.when is not None:
            space.whens[name] = reader.read(entry.when, ("choices", name, "when"))
    _order(space, depths)
    space.rules += [forms.spelling(space, n, depths) for n, c in space.choices.items() if c.letters]
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


def _each(space: Definition) -> SpaceFile:
    """Return the file with every `per` written out as one choice for each match."""
    written = space.file.choices
    choices: dict[str, ChoiceEntry] = {}
    for name, entry in written.items():
        if entry.per is None:
            choices[name] = entry
            continue
        try:
            places = expand(entry.per, space.base)
        except SpaceError as exc:
            space.fail(("choices", name, "per"), str(exc))
        parts = [i for i, at in enumerate(zip(*places)) if len(set(at)) > 1] or [1]
        for count, place in enumerate(places, start=1):
            # Stages keep their own numbers where they alone differ: depth_1, depth_2, depth_4.
            staged = parts == [1] and place[0] == "stages"
            number = int(place[1]) + 1 if staged else count
            own = f"{name}_{number}"
            if own in written or own in choices:
                space.fail(("choices", name), f"makes a choice {own}, which is written as well")
            space.origin[own] = name
            update = {"per": None, "sets": (".".join(map(str, place)),),
                      "about": entry.about.replace("{n}", str(number))}  # fmt: skip
            choices[own] = entry.model_copy(update=update)
    return space.file.model_copy(update={"choices": choices})


def _read_targets(space: Definition) -> dict[int, tuple[str, int]]:
    """Expand the paths of all choices; return stage -> (choice of its depth, base depth)."""
    depths: dict[int, tuple[str, int]] = {}
    owner: dict[Path, str] = {}
    for name, entry in space.file.choices.items():
        if name in WORDS or name in TESTS:
            space.fail(("choices", name), "is a word of the language; choose another name")
        found: list[Path] = []
        for text in forms.path_texts(entry):
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
            hint = nearest(name, presets, f"presets: {', '.join(presets)}")
            space.fail(("points", name), f"is no preset; {hint}")
        space.points[name] = dict(changes or {})
        try:
            point_config(name, space.points[name])
        except SpaceError as exc:
            space.fail(("points", name), str(exc))
