"""One choice of a space: its values, how a tuner stores them, and what lies next to a value."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from search_spaces import patterns
from search_spaces.errors import SpaceError

if TYPE_CHECKING:
    import numpy as np

Value = Any
"""A JSON scalar or list."""
Stored = None | bool | int | float | str
"""What a tuner can keep in its database."""
Choices = dict[str, Value]
"""A point of a space: the active choices and their values."""
Assigned = Mapping[str, Value]


def freeze(value: Value) -> Any:
    """Return a hashable form of a JSON value, in which true and 1 differ."""
    if value.__class__ in (str, int, float):
        return value
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v) for v in value)
    if isinstance(value, dict):
        return ("map", *sorted((k, freeze(v)) for k, v in value.items()))
    return value


def fresh(point: Assigned) -> Choices:
    """Return a copy of a point whose lists are its own."""
    return {name: _own(value) for name, value in point.items()}


def _own(value: Value) -> Value:
    return [_own(v) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Choice:
    """A named choice.

    kind: "categorical" or "int". form: how it was written.
    options: its values in order; of an int, low, low + step, ..., high.
    settings: per option, what is written into the config: to every path the same, or, of a
        choice without `sets`, a mapping from paths to values.
    sets: the config paths it is written to, as in the file. letters: of a pattern.
    """

    name: str
    kind: Literal["categorical", "int"]
    form: Literal["options", "range", "subset", "pattern"]
    options: tuple[Value, ...]
    settings: tuple[Any, ...]
    sets: tuple[str, ...]
    about: str = ""
    low: int = 0
    high: int = 0
    step: int = 1
    letters: tuple[str, ...] = ()
    _index: dict[Any, int] = field(init=False, repr=False, compare=False)
    _by_stored: dict[Any, int] = field(init=False, repr=False, compare=False)
    _periods: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {freeze(o): i for i, o in enumerate(self.options)})
        stored = {freeze(self.encode(o)): i for i, o in enumerate(self.options)}
        object.__setattr__(self, "_by_stored", stored)

    def __contains__(self, value: Value) -> bool:
        try:
            return freeze(value) in self._index
        except TypeError:
            return False

    def index(self, value: Value) -> int:
        """Return the position of a value among the options.

        Raises: SpaceError for a value that is no option; names the nearest.
        """
        if value not in self:
            raise SpaceError(f"{self.name}: {json.dumps(value, default=str)} {self.rule(value)}")
        return self._index[freeze(value)]

    def rule(self, value: Value) -> str:
        """Return what a value that is no option breaks, and the nearest one."""
        if self.kind == "int":
            near = min(max(self.low, value), self.high) if _is_number(value) else self.low
            near = self.low + round((near - self.low) / self.step) * self.step
            by = f" in steps of {self.step}" if self.step > 1 else ""
            return f"is not an integer from {self.low} to {self.high}{by}; nearest is {near}"
        if self.form == "pattern":
            named = filter(str.isalpha, value) if isinstance(value, str) else ()
            foreign = sorted(set(named) - set(self.letters))
            if foreign:
                return f"uses the letter {foreign[0]!r}; letters are {', '.join(self.letters)}"
        shown = [json.dumps(o) for o in self.options]
        near_text = difflib.get_close_matches(json.dumps(value, default=str), shown, 1, 0.5)
        if near_text:
            return f"is not an option; did you mean {near_text[0]}?"
        return f"is not an option; options are {', '.join(shown[:12])}" + (
            ", ..." if len(shown) > 12 else ""
        )

    def thawed(self, frozen: Any) -> Value:
        """Return the option that `freeze` gave `frozen` for."""
        return self.options[self._index[frozen]]

    def setting(self, value: Value) -> Any:
        """Return a fresh copy of what this value writes into the config."""
        return copy.deepcopy(self.settings[self.index(value)])

    # -- tuners --

    def encode(self, value: Value) -> Stored:
        """Return the value as a tuner stores it: lists become compact JSON."""
        if isinstance(value, (list, tuple, dict)):
            return json.dumps(value, separators=(",", ":"))
        return value  # type: ignore[no-any-return]

    def decode(self, stored: Stored) -> Value:
        """Return the value that `encode` gave `stored` for.

        Raises: SpaceError when no option is stored so.
        """
        index = self._by_stored.get(freeze(stored))
        if index is None:
            raise SpaceError(f"{self.name}: stored value {stored!r} {self.rule(stored)}")
        return copy.deepcopy(self.options[index])

    # -- draws and neighbors --

    def draw(self, allowed: Sequence[Value], rng: np.random.Generator) -> Value:
        """Draw one of the allowed options: of tiled patterns the period first, others uniformly.

        There are 3 patterns of one letter and 54 of four where 3 letters mix, so that uniform
        draws would hardly ever propose a stage of one kind.
        """
        if self.form != "pattern" or any("*" in option for option in allowed):
            return allowed[int(rng.random() * len(allowed))]
        found = self._periods.get(id(allowed))
        if found is None or found[0] is not allowed:
            lengths = sorted({len(o) for o in allowed})
            groups = [[o for o in allowed if len(o) == length] for length in lengths]
            found = self._periods[id(allowed)] = (allowed, groups)
        group = found[1][int(rng.random() * len(found[1]))]
        return group[int(rng.random() * len(group))]

    def nearest(self, value: Value, allowed: Sequence[Value]) -> Value:
        """Return the allowed option that is nearest to an option.

        numbers of a range by difference; patterns by the blocks they fill alike from the first on;
        subsets by what they share; of other kinds the next allowed one in the order written, from
        the end again from the start.
        """
        if value in allowed:
            return value
        if self.form == "range":
            return min(allowed, key=lambda o: (abs(o - value), o))
        if self.form == "pattern":
            return max(allowed, key=lambda o: patterns.shared_prefix(o, value))
        if self.form == "subset":
            return min(allowed, key=lambda o: len(set(o) ^ set(value)))
        at, count = self.index(value), len(self.options)
        return min(allowed, key=lambda o: (self.index(o) - at) % count)

    def neighbors(self, value: Value, rng: np.random.Generator) -> list[Value]:
        """Return every other option in random order, likely mutations first.

        A number of a range moves by one step four times in five; a pattern changes one letter; a
        subset exchanges, gains or loses one value; another kind takes any of its values.
        """
        others = [o for o in self.options if freeze(o) != freeze(value)]
        shuffled = [others[i] for i in rng.permutation(len(others))]
        if self.form == "range":
            at = self.index(value)
            step_first = rng.random() < 0.8
            return sorted(shuffled, key=lambda o: (abs(self.index(o) - at) == 1) != step_first)
        if self.form == "pattern":
            near = set(patterns.edits(value, self.letters))
            return sorted(shuffled, key=lambda o: o not in near)
        if self.form == "subset":
            return sorted(shuffled, key=lambda o: len(set(o) ^ set(value)) > 2)
        return shuffled

    # -- description --

    def describe(self) -> dict[str, Any]:
        """Return what defines the choice, as plain data."""
        written = {} if self.settings == self.options else {"writes": list(self.settings)}
        values = [self.low, self.high, self.step] if self.kind == "int" else list(self.options)
        return {"form": self.form, "sets": list(self.sets), "options": values, **written}

    def summary(self) -> str:
        """Return the options in one line, for a table."""
        if self.kind == "int":
            by = f", step {self.step}" if self.step > 1 else ""
            return f"{self.low} to {self.high}{by}"
        if self.form == "range" and len(self.options) > 1:
            step = round(self.options[1] - self.options[0], 9)
            return f"{self.options[0]} to {self.options[-1]}, step {step}"
        if self.form == "pattern":
            period = max(len(o) for o in self.options)
            if len(self.options) > 12:
                return f"{', '.join(self.letters)} in patterns of up to {period} blocks"
        if self.form == "subset":
            sizes = sorted({len(o) for o in self.options})
            many = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
            return f"{many} of {', '.join(dict.fromkeys(show(v) for o in self.options for v in o))}"
        return ", ".join(show(o) for o in self.options)


def show(value: Value) -> str:
    """Return a value as one would write it in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
