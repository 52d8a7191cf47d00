"""What all configs share: frozen models, bare values for mappings, norms."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Grid = tuple[int, int]
"""(H, W) of a map in tokens, or of an image in pixels."""


class Model(BaseModel):
    """Base of every config: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def named(key: str) -> BeforeValidator:
    """Let a mapping with one telling key be written as the bare value: `norm: rmsnorm`."""
    return BeforeValidator(lambda v: {key: v} if isinstance(v, str) else v)


class NormConfig(Model):
    """Normalization over channels. LayerNorm has weight and bias, RMSNorm weight only."""

    kind: Literal["layernorm", "rmsnorm"] = "layernorm"
    eps: Annotated[float, Field(gt=0)] = 1e-5


Norm = Annotated[NormConfig, named("kind")]


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
