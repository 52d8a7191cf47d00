"""What a space file says, as data: base, choices, conditions, rules and points."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from backbones import yaml_files
from backbones.config import BackboneConfig
from backbones.yaml_files import Document, Loc
from search_spaces import patterns
from search_spaces.choices import Choice, Value
from search_spaces.errors import SpaceError
from search_spaces.language import FitEntry, SpaceFile
from search_spaces.paths import Path, expand, write
from search_spaces.solver import Solver
from search_spaces.statements import Reduced


@dataclass
class Definition:
    """What a space file says.

    choices and whens are in dependency order; rules hold the spelling rule of every pattern,
    then the constraints as written. targets: choice -> expanded config paths. spread: for choices
    without `sets`, path -> the key of an option under which its value stands. points: preset ->
    what changes it. base: full plain data of the base config.
    """

    file: SpaceFile
    document: Document
    base_config: BackboneConfig
    base: dict[str, Any]
    choices: dict[str, Choice] = field(default_factory=dict)
    targets: dict[str, list[Path]] = field(default_factory=dict)
    spread: dict[str, dict[Path, str]] = field(default_factory=dict)
    whens: dict[str, Reduced] = field(default_factory=dict)
    rules: list[Reduced] = field(default_factory=list)
    constraints: list[Reduced] = field(default_factory=list)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    fit: FitEntry | None = None

    def __post_init__(self) -> None:
        self._base_text = json.dumps(self.base)

    def fail(self, loc: Loc, message: str) -> NoReturn:
        """Raise SpaceError for a place in the file."""
        path = ".".join(str(p) for p in loc)
        raise SpaceError(f"{self.document.where(loc)}: {path}: {message}")

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
        return setting if keys is None else setting[keys[path]]

    def assemble(self, choices: Mapping[str, Value], **replaced: Any) -> BackboneConfig:
        """Return the config that active choices make of the base, at the base's widths.

        replaced: top-level keys that take the place of the base's before anything is written.
        Raises: pydantic.ValidationError or SpaceError where a value does not fit.
        """
        data: dict[str, Any] = {**json.loads(self._base_text), **copy.deepcopy(replaced)}
        writes = [
            (path, name, value) for name, value in choices.items() for path in self.targets[name]
        ]
        for path, name, value in sorted(writes, key=lambda w: len(w[0])):
            try:
                write(data, path, self.written(name, path, self.choices[name].setting(value)))
            except (KeyError, IndexError, TypeError):
                raise SpaceError(
                    f"{name}: there is no {'.'.join(map(str, path))} in this design; give {name} "
                    "a when that holds only where there is one"
                ) from None
        used = {letter for stage in data["stages"] for letter in _word(stage)}
        data["blocks"] = {k: v for k, v in data["blocks"].items() if k in used}
        return BackboneConfig.model_validate(data)


def _word(stage: Mapping[str, Any]) -> str:
    return patterns.tile(stage["pattern"], stage["depth"])


def blamed(
    space: Definition, point: Mapping[str, Value], exc: ValidationError
) -> tuple[str | None, str]:
    """Return the choice whose value the backbone language refuses, and what it says of it."""
    text = yaml_files.describe(exc, BackboneConfig, Document({}, "config"))
    problem = text.removeprefix("config: ")
    at = tuple(part for part in exc.errors()[0]["loc"])
    best: tuple[int, str | None] = (0, None)
    for name in point:
        for path in space.targets[name]:
            shared = _subsequence(path, at)
            if shared > best[0]:
                best = (shared, name)
    return best[1], problem


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

    Raises: SpaceError for a path that the preset has not; pydantic.ValidationError for a value
    that does not fit.
    """
    from backbones.catalog import load_config

    config = load_config(name)
    if not changes:
        return config
    data = config.model_dump(mode="json", by_alias=True)
    for text, value in changes.items():
        for path in expand(text, data):
            write(data, path, value)
    return BackboneConfig.model_validate(data)
