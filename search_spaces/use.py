"""Where choices have a use: they exist with the blocks they act on, and leave other ones alone."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from backbones.config import BackboneConfig
from search_spaces.definition import Definition
from search_spaces.paths import Path, within, write
from search_spaces.statements import All_, Linear, Reduced, Test, all_of, any_of


def drop_idle(space: Definition) -> None:
    """Let choices leave alone those twins in which nothing that they write has an effect."""
    dropped: set[Path] = set()
    targets = ((path, name) for name, paths in space.targets.items() for path in paths)
    for path, name in sorted(targets, key=lambda target: len(target[0])):
        if not _in_twin(space, path):
            continue
        others = [at for at in space.targets[name] if not _in_twin(space, at)]
        below = any(within(path, above) and path != above for above in dropped)
        if others and (below or not _acts(space, name, path)):
            dropped.add(path)
            space.targets[name].remove(path)


def _in_twin(space: Definition, path: Path) -> bool:
    return path[0] == "blocks" and space.copies.is_twin(str(path[1]))


def _acts(space: Definition, name: str, path: Path) -> bool:
    """Whether two options of a choice, at one place in a block, are two functions."""
    letter = str(path[1])
    stage = {**space.base["stages"][0], "depth": 4, "pattern": letter, "routes": None}
    alone = {**space.base, "stages": [stage], "blocks": {letter: space.base["blocks"][letter]}}
    seen = {BackboneConfig.model_validate(alone).fingerprint()}
    for setting in space.choices[name].settings:
        data = copy.deepcopy(alone)
        try:
            write(data, path, space.written(name, path, setting))
            seen.add(BackboneConfig.model_validate(data).fingerprint())
        except (ValidationError, KeyError, IndexError, TypeError):
            return True  # something else has to be there as well
    return len(seen) > 1


def infer(space: Definition) -> None:
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
        stages = [int(path[1]) for path in space.targets[name]]
        letters = tuple(
            x
            for x in choice.letters
            if any(space.copies.own(named[x], s) in blocks for s in stages)
        )
        optional = name in space.whens
        chosen |= set() if optional else set(stages)
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
