"""What may be asked of designs beside a search: which train with which common seeds, and why."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NO_FINDING = "no finding"  # key of a finding that says why there is none


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Compared(_Frozen):
    """One design, its cost at the study's image size.

    group: designs of one group are compared with each other. published: what a paper reports of
    it, by metric, in points.
    """

    name: str
    role: Literal["candidate", "control"] = "candidate"
    group: str = ""
    fingerprint: str
    config: dict[str, Any]
    flops: int
    params: int
    published: dict[str, float] = {}


class AblationAsked(_Frozen):
    """Levels of one choice, trained with common seeds until it is clear whether they differ.

    subject: the design that is changed. margin: a difference too small to care for. seeds: at
    most. looks: how often it was asked for, each time with more seeds; all share 5 % of error.
    left_out: levels that cannot be compared, and why. notes: what changed beside the choice.
    """

    kind: Literal["ablation"] = "ablation"
    subject: str
    choice: str
    margin: Annotated[float, Field(gt=0)]
    seeds: Annotated[int, Field(ge=3)]
    designs: tuple[Compared, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    looks: Annotated[int, Field(ge=1)] = 1


class TableAsked(_Frozen):
    """The designs of a paper's ablation table, each trained with so many common seeds.

    source: of the published numbers. metrics: what they are, by name; the first one decides which
    level of a group the others are compared with.
    """

    kind: Literal["table"] = "table"
    table: str
    source: str
    metrics: dict[str, str]
    seeds: Annotated[int, Field(ge=2)]
    designs: tuple[Compared, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    looks: Annotated[int, Field(ge=1)] = 1


class FidelityAsked(_Frozen):
    """A sample of a search's designs, trained longer, with the seed that the search had.

    recipes: the longer ones, each with how many times longer it is.
    """

    kind: Literal["fidelity"] = "fidelity"
    recipes: tuple[tuple[float, dict[str, Any]], ...]
    designs: tuple[Compared, ...]
    looks: Annotated[int, Field(ge=1)] = 1


class ProbeAsked(_Frozen):
    """What orders, mixers or backbones can carry, and controls that ought to carry less.

    recipes: by task; a design's group is its task, and its name ends with it. notes: what to know
    of the networks.
    """

    kind: Literal["probe"] = "probe"
    recipes: dict[str, dict[str, Any]]
    seeds: Annotated[int, Field(ge=2)]
    designs: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    looks: Annotated[int, Field(ge=1)] = 1

    def subject(self, design: str) -> str:
        """Return the name of what a design stands for, without its task."""
        return design.rpartition(", ")[0]


Asked = Annotated[
    AblationAsked | TableAsked | FidelityAsked | ProbeAsked, Field(discriminator="kind")
]


class Held(_Frozen):
    """What was asked, what has been found so far, and whether that is the last word."""

    asked: Asked
    found: Any = None
    done: bool = False
