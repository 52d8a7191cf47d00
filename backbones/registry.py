"""The parts that a network may hold, by name: kind -> `module:Class` of its config.

A config class is one place for all that is to be said of a part: what may be set, what it costs,
which function it is, where it can stand, and which module builds it. Config modules import no
torch, so that designs are sampled, counted and told apart without it; what builds a part is
imported when a network is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic_core import PydanticCustomError

from backbones.errors import ConfigError
from kernels.errors import nearest


def imported(place: str) -> Any:
    """Return what `module:name` names."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


class Registry:
    """Parts of one sort.

    what: the sort, as messages call it. places: kind -> `module:Class`.
    """

    def __init__(self, what: str, places: dict[str, str]) -> None:
        self.what, self.places = what, places

    def register(self, kind: str, place: str) -> None:
        """Add a part to the language.

        Raises: ConfigError when the kind has a part already.
        """
        if kind in self.places:
            raise ConfigError(
                f"{self.what} {kind!r} is already {self.places[kind]}; register each kind once"
            )
        self.places[kind] = place

    def load(self, kind: str) -> Any:
        """Return the config class of a registered kind.

        Raises: ConfigError for a class that leaves out what every part states, its cost say.
        """
        part = imported(self.places[kind])
        if inspect.isabstract(part):
            missing = ", ".join(sorted(part.__abstractmethods__))
            raise ConfigError(
                f"{self.what} {kind!r} ({self.places[kind]}) has no {missing}; add what is missing,"
                " or no budget can hold it"
            )
        return part

    def classes(self) -> list[Any]:
        """Return the config classes of all parts."""
        return [self.load(kind) for kind in self.places]

    def read(self, value: Any) -> Any:
        """Return the part that a bare kind or a mapping with a kind describes."""
        data = {"kind": value} if isinstance(value, str) else value
        if not isinstance(data, Mapping):
            return value
        kind = data.get("kind")
        if not isinstance(kind, str) or kind not in self.places:
            known = self.places if isinstance(kind, str) else ()
            hint = nearest(kind, known, f"use {', '.join(self.places)}")
            said = f"no {self.what} {kind!r}" if "kind" in data else f"a {self.what} needs a kind"
            raise PydanticCustomError("unknown_kind", f"{said}; {hint}")
        return self.load(kind).model_validate(data)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Allow a bare kind, or any registered part with its kind."""
        parts = {kind: self.load(kind) for kind in self.places}
        bare = [k for k, part in parts.items() if not _needed(part)]
        whole = [
            {**handler(part.__pydantic_core_schema__), "required": ["kind", *_needed(part)]}
            for part in parts.values()
        ]
        return {"anyOf": [{"enum": bare}, *whole]}


def _needed(part: Any) -> list[str]:
    return [name for name, field in part.model_fields.items() if field.is_required()]


ORDERS = Registry(
    "scan order",
    {
        "raster": "backbones.orders.raster:RasterOrder",
        "bidirectional": "backbones.orders.raster:BidirectionalOrder",
        "cross": "backbones.orders.raster:CrossOrder",
        "snake": "backbones.orders.snake:SnakeOrder",
        "hilbert": "backbones.orders.hilbert:HilbertOrder",
        "zorder": "backbones.orders.zorder:ZOrder",
        "diag": "backbones.orders.routes:DiagOrder",
        "routes": "backbones.orders.routes:RoutesOrder",
        "window": "backbones.orders.routes:WindowOrder",
        "atrous": "backbones.orders.atrous:AtrousOrder",
        "quadtree": "backbones.orders.quadtree:QuadtreeOrder",
        "quadtree_official": "backbones.orders.quadtree:QuadtreeOfficialOrder",
    },
)

MIXERS = Registry(
    "mixer",
    {
        "ssm": "backbones.mixers.ssm:SSMConfig",
        "gated_conv": "backbones.mixers.gated_conv:GatedConvConfig",
        "inverted_residual": "backbones.mixers.inverted_residual:InvertedResidualConfig",
        "local_conv": "backbones.mixers.local_conv:LocalConvConfig",
        "attention": "backbones.mixers.attention:AttentionConfig",
        "conv": "backbones.mixers.controls:ConvMixerConfig",
        "identity": "backbones.mixers.controls:IdentityConfig",
    },
)

STEMS = Registry(
    "stem",
    {
        "overlap": "backbones.stems:OverlapStem",
        "patchify": "backbones.stems:PatchifyStem",
        "conv": "backbones.stems:ConvStem",
    },
)

DOWNSAMPLES = Registry(
    "downsample",
    {
        "conv3x3": "backbones.stems:Conv3x3",
        "conv2x2": "backbones.stems:Conv2x2",
        "patch_merging": "backbones.stems:PatchMerging",
    },
)
