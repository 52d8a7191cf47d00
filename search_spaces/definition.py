"""What a space file says, as data, and the config that a point of it makes of the base."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from backbones import yaml_files
from backbones.config import BackboneConfig, StageConfig
from backbones.language import spell
from backbones.parts import BlockConfig
from backbones.yaml_files import Document, Loc
from search_spaces.choices import Choice, Value, freeze
from search_spaces.copies import Copies
from search_spaces.errors import SpaceError
from search_spaces.fit import with_widths
from search_spaces.language import FitEntry, SpaceFile
from search_spaces.paths import Path, expand, write
from search_spaces.solver import Solver
from search_spaces.statements import ABSENT, Reduced

PARTS = 4096
"""Blocks, stages and fields of designs that are kept, so that equal ones are read once."""

Root = tuple[str | int, ...]
"""A block, ("blocks", letter), a stage, ("stages", index), or another field of the config."""


@dataclass
class Definition:
    """What a space file says.

    choices and whens are in dependency order; rules hold the spelling rule of every pattern,
    then the constraints as written. targets: choice -> expanded config paths. spread: for choices
    without `sets`, path -> the key of an option under which its value stands. points: preset ->
    what changes it. origin: choice of a `per` -> the name it is written under. stated: the base as
    the file has it. base_config: with twins, and with the blocks that a stage has of its own;
    copies: which these are. base: full plain data of that.
    """

    file: SpaceFile
    document: Document
    stated: BackboneConfig
    base_config: BackboneConfig
    base: dict[str, Any]
    copies: Copies = field(init=False)
    choices: dict[str, Choice] = field(default_factory=dict)
    targets: dict[str, list[Path]] = field(default_factory=dict)
    spread: dict[str, dict[Path, str]] = field(default_factory=dict)
    whens: dict[str, Reduced] = field(default_factory=dict)
    rules: list[Reduced] = field(default_factory=list)
    constraints: list[Reduced] = field(default_factory=list)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    fit: FitEntry | None = None

    def __post_init__(self) -> None:
        self._part = lru_cache(PARTS)(self._make_part)
        self._roots: dict[Root, list[str]] = {}
        self._texts: dict[Root, str] = {}
        self._last: tuple[Mapping[str, Value], BackboneConfig] | None = None

    def fail(self, loc: Loc, message: str) -> NoReturn:
        """Raise SpaceError for a place in the file."""
        path = ".".join(str(p) for p in loc)
        written = tuple(self.origin.get(str(p), p) if i == 1 else p for i, p in enumerate(loc))
        raise SpaceError(f"{self.document.where(written)}: {path}: {message}")

    def solver(
        self,
        only: Mapping[str, Sequence[Value]] | None = None,
        required: Collection[str] = (),
    ) -> Solver:
        """Return a solver of this space, with fewer options or with choices that must exist."""
        options = {n: (only or {}).get(n, c.options) for n, c in self.choices.items()}
        return Solver(options, self.whens, self.rules, required)

    def written(self, name: str, path: Path, setting: Any) -> Any:
        """Return what a choice writes to one of its paths, given what its option stands for."""
        keys = self.spread.get(name)
        value = setting if keys is None else setting[keys[path]]
        if path[0] == "stages" and path[2] == "pattern":
            return self.copies.spelled(int(path[1]), value)
        return value

    def said(self, path: Path) -> str:
        """Return a place of designs as the file names it."""
        return self.copies.said(".".join(map(str, path)))

    # -- designs --

    def assemble(self, choices: Mapping[str, Value]) -> BackboneConfig:
        """Return the config that active choices make of the base, at the base's widths.

        Parts that no choice has changed since they were last read are not read again.
        Raises: pydantic.ValidationError or SpaceError where a value does not fit.
        """
        if self._last is not None and self._last[0] == choices:
            return self._last[1]  # drawn just before
        if not self._roots:
            self._sort_by_root()
        try:
            count = len(self.base["stages"])
            stages = tuple(self._read(("stages", s), choices) for s in range(count))
            used = {letter for stage in stages for letter in stage.letters}
            blocks = {
                letter: self._read(("blocks", letter), choices)
                for letter in self.base["blocks"]
                if letter in used
            }
            varied = {key: self._read((key,), choices) for key in self._varied}
            parts = {**self._fixed, **varied, "blocks": blocks, "stages": stages}
            self._last = dict(choices), BackboneConfig(**parts)
            return self._last[1]
        except ValidationError:  # once more as a whole, for an error that names the whole path
            return BackboneConfig.model_validate(self.plain(choices))

    def _sort_by_root(self) -> None:
        for name in self.choices:
            for path in self.targets[name]:
                root = path[:2] if path[0] in ("blocks", "stages") else path[:1]
                for at in {root, path[:3] if path[0] == "blocks" else root}:
                    named = self._roots.setdefault(at, [])
                    named += [name] * (name not in named)
        self._varied = [str(root[0]) for root in self._roots if len(root) == 1]
        fixed = self.base_config.model_copy(update={"name": None, "family": None})
        self._fixed = {k: v for k, v in fixed if k not in ("blocks", "stages", *self._varied)}

    def _read(self, root: Root, choices: Mapping[str, Value]) -> Any:
        names = self._roots.get(root, ())
        return self._part(root, tuple([freeze(choices.get(n, ABSENT)) for n in names]))

    def _make_part(self, root: Root, frozen: tuple[Any, ...]) -> Any:
        """Return a block or stage as a config, and another field as plain data."""
        choices = {
            name: self.choices[name].thawed(value)
            for name, value in zip(self._roots.get(root, ()), frozen)
            if value is not ABSENT
        }
        whole = any(root in self.targets[name] for name in choices)
        if len(root) == 2 and root[0] == "blocks" and not whole:
            block: Any = self.base_config.blocks[str(root[1])]
            fields = {at[2]: self._read(at, choices) for at in self._roots
                      if len(at) == 3 and at[:2] == root}  # fmt: skip
            return BlockConfig.model_validate({**dict(block), **fields})
        if root not in self._texts:
            node: Any = self.base
            for key in root:
                node = node[key]
            self._texts[root] = json.dumps(node)
        above: Any = json.loads(self._texts[root])
        for key in reversed(root):
            above = {key: above}
        node = self._written(above, choices, root)
        for key in root:
            node = node[key]
        if len(root) == 3:
            other = {**dict(self.base_config.blocks[str(root[1])]), str(root[2]): node}
            return getattr(BlockConfig.model_validate(other), str(root[2]))
        kinds: dict[Any, type[BaseModel]] = {"blocks": BlockConfig, "stages": StageConfig}
        return kinds[root[0]].model_validate(node) if root[0] in kinds else node

    def _written(
        self, data: dict[str, Any], choices: Mapping[str, Value], root: Root = ()
    ) -> dict[str, Any]:
        """Write what choices set at or below `root` into data, outer places first."""
        writes = [
            (path, name, value)
            for name, value in choices.items()
            for path in self.targets[name]
            if path[: len(root)] == root
        ]
        for path, name, value in sorted(writes, key=lambda w: len(w[0])):
            try:
                write(data, path, self.written(name, path, self.choices[name].setting(value)))
            except (KeyError, IndexError, TypeError):
                raise SpaceError(
                    f"{name}: there is no {self.said(path)} in this design; give {name} "
                    "a when that holds only where there is one"
                ) from None
        return data

    def plain(self, choices: Mapping[str, Value]) -> dict[str, Any]:
        """Return the full data of a design, unread.

        Raises: SpaceError for a value below a place that is null.
        """
        data = self._written(json.loads(json.dumps(self.base)), choices)
        words = (spell(stage["pattern"], stage["depth"]) for stage in data["stages"])
        used = set().union(*words)
        data["blocks"] = {k: v for k, v in data["blocks"].items() if k in used}
        return data

    def identity(self, config: BackboneConfig) -> tuple[Any, ...]:
        """Return what tells two designs of this space apart.

        The fingerprint; where widths are solved for, at the base's widths, and the ratios.
        """
        if self.fit is None:
            return (config.fingerprint(),)
        widths = [stage.width for stage in config.stages]
        base = with_widths(config, [stage["width"] for stage in self.base["stages"]])
        return (base.fingerprint(), *(width / widths[0] for width in widths))


def blamed(
    space: Definition, point: Mapping[str, Value], exc: ValidationError
) -> tuple[str | None, str]:
    """Return the choice whose value the backbone language refuses, and what it says of it."""
    at = tuple(part for part in exc.errors()[0]["loc"])
    best: tuple[int, str | None] = (0, None)
    for name in point:
        for path in space.targets[name]:
            shared = _subsequence(path, at)
            if shared > best[0]:
                best = (shared, name)
    return best[1], space.copies.said(problem(exc, space.plain(point)))


def problem(exc: ValidationError, data: dict[str, Any]) -> str:
    """Return what the backbone language has against a config."""
    return yaml_files.describe(exc, BackboneConfig, Document(data, "config"))[len("config: ") :]


def _subsequence(path: Path, at: Sequence[int | str]) -> int:
    """Return how far a path follows an error's place, which has union tags between its parts."""
    position = matched = 0
    for key in path:
        while position < len(at) and at[position] != key:
            position += 1
        if position == len(at):
            break
        matched, position = matched + 1, position + 1
    return matched


def point_config(name: str, changes: Mapping[str, Any]) -> BackboneConfig:
    """Return a preset with some of its paths changed.

    Raises: SpaceError for a path that the preset has not, or a value that does not fit.
    """
    from backbones.catalog import load_config

    config = load_config(name)
    if not changes:
        return config
    data = config.model_dump(mode="json", by_alias=True)
    for text, value in changes.items():
        for path in expand(text, data):
            write(data, path, value)
    try:
        return BackboneConfig.model_validate(data)
    except ValidationError as exc:
        raise SpaceError(problem(exc, data)) from None
