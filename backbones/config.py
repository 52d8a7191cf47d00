"""The backbone language: what a network is, as frozen, validated data.

A backbone is a stem, stages and a head. A stage is a width, a depth and a pattern: a string of
letters tiled over the depth, each letter naming a block declared under `blocks`. A block is a
norm, a token mixer and an optional FFN. No paper has a class of its own: published models are
YAML files in `presets/` written in this language.

Differences between families that remain are fields, each with its reason; see the class that
owns the field. `backbones.registry` lists the stems, mixers, orders and downsamples there are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, PositiveInt, field_validator, model_validator

from backbones import yaml_files
from backbones.errors import ConfigError
from backbones.image_size import PixelSize
from backbones.language import CLASS_TOKENS, Model, spell, with_kinds
from backbones.parts import BlockConfig, HeadConfig
from backbones.stems import Downsample, OverlapStem, Stem

CANONICAL_VERSION = 1
TEXTS = 10_000
"""Blocks whose canonical form is kept."""


class StageConfig(Model):
    """Blocks at one resolution.

    width: channels. depth: how many blocks.
    pattern: letters tiled over the depth, e.g. "qs" at depth 5 is q s q s q, or anchored: "s*g4"
        ends in four g, see `language.spell`.
    downsample: how the map enters from the stage before; required but for the first stage.
    routes: per block, routes that replace those of its window order (LocalMamba's tables).
    """

    width: PositiveInt
    depth: PositiveInt
    pattern: str
    downsample: Downsample | None = None
    routes: tuple[tuple[str, ...], ...] | None = None

    @property
    def letters(self) -> str:
        """The pattern spelled out: one letter per block."""
        return spell(self.pattern, self.depth)

    @field_validator("pattern")
    @classmethod
    def _spellable(cls, pattern: str) -> str:
        spell(pattern, 1)
        return pattern


class BackboneConfig(Model):
    """A whole architecture.

    name: what it is called. stem: how an image becomes the first map. blocks: letter -> what a
        block of that letter is. stages: blocks at one resolution each. head: the classifier.
    in_chans: of an image. num_classes: outputs, 0 for features alone.
    position: "learned" adds a table sized for `image_size`, resized for other inputs.
    rope: 2-D rotary embedding of the residual stream before every block (LocalVim).
    class_token: stands in the "middle" of a route (Vim), at its "head", at both ends ("double"),
        or not at all.
    image_size: in pixels, for which positional tables are made: a side, or height and width,
        written 512x2048.

    No part of the fingerprint, since they change training and not the function:
    drop_path_rate: of the last block; rises linearly from 0.
    conv_init: how 2-D convolutions start: "torch" as PyTorch's do; "trunc_normal" normal of
        deviation 0.02 and no bias (MambaOut); "lecun" LeCun normal and no bias (Vim). null asks
        the stem for its own, and leaves the others as their mixers start them.
    class_token_std: deviation of the class tokens at the start.
    family: whose released weights fit, see `backbones.official`.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    name: str | None = None
    family: str | None = None
    stem: Stem = OverlapStem()
    blocks: dict[Annotated[str, Field(pattern=r"^[a-zA-Z]$")], BlockConfig]
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    head: HeadConfig = HeadConfig()
    position: Literal["none", "learned"] = "none"
    rope: bool = False
    class_token: Literal["none", "middle", "head", "double"] = "none"
    image_size: PixelSize = 224
    in_chans: PositiveInt = 3
    num_classes: Annotated[int, Field(ge=0)] = 1000
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    conv_init: Literal["torch", "trunc_normal", "lecun"] | None = None
    class_token_std: Annotated[float, Field(gt=0)] = 0.02

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _consistent(self) -> BackboneConfig:
        for i, stage in enumerate(self.stages):
            self._check_stage(i, stage)
        if self.head.pool == "token" and self.class_token == "none":
            raise ValueError("head.pool token needs a class token; set class_token: middle")
        if (self.class_token != "none" or self.rope) and len(self.stages) > 1:
            raise ValueError("class_token and rope need a single stage (a plain backbone)")
        for i, blocks in enumerate(resolve_blocks(self)):
            for placed in {id(b.block): b for b in blocks}.values():
                try:
                    placed.block.check(placed.width, self.class_token != "none")
                except ValueError as error:
                    raise ValueError(f"stages.{i}: {error}") from None
        width = self.stages[0].width
        if self.rope and width % 4:
            raise ValueError(
                f"rope turns pairs of channels along two axes: stages.0.width {width} must be a "
                "multiple of 4"
            )
        if width < self.stem.least_width:
            raise ValueError(
                f"an {self.stem.kind} stem halves its width: stages.0.width must be "
                f"{self.stem.least_width} or more"
            )
        return self

    @property
    def class_tokens(self) -> int:
        """How many class tokens there are."""
        return CLASS_TOKENS[self.class_token]

    def _check_stage(self, i: int, stage: StageConfig) -> None:
        unknown = sorted(set(filter(str.isalpha, stage.pattern)) - set(self.blocks))
        if unknown:
            raise ValueError(
                f"stages.{i}.pattern {stage.pattern!r} uses {unknown[0]!r}, which is not "
                f"under blocks; declared: {', '.join(sorted(self.blocks))}"
            )
        if (stage.downsample is None) != (i == 0):
            raise ValueError(
                f"stages.{i}.downsample must be "
                + ("absent: the stem sets the first resolution" if i == 0 else "given")
            )
        if stage.routes is not None and len(stage.routes) != stage.depth:
            raise ValueError(
                f"stages.{i}.routes has {len(stage.routes)} rows for depth {stage.depth}; "
                "give one row per block"
            )

    # -- files --

    @classmethod
    def from_yaml(cls, text: str, source: str = "inline config") -> BackboneConfig:
        """Build a config from YAML text; ConfigError names source, line, field and remedy."""
        return yaml_files.validate(cls, yaml_files.parse(text, source, ConfigError), ConfigError)

    @classmethod
    def load(cls, path: str | Path) -> BackboneConfig:
        """Build a config from a YAML file, or from the `config` section of an exported file."""
        document = yaml_files.read(path, ConfigError)
        if isinstance(document.data.get("config"), dict):
            lines = {k[1:]: v for k, v in document.lines.items() if k[:1] == ("config",)}
            document = yaml_files.Document(document.data["config"], document.source, lines)
        return yaml_files.validate(cls, document, ConfigError)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data holding only what differs from the defaults, schema first."""
        data = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return {"schema": 1, **with_kinds(self, data)}

    def to_yaml(self) -> str:
        """Return YAML text; loading it gives an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=100)

    # -- identity --

    def canonical(self) -> dict[str, Any]:
        """Return the function this config describes: equal for configs of the same function.

        Patterns are tiled out, names dropped, ratios become channel counts, spellings of one scan
        order become one list of routes, the order of summed routes is forgotten, and what has no
        effect is left out.
        """
        token = self.class_token != "none"
        stages = [
            {
                "width": stage.width,
                "downsample": None if stage.downsample is None else stage.downsample.canonical(),
                "blocks": [b.block.canonical(b.width, b.shift, token) for b in placed],
            }
            for stage, placed in zip(self.stages, resolve_blocks(self))
        ]
        return {**self._around(), "stages": stages}

    def _around(self) -> dict[str, Any]:
        """Return the canonical form of what is around the stages."""
        table = self.position == "learned" or self.rope
        return {
            "version": CANONICAL_VERSION,
            "stem": self.stem.canonical(),
            "head": self.head.canonical(self.stages[-1].width, self.class_tokens),
            "position": self.position,
            "rope": self.rope,
            "class_token": self.class_token,
            "table_side": self.image_size if table else None,
            "in_chans": self.in_chans,
            "num_classes": self.num_classes,
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the canonical form: equal functions hash alike.

        The text that is hashed is `canonical` as compact JSON with sorted keys.
        """
        token, stages = self.class_token != "none", []
        for stage, placed in zip(self.stages, resolve_blocks(self)):
            blocks = ",".join([_text(b.block, b.width, b.shift, token) for b in placed])
            down = _downsample_text(stage.downsample)
            stages.append(f'{{"blocks":[{blocks}],"downsample":{down},"width":{stage.width}}}')
        # Encoded at once: each call of the encoder takes as long as a block's text does.
        before, after = _compact({**self._around(), "stages": []}).split('"stages":[]')
        text = f'{before}"stages":[{",".join(stages)}]{after}'
        return hashlib.sha256(text.encode()).hexdigest()


_compact = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@cache
def _downsample_text(downsample: Any) -> str:
    """Return a downsampling's canonical form as JSON."""
    return _compact(None if downsample is None else downsample.canonical())


_texts: dict[tuple[Any, ...], tuple[BlockConfig, str]] = {}
"""Blocks as JSON; the designs of a search share blocks. By identity: comparing takes longer."""


def _text(block: BlockConfig, width: int, shift: tuple[int, int] | None, token: bool) -> str:
    """Return a block's canonical form as JSON."""
    at = (id(block), width, shift, token)
    if at not in _texts:
        if len(_texts) >= TEXTS:
            _texts.clear()
        _texts[at] = block, _compact(block.canonical(width, shift, token))
    return _texts[at][1]


# --- blocks in place ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacedBlock:
    """A block where it stands: routes and shift of its position resolved.

    stage, index: position; width: channels; block: config, its window routes replaced by the
    stage's table; shift: (H, W) signs of the roll, or None.
    """

    stage: int
    index: int
    width: int
    block: BlockConfig
    shift: tuple[int, int] | None


def resolve_blocks(config: BackboneConfig) -> tuple[tuple[PlacedBlock, ...], ...]:
    """Expand patterns, route tables and shift cycles: one tuple of blocks per stage.

    Raises: ValueError for a route table over a block without a window order.
    """
    stages, count = [], 0
    for s, stage in enumerate(config.stages):
        placed = []
        for i, letter in enumerate(stage.letters):
            block = config.blocks[letter]
            if stage.routes is not None:
                try:
                    mixer = block.mixer.with_routes(stage.routes[i])
                except ValueError as error:
                    reason = yaml_files.reason(error)
                    raise ValueError(f"stages.{s}.routes: block {letter!r} {reason}") from None
                block = block.model_copy(update={"mixer": mixer})
            shift = block.mixer.turn(i, count)
            placed.append(PlacedBlock(s, i, stage.width, block, shift))
            count += 1
        stages.append(tuple(placed))
    return tuple(stages)
