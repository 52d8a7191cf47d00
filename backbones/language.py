"""What all configs share: frozen models, bare values for mappings, norms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core.core_schema import no_info_before_validator_function

Grid = tuple[int, int]
"""(H, W) of a map in tokens, or of an image in pixels."""


CLASS_TOKENS = {"none": 0, "middle": 1, "head": 1, "double": 2}
"""How many class tokens stand where in a route; double is one at the head and one at the tail."""


class Model(BaseModel):
    """Base of every config: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class named:
    """Lets a mapping with one telling key be written as the bare value: `norm: rmsnorm`."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Validate the mapping that is meant."""
        return no_info_before_validator_function(
            lambda v: {self.key: v} if isinstance(v, str) else v, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Allow both spellings."""
        whole = handler(schema)
        bare = handler.resolve_ref_schema(whole)["properties"][self.key]
        return {"anyOf": [{k: bare[k] for k in ("enum", "const", "type") if k in bare}, whole]}


class NormConfig(Model):
    """Normalization over channels. LayerNorm has weight and bias, RMSNorm weight only."""

    kind: Literal["layernorm", "rmsnorm"] = "layernorm"
    eps: Annotated[float, Field(gt=0)] = 1e-5


Norm = Annotated[NormConfig, named("kind")]


_TERM = re.compile(r"([a-zA-Z])(\d*)")
_PATTERN = re.compile(r"((?:[a-zA-Z]\d*)*)(?:([a-zA-Z])\*((?:[a-zA-Z]\d*)*))?")


@lru_cache(4096)
def spell(pattern: str, depth: int) -> str:
    """Return the letter of each of `depth` blocks.

    A pattern is letters, each with a count or not: "qs", "s2g". It is tiled over the depth, or
    one letter with a star fills it: "s*g4" ends in four g, "c2s*" begins with two c. Where
    blocks are too few, the end stays: "s*g4" is gg at depth 2.
    Raises: ValueError for other text.
    """
    found = _PATTERN.fullmatch(pattern)
    if not pattern or found is None:
        raise ValueError(
            f"pattern {pattern!r} must be letters to be tiled (qs), each with a count or not "
            "(s2g), of which one may have a star: it fills the depth (s*g4)"
        )
    head, tail = (
        "".join(x * int(count or 1) for x, count in _TERM.findall(part or ""))
        for part in found.group(1, 3)
    )
    if found[2] is None:
        if not head:
            raise ValueError(f"pattern {pattern!r} counts no block; write a letter without 0")
        return (head * (depth // len(head) + 1))[:depth]
    end = tail[max(0, len(tail) - depth) :]
    start = head[: depth - len(end)]
    return start + found[2] * (depth - len(start) - len(end)) + end


@lru_cache(4096)
def plain(model: Model | None) -> Any:
    """Return a part's fields as plain data, which is shared: not to be changed."""
    return None if model is None else model.model_dump(mode="json")


def require_odd(kernel: int) -> None:
    """Raise ValueError for a kernel that would change the map's size."""
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} must be odd to keep the map's size; use {kernel + 1}")


def with_kinds(value: Any, dumped: Any) -> Any:
    """Put back the kinds that a dump without defaults leaves out, so that it loads again."""
    if isinstance(value, BaseModel):
        out = {"kind": value.kind} if "kind" in type(value).model_fields else {}  # type: ignore[attr-defined]
        return out | {k: with_kinds(getattr(value, k, None), v) for k, v in dumped.items()}
    if isinstance(value, dict):
        return {k: with_kinds(v, dumped[k]) for k, v in value.items()}
    if isinstance(value, tuple) and isinstance(dumped, list):
        return [with_kinds(v, d) for v, d in zip(value, dumped)]
    return dumped
