"""The space language: the shape of a space file.

A space is a YAML file that reads like a paper's table of choices:

    schema: 1
    name: tiny
    version: 1
    description: What it is for.
    base: vmamba_tiny_s1l8        # preset, path, or an inline config
    choices:
      depth: {range: [2, 8], sets: stages.2.depth}
      order: {options: [raster, cross], sets: blocks.s.mixer.order}
    fit: {kind: width, step: 8}

`loader` gives it meaning; what a `when` and a constraint may say is in `conditions`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    field_validator,
    model_validator,
)

from backbones.config import BackboneConfig

NAME = r"^[a-z][a-z0-9_]*$"


class Entry(BaseModel):
    """Base of the parts of a file: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_bounds(value: Any) -> Any:
    return [value, value] if isinstance(value, int) else value


def _as_letters(value: Any) -> Any:
    return {letter: letter for letter in value} if isinstance(value, str) else value


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


Number = Annotated[float, AfterValidator(_whole)]
Letter = Annotated[str, Field(pattern=r"^[a-zA-Z]$")]


class ChoiceEntry(Entry):
    """One choice; exactly one of four forms.

    about: what it decides, in a line.
    options: a list of values, or label: value where a value is more than a scalar or a list.
    range: [lowest, highest] number, with a step; integers where all three are whole.
    step: of a range. of: a set of values, of which it takes so many as choose says.
    choose: a number or [fewest, most], of the values in `of`.
    letters: pattern over depth. Letters are block names ("qs"), or letter: block name where a
        stage has blocks of its own; with max_period or patterns.
    max_period: letters of the longest pattern. patterns: a list of all that there are.
    sets: the config path or paths that the value is written to; stages.N.blocks.LETTER is a block
        in that stage alone. Without sets, each option is a
        mapping of its own from paths to values, the same paths in all.
    per: in place of sets, a path with alternatives (`*`, `a|b`): a choice of its own for each
        match, named NAME_1, NAME_2, ...; {n} in about stands for the number.
    when: the choice exists only where this statement is true.
    """

    about: str = ""
    sets: Annotated[
        tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])
    ] = ()
    per: str | None = None
    options: list[JsonValue] | dict[str | int | float, JsonValue] | None = None
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    step: Annotated[Number, Field(gt=0)] = 1
    of: Annotated[list[str | int], Field(min_length=2)] | None = None
    choose: (
        Annotated[
            list[PositiveInt],
            BeforeValidator(_as_bounds, json_schema_input_type=PositiveInt | list[PositiveInt]),
        ]
        | None
    ) = None
    letters: (
        Annotated[
            dict[Letter, Letter],
            BeforeValidator(_as_letters, json_schema_input_type=str | dict[Letter, Letter]),
        ]
        | None
    ) = None
    max_period: Annotated[int, Field(ge=1, le=8)] | None = None
    patterns: Annotated[list[str], Field(min_length=1)] | None = None
    when: dict[str, JsonValue] | None = None

    @field_validator("options", mode="before")
    @classmethod
    def _list_or_mapping(cls, value: Any) -> Any:
        if not isinstance(value, (list, dict)) or not value:
            raise ValueError("options is a list of values or a mapping of label: value, not empty")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> ChoiceEntry:
        forms = [f for f in ("options", "range", "of", "letters") if getattr(self, f) is not None]
        if len(forms) != 1:
            raise ValueError(
                f"a choice has one of options, range, of and letters; found {' and '.join(forms)}"
                if forms
                else "a choice needs one of options: [...], range: [low, high], of: [...] and "
                "letters: ..."
            )
        if self.range is not None:
            low, high = self.range
            if low > high:
                raise ValueError(f"range {self.range} is empty; write [{high}, {low}]")
            last = self.numbers[-1]
            if abs(last - high) > 1e-9 * self.step:
                raise ValueError(
                    f"range {self.range} does not end on a step of {self.step}; write "
                    f"[{low}, {last}]"
                )
        elif self.step != 1:
            raise ValueError("step belongs to range; remove it")
        if (self.of is None) != (self.choose is None):
            raise ValueError("of and choose go together: of: [a, b, c], choose: 2")
        if self.of is not None and self.choose is not None:
            if len(self.choose) != 2 or not self.choose[0] <= self.choose[1] <= len(self.of):
                raise ValueError(
                    f"choose {self.choose} must be a number, or [fewest, most], of at most "
                    f"{len(self.of)} values"
                )
        self._check_sets()
        if self.letters is None and (self.max_period or self.patterns):
            raise ValueError("max_period and patterns belong to letters; add letters: ...")
        if self.letters is not None and (self.max_period is None) == (self.patterns is None):
            raise ValueError("letters needs one of max_period: N and patterns: [...]")
        return self

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values of a range."""
        low, high = self.range or (0, -1)
        count = int((high - low) / self.step + 1e-9) + 1
        return tuple(_whole(round(low + i * self.step, 9)) for i in range(count))

    def _check_sets(self) -> None:
        if self.sets and self.per is not None:
            raise ValueError("per takes the place of sets: keep one of the two")
        if self.sets or self.per is not None:
            return
        values = list(self.options.values()) if isinstance(self.options, dict) else []
        if not values or not all(isinstance(v, dict) and v for v in values):
            raise ValueError(
                "sets is missing: name the config path, or make each option a mapping of label: "
                "{path: value}"
            )
        if len({tuple(sorted(v)) for v in values if isinstance(v, dict)}) > 1:
            raise ValueError("options without sets must all name the same paths")


class TwinEntry(Entry):
    """A block that is another one in all but what is said, whatever choices make of that.

    of: the block it follows. but: path below the block -> its own value there.
    """

    of: Letter
    but: Annotated[dict[str, JsonValue], Field(min_length=1)]


class FitEntry(Entry):
    """Stage widths are not chosen but solved for.

    kind: "width" is all there is. step: widths are multiples of it.
    """

    kind: Literal["width"]
    step: PositiveInt = 8


class PublishedRow(Entry):
    """What a paper reports of one point: scores by metric, in points; none: not reported."""

    at: dict[str, JsonValue]
    scores: dict[str, float] = {}


class Published(Entry):
    """A paper's ablation table. choice: what it compares; equal in all else, rows are a group.

    metrics: name -> what it is, the one that decides first.
    """

    source: str
    choice: str
    metrics: dict[str, str]
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=2)]


class SpaceFile(Entry):
    """A whole file.

    schema: of this language, 1. name: in lower case. version: to be raised when choices change.
    description: a line for `spaces`. base: what no choice sets: a preset, the path of a config
    file, or a config. twins: letter -> a block beside those of the base that follows one of them.
    choices: name -> what may vary. constraints: statements that no design may break.
    fit: solve for the stage widths instead of choosing them.
    points: published designs that a search is compared with, as preset: {path: value, ...}
    where the paths change the preset, e.g. a scan order that the space leaves out.
    published: of a space that is a paper's ablation table, its numbers.
    """

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=NAME)]
    version: PositiveInt = 1
    description: str = ""
    base: Annotated[
        str | dict[str, JsonValue],
        BeforeValidator(lambda base: base, json_schema_input_type=str | BackboneConfig),
    ]
    twins: dict[Letter, TwinEntry] = {}
    choices: Annotated[dict[Annotated[str, Field(pattern=NAME)], ChoiceEntry], Field(min_length=1)]
    constraints: tuple[dict[str, JsonValue], ...] = ()
    points: dict[str, dict[str, JsonValue] | None] = {}
    fit: FitEntry | None = None
    published: Published | None = None

    @field_validator("schema_", mode="before")
    @classmethod
    def _known_schema(cls, value: Any) -> Any:
        if value != 1:
            raise ValueError(f"schema {value!r} is unknown to this version; write schema: 1")
        return value
