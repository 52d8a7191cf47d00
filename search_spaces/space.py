"""A search space: draw, change, build and recognize designs without building a module."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from backbones import yaml_files
from backbones.config import BackboneConfig
from backbones.counting import cost
from backbones.image_size import ImageSize
from kernels.errors import nearest
from search_spaces import loader, variation
from search_spaces.choices import Assigned, Choice, Choices, Value, freeze, fresh, show
from search_spaces.definition import Definition, blamed, point_config
from search_spaces.errors import SpaceError, UnreachableError
from search_spaces.fit import COUNTED, Band, check_bands, distance, fit_widths
from search_spaces.identity import content, differences, self_contained
from search_spaces.solver import holds
from search_spaces.statements import truth

if TYPE_CHECKING:
    import numpy as np

SHIPPED = Path(__file__).parent
ABLATIONS = SHIPPED / "ablations"


def list_spaces() -> list[str]:
    """Return the names of the shipped spaces, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def list_ablations() -> list[str]:
    """Return the names of the papers' ablation tables, sorted; each is a file in `ABLATIONS`."""
    return sorted(path.stem for path in ABLATIONS.glob("*.yaml"))


class SearchSpace:
    """What may vary, loaded from a space file.

    name, version: as in the file. source_text: YAML that loads to the same space by itself,
    with no file beside it. choices: name -> Choice, in dependency order. solver: of its points.
    """

    def __init__(self, definition: Definition, source_text: str) -> None:
        self._definition = definition
        self.solver = definition.solver()
        self.name = definition.file.name
        self.version = str(definition.file.version)
        self.description = definition.file.description
        self.source_text = source_text
        self.choices: dict[str, Choice] = definition.choices
        self.points: tuple[str, ...] = tuple(definition.points)
        self.published = definition.file.published
        self.base = definition.base_config
        self.fit_step = None if definition.fit is None else definition.fit.step

    # -- loading --

    @classmethod
    def load(cls, source: str | Path) -> SearchSpace:
        """Return a shipped space by name, or the space of a YAML file.

        Raises: SpaceError for an unknown name, with the nearest, and for a mistake in the file,
        with file, line and remedy.
        """
        text, shipped = str(source), False
        if isinstance(source, str) and text in list_spaces():
            path, shipped = SHIPPED / f"{text}.yaml", True
        elif Path(text).is_file():
            path = Path(text)
        else:
            hint = nearest(text, list_spaces(), f"shipped: {', '.join(list_spaces())}")
            raise SpaceError(f"{text!r} is neither a shipped space nor a file; {hint}")
        document = yaml_files.read(path, SpaceError)
        # Those that ship are proved by a test; building their options again would take a second.
        definition = loader.read(document, path.parent, proven=shipped)
        return cls(definition, self_contained(path.read_text(encoding="utf-8"), definition))

    @classmethod
    def from_text(
        cls, text: str, source: str = "inline space", *, proven: bool = False
    ) -> SearchSpace:
        """Return the space that YAML text describes, e.g. the `source_text` of a stored study.

        proven: whether the text has been loaded before, as a stored study's has, so that its
        options need not be built again.
        Raises: SpaceError, as `load`.
        """
        definition = loader.read(yaml_files.parse(text, source, SpaceError), proven=proven)
        return cls(definition, self_contained(text, definition))

    # -- points --

    def sample(self, rng: np.random.Generator) -> Choices:
        """Draw a point, each choice among the values that can still be completed.

        Uniformly, but for patterns: of them the period first, then one of that period.
        """
        return variation.sample(self._definition, self.solver, rng)

    def from_decider(self, decide: Callable[[str, Choice], Value]) -> Choices:
        """Walk the choices in order, asking `decide` for each one that exists.

        A value that the constraints exclude after what was decided before becomes the nearest
        one that they admit (`Choice.nearest`), so that a tuner of static ranges always lands in
        the space.
        Raises: SpaceError when `decide` returns what is no option.
        """

        def pick(name: str, allowed: list[Value]) -> Value:
            choice = self.choices[name]
            value = decide(name, choice)
            choice.index(value)
            return choice.nearest(value, allowed)

        point = self.solver.walk(pick)
        assert point is not None, "a space without points does not load"
        return fresh(point)

    def mutate(self, choices: Assigned, rng: np.random.Generator) -> Choices:
        """Return a point that differs in one active choice and is another design.

        ints mostly move by a step, patterns by a letter, others to any value. Choices that come
        into existence are drawn; those that cease are dropped. Where the constraints let no
        choice change alone, others move to the nearest values that they admit. A space of one
        design returns it.
        Raises: SpaceError when `choices` is no point of the space.
        """
        self.check(choices)
        return variation.mutate(self._definition, self.solver, self._design, choices, rng)

    def crossover(self, a: Assigned, b: Assigned, rng: np.random.Generator) -> Choices:
        """Return a point that takes each choice from one of two points, at random.

        A value that does not go with the rest gives way to the other parent's, then to the
        nearest; what neither parent has is drawn.
        Raises: SpaceError when a parent is no point of the space.
        """
        self.check(a)
        self.check(b)
        return variation.crossover(self._definition, self.solver, a, b, rng)

    def repair(
        self,
        choices: Assigned,
        bands: Sequence[Band],
        rng: np.random.Generator,
        *,
        image_size: ImageSize = 224,
        convention: str = "fvcore",
    ) -> Choices:
        """Return a point inside the bands as few changes away as it finds; for spaces without fit.

        The point itself where it lies inside, or where widths are solved for. Where no point that
        was found lies inside, the nearest: `build` then says how far it is.
        Raises: SpaceError when `choices` is no point of the space.
        """
        self.check(choices)
        if self.fits_widths:
            return fresh(choices)

        def miss(point: Assigned) -> float:
            try:
                config = self._definition.assemble(point)
            except (ValidationError, SpaceError):
                return math.inf
            return distance(config, bands, image_size=image_size, convention=convention)

        return variation.into_budget(self._definition, self.solver, miss, choices, rng)

    def changed(self, choices: Assigned, name: str, value: Value) -> Choices | None:
        """Return the point with one choice changed, others moved as far as it makes them.

        None where no point has that value. Raises: SpaceError for no point or an unknown choice.
        """
        self.check(choices)
        self._known(name)
        return variation.with_repair(self._definition, choices, name, value)

    def _design(self, choices: Assigned) -> tuple[Any, ...] | None:
        try:
            return self._definition.identity(self._definition.assemble(choices))
        except (ValidationError, SpaceError):
            return None

    # -- membership --

    def is_active(self, name: str, choices: Assigned) -> bool:
        """Whether a choice exists in a design with these choices.

        Raises: SpaceError for an unknown choice.
        """
        self._known(name)
        whens = self._definition.whens
        return name not in whens or truth(whens[name], choices) is True

    def check(self, choices: Assigned) -> None:
        """Raise SpaceError unless `choices` is a point: every active choice, and no other."""
        if self.solver.admits(choices):
            return
        for name, value in choices.items():
            self._known(name)
            self.choices[name].index(value)
        for name in self.choices:
            active = self.is_active(name, choices)
            if active and name not in choices:
                raise SpaceError(f"{name} is missing; it is one of {self.choices[name].summary()}")
            if name in choices and not active:
                raise SpaceError(
                    f"{name} does not exist here: it needs {self._definition.whens[name]}; "
                    "leave it out"
                )
        for rule in self._definition.rules:
            if not holds(rule, choices):
                raise SpaceError(f"broken constraint: {rule}; change one of these choices")

    def _known(self, name: str) -> None:
        if name not in self.choices:
            hint = nearest(name, self.choices, f"choices: {', '.join(self.choices)}")
            raise SpaceError(f"space {self.name} has no choice {name!r}; {hint}")

    def choices_of(self, config: BackboneConfig) -> Choices:
        """Return the point that builds this design at the same widths.

        Raises: SpaceError naming the first field in which the design lies outside.
        """
        from search_spaces.membership import find

        return find(self._definition, config)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The points that lie in this space; the others are baselines only."""
        inside = []
        for name in self.points:
            try:
                self.choices_of(self.point(name))
            except SpaceError:
                continue
            inside.append(name)
        return tuple(inside)

    def point(self, name: str) -> BackboneConfig:
        """Return the design of one of `points`: the preset with the changes that the file names.

        Raises: SpaceError for a name that is no point of this space.
        """
        if name not in self.points:
            raise SpaceError(
                f"{name!r} is no point of {self.name}; points: {', '.join(self.points)}"
            )
        return point_config(name, self._definition.points[name])

    @property
    def fits_widths(self) -> bool:
        """Whether widths are solved for, to land in the budget."""
        return self._definition.fit is not None

    @cached_property
    def size(self) -> int:
        """How many points there are, exactly."""
        return self.solver.count()

    def distributions(self) -> dict[str, Choice]:
        """Return the choices by name, in dependency order."""
        return dict(self.choices)

    # -- designs --

    def build(
        self,
        choices: Assigned,
        bands: Sequence[Band] = (),
        *,
        image_size: ImageSize = 224,
        convention: str = "fvcore",
    ) -> BackboneConfig:
        """Return the config of a point, its widths fitted to the bands where the space fits.

        Without bands the widths are the base's.
        Units: `Band`; image_size in pixels.
        Raises: SpaceError when `choices` is no point; UnreachableError when its cost cannot lie
        in the bands, naming the nearest cost and the choices that bind.
        """
        self.check(choices)
        try:
            config = self._definition.assemble(choices)
        except ValidationError as exc:
            blame, problem = blamed(self._definition, choices, exc)
            value = f"{blame} = {show(choices[blame])} does not fit: " if blame else ""
            raise SpaceError(f"{value}{problem}") from None
        if not bands:
            return config
        fit = self._definition.fit
        try:
            if fit is None:
                check_bands(config, bands, image_size=image_size, convention=convention)
                return config
            return fit_widths(
                config, bands, image_size=image_size, convention=convention, step=fit.step
            )
        except UnreachableError as exc:
            if bands[0].metric not in COUNTED:
                raise  # to measure what each choice would change takes minutes
            raise UnreachableError(
                str(exc),
                spent=exc.spent,
                too_large=exc.too_large,
                blame=partial(self._binding, exc, dict(choices), bands[0], image_size, convention),
            ) from None

    def _binding(
        self,
        exc: UnreachableError,
        choices: Assigned,
        band: Band,
        image_size: ImageSize,
        convention: str,
    ) -> str:
        """Return the choices whose change alone brings the cost nearest to the band."""
        narrow = self._definition.fit.step if self._definition.fit and exc.too_large else None
        nearest: dict[str, float] = {}
        for name in choices:
            for option in self.choices[name].options:
                if freeze(option) == freeze(choices[name]):
                    continue
                point = variation.with_repair(self._definition, choices, name, option)
                if point is None:
                    continue
                try:
                    config = self._definition.assemble(point)
                except (ValidationError, SpaceError):
                    continue
                widths = [narrow or stage.width for stage in config.stages]
                found = cost(config, image_size, convention, widths=widths)
                spent = float(getattr(found, band.metric))
                miss = abs(spent - min(max(spent, band.lo), band.hi))
                nearest[name] = min(miss, nearest.get(name, miss))
        now = abs(exc.spent - min(max(exc.spent, band.lo), band.hi))
        binding = sorted((n for n in nearest if nearest[n] < 0.95 * now), key=lambda n: nearest[n])
        if not binding or (self._definition.fit and not exc.too_large):
            return ""
        listed = ", ".join(f"{n} = {show(choices[n])}" for n in binding[:3])
        return f"; what binds: {listed}"

    # -- identity and description --

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides which designs there are; names and texts do not."""
        text = json.dumps(content(self._definition), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def diff(self, other: SearchSpace) -> str | None:
        """Return what changes from this space to another, a line for each; None when nothing."""
        if self.fingerprint == other.fingerprint:
            return None
        lines = (
            [] if self.version == other.version else [f"version: {self.version} -> {other.version}"]
        )
        lines += differences("", *(content(s._definition) for s in (self, other)))
        return "\n".join(lines)

    @property
    def constraints(self) -> tuple[str, ...]:
        """The constraints as one would say them."""
        return tuple(str(rule) for rule in self._definition.constraints)

    def explain(self) -> list[dict[str, Any]]:
        """Return a row for each choice, for a table.

        Keys: choice, about, sets (config paths), options (in one line), when (empty for always),
        count (of its options).
        """
        whens = self._definition.whens
        return [
            {
                "choice": name,
                "about": choice.about,
                "sets": list(choice.sets),
                "options": choice.summary(),
                "when": str(whens[name]) if name in whens else "",
                "count": len(choice.options),
            }
            for name, choice in self.choices.items()
        ]
