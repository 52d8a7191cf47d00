"""Is this design a point of the space, and which one?

Designs are compared by what they compute (`backbones.canonical`), not by spelling: block letters,
order names and ratios may differ. `fields` tells which options agree with the design, field by
field; that leaves few options a choice, whose combinations are built and compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from pydantic import ValidationError

from backbones.config import BackboneConfig
from search_spaces import patterns
from search_spaces.choices import Choices, Value, freeze, show
from search_spaces.definition import Definition
from search_spaces.errors import SpaceError
from search_spaces.fields import MISSING, OUTSIDE, Family, Leaves, Match, Place, Probe, split
from search_spaces.paths import Path

MAX_WORDS = 500
"""Ways to spell the design's blocks in the letters of the space that are followed up."""
MAX_POINTS = 500
"""Points compared exactly for one such way."""


def find(space: Definition, config: BackboneConfig) -> Choices:
    """Return the point whose design, at the widths of `config`, has the same fingerprint.

    Raises: SpaceError naming the first field in which the design lies outside the space.
    """
    return _Search(space, config).run()


class _Search:
    """One membership question."""

    def __init__(self, space: Definition, config: BackboneConfig) -> None:
        self.space = space
        self.config = config
        self._equal: dict[str, Leaves] = {}
        self.target = split(config.canonical(), self._equal)
        self.fingerprint = config.fingerprint()
        self.widths = [stage.width for stage in config.stages]
        self.depths = [stage.depth for stage in config.stages]
        self.allowed: dict[str, set[Any]] = {}
        self.outside: dict[str, Value] = {}
        self.free_width = space.fit is not None

    def run(self) -> Choices:
        """Filter, then compare exactly."""
        stages = self.space.base["stages"]
        if len(stages) != len(self.config.stages):
            self._refuse(
                "stages", f"{len(self.config.stages)} of them, the space has {len(stages)}"
            )
        self._filter_stages()
        self._filter_outside()
        matches = self._block_matches()
        torn = ""
        for words in islice(self._words(matches), MAX_WORDS):
            domains = dict(self.allowed)
            for place, letter in words.letters.items():
                for name, options in matches[letter][place].allowed.items():
                    domains[name] = domains.get(name, options) & options
            domains.update(words.patterns)
            found = self._compare(domains)
            if found is not None:
                return found
            torn = torn or self._torn(domains)
        sets = ", ".join(self.space.choices[torn].sets) if torn else ""
        raise SpaceError(
            f"not in space {self.space.file.name}: "
            + (
                f"no one value of {torn} ({sets}) suits all blocks"
                if torn
                else "each field is possible, but not all together under the constraints"
            )
        )

    def _torn(self, domains: dict[str, set[Any]]) -> str:
        """Return a choice without a value for all blocks that alone stands in the way."""
        for name in domains:
            rest = {n: options for n, options in domains.items() if n != name}
            if not domains[name] and self.space.solver(self._only(rest)).feasible():
                return name
        return ""

    def _only(self, domains: dict[str, set[Any]]) -> dict[str, list[Value]]:
        return {
            name: [o for o in self.space.choices[name].options if freeze(o) in options]
            for name, options in domains.items()
        }

    def _refuse(self, field: str, found: Any) -> None:
        raise SpaceError(
            f"not in space {self.space.file.name}: {field}: {found}; no choice leads there"
        )

    def _direct(self, path: Path) -> Any:
        """Return the target's value where it can be read off: a depth, a width, a routes row."""
        if path[0] != "stages" or len(path) < 3:
            return None
        stage = int(path[1])
        if path[2] in ("depth", "width"):
            return (self.depths if path[2] == "depth" else self.widths)[stage]
        if path[2] == "routes" and len(path) == 4:
            return _as_set(self.target.get((stage, int(path[3])), {}).get("mixer.order"))
        return None

    def _filter_stages(self) -> None:
        """Keep the depths, route tables, and without fit the widths, that the design has."""
        varied: set[Path] = set()
        for name, choice in self.space.choices.items():
            for path in self.space.targets[name]:
                value = self._direct(path)
                if value is None:
                    continue
                varied.add(path)
                kept = {
                    freeze(o)
                    for o, s in zip(choice.options, choice.settings)
                    if _as_set(self.space.written(name, path, s)) == value
                }
                self.allowed[name] = self.allowed.get(name, kept) & kept
                if not kept and name not in self.space.whens:
                    shown = sorted(value) if isinstance(value, frozenset) else value
                    self._refuse(".".join(map(str, path)), shown)
        for s, stage in enumerate(self.space.base["stages"]):
            for key, values in (("depth", self.depths), ("width", self.widths)):
                fixed = ("stages", s, key) not in varied and not (
                    key == "width" and self.free_width
                )
                if fixed and stage[key] != values[s]:
                    self._refuse(f"stages.{s}.{key}", values[s])

    # -- everything but blocks --

    def _acts(self, name: str, on_blocks: bool) -> bool:
        """Whether a choice acts on blocks, or on anything else but patterns, depths, widths."""
        for path in self.space.targets[name]:
            in_stage = path[0] == "stages" and len(path) > 2
            if in_stage and path[2] in ("depth", "width", "pattern"):
                continue
            if (path[0] == "blocks" or (in_stage and path[2] == "routes")) == on_blocks:
                return True
        return False

    def _probe(self, letter: str | None) -> Probe:
        """Return what builds the base with some options, the design's geometry and one letter."""
        stages = []
        for s, stage in enumerate(self.space.base["stages"]):
            pattern = letter or stage["pattern"]
            stages.append(
                {**stage, "width": self.widths[s], "depth": self.depths[s], "pattern": pattern}
            )

        def probe(point: Mapping[str, Value]) -> dict[Place, Leaves] | None:
            try:
                around = {**self.outside, **point}
                built = self.space.assemble(around, stages=stages)
            except (ValidationError, SpaceError):
                return None  # not a design by itself; with other options it may be one
            return split(built.canonical(), self._equal)

        return probe

    def _filter_outside(self) -> None:
        names = [n for n in self.space.choices if self._acts(n, on_blocks=False)]
        family = Family(self.space, names, self._probe(None), self.allowed)
        match = family.match(OUTSIDE, self.target[OUTSIDE], ignored=set())
        if match.failing:
            field = match.failing[0]
            self._refuse(field, self._shown(OUTSIDE, field))
        for name, options in match.allowed.items():
            self.allowed[name] = self.allowed.get(name, options) & options
            fitting = [o for o in self.space.choices[name].options if freeze(o) in options]
            if fitting:  # blocks are compared with this in place: a class token changes orders
                self.outside[name] = fitting[0]

    def _shown(self, place: Place, field: str) -> str:
        return show_leaf(self.target[place].get(field, MISSING))

    # -- blocks --

    def _block_matches(self) -> dict[str, dict[Place, Match]]:
        names = [n for n in self.space.choices if self._acts(n, on_blocks=True)]
        matches: dict[str, dict[Place, Match]] = {}
        for letter in self.space.base["blocks"]:
            mine = [
                n
                for n in names
                if any(p[0] == "stages" or p[:2] == ("blocks", letter)
                       for p in self.space.targets[n])
            ]  # fmt: skip
            family = Family(self.space, mine, self._probe(letter), self.allowed)
            matches[letter] = {
                place: family.match(place, target, ignored=set())
                for place, target in self.target.items()
                if place != OUTSIDE
            }
        return matches

    def _words(self, matches: dict[str, dict[Place, Match]]) -> Iterator[_Words]:
        """Yield the ways to spell the design's blocks, each as its patterns and letters."""
        by_pattern: dict[str, list[Path]] = {}
        for name in self.space.choices:
            for path in self.space.targets[name]:
                if len(path) == 3 and (path[0], path[2]) == ("stages", "pattern"):
                    by_pattern.setdefault(name, []).append(path)
        chosen = {path[1] for paths in by_pattern.values() for path in paths}
        base = {
            s: patterns.tile(stage["pattern"], self.depths[s])
            for s, stage in enumerate(self.space.base["stages"])
        }
        fixed = {(s, b): x for s, word in base.items() for b, x in enumerate(word)}
        for s in base.keys() - chosen:
            self._require(matches, s, [base[s]])
        ways: list[list[tuple[str, set[Any], dict[Place, str]]]] = []
        for name, paths in by_pattern.items():
            choice = self.space.choices[name]
            here: list[tuple[str, set[Any], dict[Place, str]]] = []
            if name in self.space.whens:  # it may not exist: then the base's pattern stands
                here.append((name, set(), {}))
            for option, setting in zip(choice.options, choice.settings):
                letters = {
                    (int(path[1]), b): letter
                    for path in paths
                    for b, letter in enumerate(self._word(name, path, setting))
                }
                if all(not matches[x][place].failing for place, x in letters.items()):
                    here.append((name, {freeze(option)}, letters))
            if not here:
                for path in paths:
                    words = [self._word(name, path, s) for s in choice.settings]
                    self._require(matches, int(path[1]), words)
                self._refuse(".".join(map(str, paths[0])), "the order of its blocks")
            ways.append(here)
        for combination in product(*ways):
            letters = dict(fixed)
            for _, _, more in combination:
                letters.update(more)
            yield _Words({name: options for name, options, _ in combination}, letters)

    def _word(self, name: str, path: Path, setting: Any) -> str:
        """Return the block letters that an option of a pattern gives a stage."""
        return patterns.tile(self.space.written(name, path, setting), self.depths[int(path[1])])

    def _require(
        self, matches: dict[str, dict[Place, Match]], stage: int, words: list[str]
    ) -> None:
        """Refuse a design with a block that no letter in use there can be."""
        for b in range(self.depths[stage]):
            place = (stage, b)
            letters = {word[b] for word in words}
            best = min(sorted(letters), key=lambda x: len(matches[x][place].failing))
            failing = matches[best][place].failing
            if failing:
                field = failing[0]
                self._refuse(f"stages.{stage}, block {b}, {field}", self._shown(place, field))

    def _compare(self, domains: dict[str, set[Any]]) -> Choices | None:
        """Return the first point within the domains that is the design."""
        for point in islice(self.space.solver(self._only(domains)).points(), MAX_POINTS):
            try:
                built = self.space.assemble(point)
            except (ValidationError, SpaceError):
                continue
            if self.free_width:
                from search_spaces.fit import with_widths

                built = with_widths(built, self.widths)
            if built.fingerprint() == self.fingerprint:
                return {name: _copied(value) for name, value in point.items()}
        return None


def _as_set(value: Any) -> Any:
    """Return routes as a set, since their order means nothing; other values as they are."""
    return frozenset(value) if isinstance(value, (list, tuple)) else value


@dataclass
class _Words:
    """patterns: pattern choice -> its option, or none; letters: place -> block letter."""

    patterns: dict[str, set[Any]]
    letters: dict[Place, str]


def _copied(value: Value) -> Value:
    return [_copied(v) for v in value] if isinstance(value, list) else value


def show_leaf(value: Any) -> str:
    """Return a frozen field as one would write it."""
    if isinstance(value, tuple):
        if value[:1] == ("bool",):
            return show(value[1])
        return f"[{', '.join(show_leaf(v) for v in value)}]"
    return show(value)
