"""Names of tensors in released files, and how they become ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from backbones.errors import ConfigError

Shape = tuple[int, ...]
How = Literal["same", "routes", "stack", "concat", "class_last", "class_first"]

Renamed = tuple[tuple[str, str], ...]
"""Patterns and replacements: each key takes the first that fits."""

T = TypeVar("T")

WEIGHT_BIAS = ("weight", "bias")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from.

    how: "same"; "routes": (K * E, ...) there, (K, E, ...) here; "stack": one tensor a route
    there; "concat": the same, joined along the first axis; "class_last": the class token's row
    of the positional table stands in the middle there, last here; "class_first": first there.
    """

    keys: tuple[str, ...]
    how: How = "same"

    def expected(self, ours: Shape) -> Shape:
        """Return the shape that each source must have."""
        if self.how == "routes":
            return (ours[0] * ours[1], *ours[2:])
        if self.how == "stack":
            return ours[1:]
        if self.how == "concat":
            return (ours[0] // len(self.keys), *ours[1:])
        return ours


@dataclass
class Names:
    """The names of one network's tensors.

    sources: our key -> source. other: patterns that tell files of another naming, and their
    renamings -> the official one. ignored: a pattern of keys that hold no weights of ours.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    other: tuple[tuple[str, Renamed], ...] = ()
    ignored: str = r"(?!)"

    def same(self, ours: str, theirs: str, parts: tuple[str, ...] = WEIGHT_BIAS) -> None:
        """Map a layer's tensors one to one."""
        for part in parts:
            self.sources[f"{ours}.{part}"] = Source((f"{theirs}.{part}",))

    def one(self, ours: str, *theirs: str, how: How = "same") -> None:
        """Map one tensor."""
        self.sources[ours] = Source(theirs, how)


def of_kind(table: dict[str, T], part: Any, family: str) -> T:
    """Return what a family's table says of a part; ConfigError for one that it never had."""
    if part.kind not in table:
        raise ConfigError(
            f"{family} was released with {' or '.join(table)}, not {part.kind}; no weights fit"
        )
    return table[part.kind]
