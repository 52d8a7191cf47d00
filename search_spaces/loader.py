"""Gives a space file its meaning, and refuses one that has none.

Reading goes from shape (`language`) to base, choices, order, statements and points; then `proof`
shows that the space can hold what it says.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from backbones import yaml_files
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.parts import BlockConfig
from backbones.yaml_files import Document, Loc
from kernels.errors import nearest
from search_spaces import forms, use
from search_spaces.choices import show
from search_spaces.conditions import TESTS, WORDS, Reader
from search_spaces.copies import Copies
from search_spaces.definition import Definition, point_config
from search_spaces.errors import SpaceError
from search_spaces.language import ChoiceEntry, SpaceFile, TwinEntry
from search_spaces.paths import Path, expand, within, write
from search_spaces.proof import check_possible, prove


def read(document: Document, folder: FilePath | None = None, proven: bool = False) -> Definition:
    """Return the definition that a space file holds.

    folder: where a base path is looked up; the current folder without. proven: whether the text
    has been loaded before, by this version or an older one, and need not be proved again.
    Raises: SpaceError with file, line and remedy.
    """
    _refuse_booleans(document.data, (), document)
    file = yaml_files.validate(SpaceFile, document, SpaceError)
    config = _base(file, document, folder)
    space = Definition(file, document, config, config, _full(config), fit=file.fit)
    _copy(space)
    file = space.file = _each(space)
    depths = _read_targets(space)
    for name, entry in file.choices.items():
        space.choices[name] = forms.choice(space, name, entry, depths)
    use.drop_idle(space)
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
    use.infer(space)
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


def _full(config: BackboneConfig) -> dict[str, Any]:
    """Return all of a base, as plain data."""
    base = config.model_dump(mode="json", by_alias=True)
    return {**base, "name": None, "family": None}


def _copy(space: Definition) -> None:
    """Add the twins to the base, and the blocks that a stage has of its own."""
    twins: dict[str, tuple[str, list[Path]]] = {}
    for letter, twin in space.file.twins.items():
        twins[letter] = twin.of, _add_twin(space, letter, twin)
    if twins:
        space.base_config = BackboneConfig.model_validate(space.base)
        space.base = _full(space.base_config)
    space.copies = Copies(space.base, twins)
    texts = (t for e in space.file.choices.values() for t in (e.per, *forms.path_texts(e)) if t)
    try:
        parted = space.copies.part(texts)
    except SpaceError as exc:
        space.fail(("choices",), str(exc))
    if parted:
        space.base_config = BackboneConfig.model_validate(space.base)


def _add_twin(space: Definition, letter: str, twin: TwinEntry) -> list[Path]:
    """Put a twin beside its block; return the paths in which it differs."""
    blocks, here = space.base["blocks"], ("twins", letter)
    if letter in blocks:
        space.fail(here, f"{letter} is a block already; choose another letter")
    if twin.of not in blocks or twin.of in space.file.twins:
        declared = ", ".join(b for b in blocks if b not in space.file.twins)
        space.fail((*here, "of"), f"{twin.of!r} is not under base.blocks; declared: {declared}")
    own, differs = copy.deepcopy(blocks[twin.of]), []
    for text, value in twin.but.items():
        try:
            places = expand(text, own)
        except SpaceError as exc:
            space.fail((*here, "but", text), str(exc))
        for path in places:
            write(own, path, value)
        differs += places
    try:
        block = BlockConfig.model_validate(own).model_dump(mode="json")
    except ValidationError as exc:
        said = yaml_files.describe(exc, BlockConfig, Document(own, "twin"))
        space.fail((*here, "but"), said.removeprefix("twin: "))
    if block == blocks[twin.of]:
        space.fail((*here, "but"), f"{letter} is {twin.of} itself; change a value")
    blocks[letter] = block
    return differs


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
            places = expand(entry.per, space.copies.written)
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
            here: Loc = ("choices", name, "sets" if entry.sets else "options")
            try:
                named = expand(text, space.copies.written)
                places = [at for path in named for at in space.copies.places(path)]
            except SpaceError as exc:
                space.fail(here, str(exc))
            _check_whole(space, here, named)
            found += places
            if not entry.sets:
                space.spread.setdefault(name, {}).update(dict.fromkeys(places, text))
        space.targets[name] = found
        for path in found:
            if path in owner and space.file.choices[owner[path]].when == entry.when:
                space.fail(
                    ("choices", name, "sets"),
                    f"{space.said(path)} is already set by {owner[path]}; "
                    "keep one of the two, or give them conditions that exclude each other",
                )
            owner[path] = name
            if len(path) == 3 and path[0] == "stages" and path[2] == "depth":
                stage = int(path[1])
                depths[stage] = (name, space.base["stages"][stage]["depth"])
    _check_below_null(space)
    return depths


def _check_whole(space: Definition, here: Loc, places: list[Path]) -> None:
    """Refuse a path that names more than one field."""
    for path in places:
        least = {"stages": 4 if path[2:3] == ("blocks",) else 3, "blocks": 2}.get(str(path[0]), 1)
        if len(path) < least:
            field = "blocks.LETTER.mixer" if "blocks" in path else "stages.N.depth"
            space.fail(
                here,
                f"{'.'.join(map(str, path))} is more than one field; name what varies in it, "
                f"e.g. {field}",
            )


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
                            f"{space.said(above)} is null in the base, so {space.said(path)} does "
                            "not exist; give it a value there",
                        )
                    break
                node = node[key]


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
