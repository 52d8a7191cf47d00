"""Is this design a point of the space, and which one?

Designs are compared by what they compute (their fingerprint), not by spelling: block letters,
order names and ratios may differ. An option is possible where the design stays what it is when
the option is written into it. That leaves few options a choice; points made of these are built
and compared whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

from pydantic import ValidationError

from backbones.config import BackboneConfig
from backbones.language import spell
from search_spaces.choices import Choices, freeze, fresh, show
from search_spaces.definition import Definition
from search_spaces.errors import SpaceError
from search_spaces.fit import bend, with_widths
from search_spaces.paths import Path, within, write

MAX_POINTS = 500
"""Points compared whole."""

Options = dict[str, set[Any]]
"""Choice -> the options, frozen, that leave the design as it is."""
MISSING: Any = object()


def find(space: Definition, config: BackboneConfig) -> Choices:
    """Return the point whose design, at the widths of `config`, has the same fingerprint.

    Raises: SpaceError naming the first field in which the design lies outside the space.
    """
    return _Search(space, config).run()


class _Search:
    """One membership question. data: the design, into which options are written for a moment."""

    def __init__(self, space: Definition, config: BackboneConfig) -> None:
        self.space = space
        self.fingerprint = config.fingerprint()
        self.widths = [stage.width for stage in config.stages]
        self.data = config.model_dump(mode="json", by_alias=True)
        self.targets = [(n, path) for n, paths in space.targets.items() for path in paths]
        self.free = [p for _, p in self.targets if p[0] == "stages" and p[2] == "pattern"]
        self.free += [("stages", s, "pattern") for s in range(len(self.widths))]
        if space.fit is not None:
            self.free += [("stages", s, "width") for s in range(len(self.widths))]
        self._known: dict[str, bool] = {}
        self._suiting: dict[tuple[str, str], tuple[Options, Path | None]] = {}
        self._spell_out_routes(config)

    def run(self) -> Choices:
        """Filter, then compare whole."""
        stages = self.space.base["stages"]
        if len(stages) != len(self.widths):
            self._refuse("stages", f"{len(self.widths)} of them, the space has {len(stages)}")
        options: Options = {}
        roots: list[Path] = [("stages", s) for s in range(len(stages))]
        roots += [(k,) for k in self.space.base if k not in ("blocks", "stages", "schema")]
        for root in roots:
            kept, outside = self._part(root, root)
            if outside is not None:
                self._refuse(".".join(map(str, outside)), self._at(outside))
            options = _both(options, kept)
        found = self._compare(_both(options, self._spell()))
        if found is None:
            raise SpaceError(
                f"not in space {self.space.file.name}: each field is possible, but not all "
                "together; one value must suit all blocks, and the constraints be kept"
            )
        return found

    def _refuse(self, field: str, found: Any) -> NoReturn:
        shown = "(absent)" if found is MISSING else show(found)
        raise SpaceError(
            f"not in space {self.space.file.name}: {field}: {shown}; no choice leads there"
        )

    def _spell_out_routes(self, config: BackboneConfig) -> None:
        """Give the design route tables where the space has them."""
        for base, stage, canonical in zip(
            self.space.base["stages"], self.data["stages"], config.canonical()["stages"]
        ):
            rows = [block["mixer"].get("order") for block in canonical["blocks"]]
            if base["routes"] is not None and all(isinstance(row, list) for row in rows):
                stage["routes"] = rows
                for letter in stage["pattern"]:
                    order = {"kind": "window", "routes": rows[0]}
                    self.data["blocks"][letter]["mixer"]["order"] = order

    # -- fields --

    def _at(self, path: Path) -> Any:
        node: Any = self.data
        for key in path:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                return MISSING
        return node

    def _base(self, path: Path) -> Any:
        node: Any = self.space.base
        for key in path:
            node = None if node is None else node[key]
        return node

    def _stays(self, at: Path, value: Any) -> bool:
        """Whether the design stays what it is with this value at a path."""
        mine = self._at(at)
        if mine == value:
            return True
        if isinstance(mine, list) and isinstance(value, list) and _members(mine) != _members(value):
            return False
        key = f"{at} {value!r}"
        if key not in self._known:
            data = copy.deepcopy(self.data)
            try:
                write(data, at, value)
                config = BackboneConfig.model_validate(data)
                self._known[key] = config.fingerprint() == self.fingerprint
            except (ValidationError, KeyError, IndexError, TypeError):
                self._known[key] = False
        return self._known[key]

    def _with_mine(self, value: Any, path: Path, at: Path) -> Any:
        """Return a copy of a value in which what choices write below it is as the design has it."""
        value = copy.deepcopy(value)
        for below in [*self.free, *(p for _, p in self.targets)]:
            rest = below[len(path) :]
            mine = self._at((*at, *rest))
            if rest and within(below, path) and mine is not MISSING:
                with suppress(KeyError, IndexError, TypeError):
                    write(value, rest, mine)
        return value

    def _part(self, root: Path, at: Path) -> tuple[Options, Path | None]:
        """Return the options with which a part of the space is a part of the design.

        The second is the first field of the design's part that none of them brings there.
        """
        outside = self._differing(self._base(root), root, at)
        kept: Options = {}
        for name, path in self.targets:
            if outside is not None or not within(path, root) or path in self.free:
                continue
            choice, here = self.space.choices[name], (*at, *path[len(root) :])

            def stays(value: Any, path: Path = path, here: Path = here) -> bool:
                return self._stays(here, self._with_mine(value, path, here))

            settings = (self.space.written(name, path, s) for s in choice.settings)
            found = {freeze(o) for o, s in zip(choice.options, settings) if stays(s)}
            kept = _both(kept, {name: found})
            # A choice that may not exist leaves what the base has, or another choice writes there.
            above = any(other != path and within(path, other) for _, other in self.targets)
            missing = name in self.space.whens and (above or stays(self._base(path)))
            if not kept[name] and not missing:
                outside = here
        return kept, outside

    def _differing(self, base: Any, path: Path, at: Path) -> Path | None:
        """Return the first field that is otherwise in the design, and that no choice writes."""
        if any(path == p for p in (*self.free, *(p for _, p in self.targets))):
            return None
        if self._stays(at, self._with_mine(base, path, at)):
            return None
        mine = self._at(at)
        for key in base if isinstance(base, dict) and isinstance(mine, dict) else ():
            inside = self._differing(base[key], (*path, key), (*at, key))
            if inside is not None:
                return inside
        return at

    # -- blocks --

    def _suits(self, block: str, letter: str) -> tuple[Options, Path | None]:
        """Return what `_part` says of a block of the space and one of the design."""
        pair = block, letter
        if pair not in self._suiting:
            self._suiting[pair] = self._part(("blocks", block), ("blocks", letter))
        return self._suiting[pair]

    def _spell(self) -> Options:
        """Return the patterns that can spell the design's blocks, and what these blocks leave."""
        chosen: dict[str, list[int]] = {"": list(range(len(self.widths)))}
        for name, path in self.targets:
            if path[0] == "stages" and path[2] == "pattern":
                chosen.setdefault(name, []).append(int(path[1]))
        for name, stages in chosen.items():
            chosen[""] = [s for s in chosen[""] if not name or s not in stages]
        left: Options = {}
        for name, stages in chosen.items():
            ways = [way for way in self._ways(name, stages) if self._placed(way[1])]
            if not ways:
                self._refuse_block([words for _, words in self._ways(name, stages)])
            if name:
                left[name] = {option for option, _ in ways}
            for pair in {pair for _, words in ways for pair in self._pairs(words)}:
                for choice, options in self._suits(*pair)[0].items():
                    left[choice] = left.get(choice, set()) | options
        return left

    def _ways(self, name: str, stages: list[int]) -> list[tuple[str, dict[int, str]]]:
        """Return what each option of a pattern writes into stages; the base's where none may."""
        ways = []
        if not name or name in self.space.whens:
            ways.append(("", {s: str(self.space.base["stages"][s]["pattern"]) for s in stages}))
        choice = self.space.choices[name] if name else None
        for option, setting in zip(choice.options, choice.settings) if choice else ():
            written = {
                s: self.space.written(name, ("stages", s, "pattern"), setting) for s in stages
            }
            ways.append((option, written))
        return ways

    def _pairs(self, words: Mapping[int, str]) -> set[tuple[str, str]]:
        """Return which block of the space meets which of the design, given patterns of stages."""
        return {
            pair
            for s, pattern in words.items()
            for stage in [self.data["stages"][s]]
            for pair in zip(*(spell(p, stage["depth"]) for p in (pattern, stage["pattern"])))
        }

    def _placed(self, words: Mapping[int, str]) -> bool:
        return all(self._suits(*pair)[1] is None for pair in self._pairs(words))

    def _refuse_block(self, ways: list[dict[int, str]]) -> NoReturn:
        """Name the first block of the design that no letter in use there can be, and its field."""
        for s in ways[0]:
            stage = self.data["stages"][s]
            mine = spell(stage["pattern"], stage["depth"])
            for b, letter in enumerate(mine):
                blocks = dict.fromkeys(spell(words[s], stage["depth"])[b] for words in ways)
                outside = [self._suits(block, letter)[1] for block in blocks]
                if None not in outside:
                    at = max((path for path in outside if path is not None), key=self._order)
                    field = ".".join(map(str, at[2:]))
                    self._refuse(f"stages.{s}, block {b}, {field}", self._at(at))
        s = next(iter(ways[0]))
        self._refuse(f"stages.{s}.pattern", self.data["stages"][s]["pattern"])

    def _order(self, at: Path) -> list[float]:
        """Return where a field stands in the design: of two, the later is nearer to a match."""
        node: Any = self.data
        places: list[float] = []
        for key in at:
            places.append(list(node).index(key) if isinstance(node, dict) and key in node else 0)
            node = node.get(key) if isinstance(node, dict) else None
        return [*places, math.inf]

    # -- whole designs --

    def _compare(self, options: Options) -> Choices | None:
        """Return the point within the options that is the design, nearest to it in its widths."""
        found: tuple[float, Choices] | None = None
        only = {
            name: [o for o in self.space.choices[name].options if freeze(o) in kept]
            for name, kept in options.items()
        }
        for point in islice(self.space.solver(only).points(), MAX_POINTS):
            try:
                built = self.space.assemble(point)
            except (ValidationError, SpaceError):
                continue
            bent = bend(self.widths, [stage.width for stage in built.stages])
            if found is not None and bent >= found[0]:
                continue
            if self.space.fit is not None:
                built = with_widths(built, self.widths)
            if built.fingerprint() == self.fingerprint:
                found = bent, fresh(point)
                if not any(p[0] == "stages" and p[2] == "width" for _, p in self.targets):
                    break
        return None if found is None else found[1]


def _both(a: Options, b: Options) -> Options:
    return {**a, **{name: a.get(name, kept) & kept for name, kept in b.items()}}


def _members(values: list[Any]) -> set[Any]:
    return {freeze(v) for v in values}
