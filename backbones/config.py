"""The backbone language: what a network is, as frozen, validated data.

A backbone is a stem, stages and a head. A stage is a width, a depth and a pattern: a string of
letters tiled over the depth, each letter naming a block declared under `blocks`. A block is a
norm, a token mixer and an optional FFN. No paper has a class of its own: published models are
YAML files in `presets/` written in this language.

Differences between families that remain are fields here, each with its reason; see the class
that owns the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from backbones import yaml_files
from backbones.errors import ConfigError
from backbones.mixer_config import (
    ConvConfig,
    FFNConfig,
    GatedConvConfig,
    InvertedResidualConfig,
    Mixer,
    SSMConfig,
)
from backbones.order_config import (
    AtrousOrder,
    FixedOrder,
    Model,
    Norm,
    NormConfig,
    QuadtreeOfficialOrder,
    QuadtreeOrder,
    ScanOrder,
    ShiftConfig,
    WindowOrder,
    named,
    route_key,
)

__all__ = [
    "AtrousOrder",
    "BackboneConfig",
    "BlockConfig",
    "ConvConfig",
    "ConvStem",
    "DownsampleConfig",
    "FFNConfig",
    "FixedOrder",
    "GatedConvConfig",
    "HeadConfig",
    "InvertedResidualConfig",
    "NormConfig",
    "OverlapStem",
    "PatchifyStem",
    "PlacedBlock",
    "QuadtreeOfficialOrder",
    "QuadtreeOrder",
    "SSMConfig",
    "ScanOrder",
    "ShiftConfig",
    "StageConfig",
    "WindowOrder",
    "resolve_blocks",
    "route_key",
]

# --- blocks ------------------------------------------------------------------------------------


class BlockConfig(Model):
    """One residual block: x + mixer(norm(x)), then x + ffn(norm(x)) if there is one.

    norm: of both branches; null for mixers that normalize inside (inverted_residual).
    local_branch: adds EfficientVMamba's depthwise-conv branch beside the mixer; both branches
        pass one shared channel attention.
    post_conv: replaces x by GELU(BN(depthwise 3x3(x))) after the block (PlainMamba-L1, block 0).
    """

    norm: Norm | None = NormConfig()
    mixer: Mixer = SSMConfig()
    ffn: FFNConfig | None = None
    local_branch: bool = False
    post_conv: bool = False


# --- stem, stages, head ------------------------------------------------------------------------


class OverlapStem(Model):
    """Two 3x3 convolutions with norms and a GELU between (VMamba v2, MambaOut).

    stride: total; 4 as published (2, then 2); 2 is (2, then 1), 1 is (1, then 1).
    """

    kind: Literal["overlap"] = "overlap"
    stride: Literal[1, 2, 4] = 4
    norm: Norm = NormConfig()

    @property
    def step(self) -> int:
        """Pixels from one token to the next."""
        return self.stride

    @property
    def strides(self) -> tuple[int, int]:
        """Strides of the two convolutions."""
        return {4: (2, 2), 2: (2, 1), 1: (1, 1)}[self.stride]


class PatchifyStem(Model):
    """One patch x patch convolution, without padding.

    stride: null means patch (Vim's fine-tuned models overlap patches with stride 8).
    norm: null for none (Vim), layernorm for VMamba v0.
    """

    kind: Literal["patchify"] = "patchify"
    patch: PositiveInt = 4
    stride: PositiveInt | None = None
    norm: Norm | None = NormConfig()

    @property
    def step(self) -> int:
        """Pixels from one token to the next."""
        return self.stride or self.patch


class ConvStem(Model):
    """7x7 stride 2, `convs` 3x3 convolutions (BN, ReLU), then a (patch/2) patch projection.

    Source: PlainMamba, arXiv 2403.17695, section 3.
    """

    kind: Literal["conv"] = "conv"
    patch: PositiveInt = 16
    convs: PositiveInt = 1
    hidden: PositiveInt = 64

    @property
    def step(self) -> int:
        """Pixels from one token to the next."""
        return self.patch

    @field_validator("patch")
    @classmethod
    def _even(cls, patch: int) -> int:
        if patch % 2:
            raise ValueError(f"patch {patch} must be even: the first convolution takes stride 2")
        return patch


Stem = Annotated[OverlapStem | PatchifyStem | ConvStem, Field(discriminator="kind"), named("kind")]


class DownsampleConfig(Model):
    """Halves the map on entering a stage and changes to its width.

    kind: "conv3x3" stride 2 pad 1 with norm (VMamba v3, MambaOut); "conv2x2" stride 2 with norm;
        "patch_merging" 2x2 concatenation, norm, linear without bias (VMamba v0, Swin).
    """

    kind: Literal["conv3x3", "conv2x2", "patch_merging"] = "conv3x3"
    norm: Norm = NormConfig()


class StageConfig(Model):
    """Blocks at one resolution.

    pattern: letters tiled over the depth, e.g. "qs" at depth 5 is q s q s q.
    downsample: how the map enters from the stage before; required but for the first stage.
    routes: per block, routes that replace those of its window order (LocalMamba's tables).
    """

    width: PositiveInt
    depth: PositiveInt
    pattern: Annotated[str, Field(min_length=1)]
    downsample: Annotated[DownsampleConfig, named("kind")] | None = None
    routes: tuple[tuple[str, ...], ...] | None = None

    @property
    def letters(self) -> str:
        """The pattern tiled over the depth: one letter per block."""
        return (self.pattern * (self.depth // len(self.pattern) + 1))[: self.depth]


class HeadConfig(Model):
    """Classifier.

    pool: "mean" over the map, or "token": the class token. norm_first: the norm acts at every
    position before pooling (VMamba) or on the pooled vector (MambaOut). mlp_ratio: hidden layer
    of that ratio with GELU and norm before the classifier (MambaOut), null for none.
    """

    pool: Literal["mean", "token"] = "mean"
    norm: Norm = NormConfig()
    norm_first: bool = True
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None

    def hidden(self, width: int) -> int:
        """Return the width of the hidden layer, for a head that has one."""
        assert self.mlp_ratio is not None
        return int(self.mlp_ratio * width)


class BackboneConfig(Model):
    """A whole architecture; see the module docstring for the language.

    position: "learned" adds a table sized for `image_size`, resized for other inputs.
    rope: 2-D rotary embedding of the residual stream before every block (LocalVim).
    class_token: appended to the tokens in the middle (Vim) or not at all.
    image_size: side in pixels for which positional tables are made.
    drop_path_rate: of the last block; rises linearly from 0. Not part of the fingerprint: it
        changes training, not the function.
    Errors: ConfigError from the loaders, pydantic.ValidationError from the constructor.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    name: str | None = None
    stem: Stem = OverlapStem()
    blocks: dict[Annotated[str, Field(pattern=r"^[a-zA-Z]$")], BlockConfig]
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    head: HeadConfig = HeadConfig()
    position: Literal["none", "learned"] = "none"
    rope: bool = False
    class_token: Literal["none", "middle"] = "none"
    image_size: PositiveInt = 224
    in_chans: PositiveInt = 3
    num_classes: Annotated[int, Field(ge=0)] = 1000
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _consistent(self) -> BackboneConfig:
        for i, stage in enumerate(self.stages):
            unknown = sorted(set(stage.pattern) - set(self.blocks))
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
        if self.head.pool == "token" and self.class_token == "none":
            raise ValueError("head.pool token needs a class token; set class_token: middle")
        if self.class_token != "none" or self.rope:
            if len(self.stages) > 1:
                raise ValueError("class_token and rope need a single stage (a plain backbone)")
        for i, blocks in enumerate(resolve_blocks(self)):
            for placed in {id(b.block): b for b in blocks}.values():
                _check_block(placed, self.class_token != "none", f"stages.{i}")
        if self.rope and self.stages[0].width % 4:
            raise ValueError(
                f"rope turns pairs of channels along two axes: stages.0.width "
                f"{self.stages[0].width} must be a multiple of 4"
            )
        if isinstance(self.stem, OverlapStem) and self.stages[0].width < 2:
            raise ValueError("an overlap stem halves its width: stages.0.width must be 2 or more")
        return self

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
        return {"schema": 1, **_with_kinds(self, data)}

    def to_yaml(self) -> str:
        """Return YAML text; loading it gives an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=100)

    # -- identity --

    def canonical(self) -> dict[str, Any]:
        """Return the function this config describes, free of names and spellings."""
        from backbones.canonical import canonical_form

        return canonical_form(self)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the canonical form: equal functions hash alike."""
        from backbones.canonical import fingerprint

        return fingerprint(self)


def _with_kinds(model: BaseModel, data: dict[str, Any]) -> dict[str, Any]:
    """Put back discriminators that `exclude_defaults` removed, so that a dump loads again."""
    out: dict[str, Any] = {}
    if "kind" in type(model).model_fields:
        out["kind"] = model.kind  # type: ignore[attr-defined]
    for key, value in data.items():
        field = "schema_" if key == "schema" else key
        out[key] = _kinds_in(getattr(model, field, None), value)
    return out


def _kinds_in(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        return _with_kinds(value, dumped)
    if isinstance(value, dict):
        return {k: _kinds_in(v, dumped[k]) for k, v in value.items()}
    if isinstance(value, tuple) and isinstance(dumped, list):
        return [_kinds_in(v, d) for v, d in zip(value, dumped)]
    return dumped


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
            block, shift = config.blocks[letter], None
            mixer = block.mixer
            if isinstance(mixer, SSMConfig):
                if stage.routes is not None:
                    if not isinstance(mixer.order, WindowOrder):
                        raise ValueError(
                            f"stages.{s}.routes: block {letter!r} has order {mixer.order.kind}; "
                            "a route table needs order window"
                        )
                    order = WindowOrder(routes=stage.routes[i])
                    mixer = mixer.model_copy(update={"order": order})
                    block = block.model_copy(update={"mixer": mixer})
                if mixer.shift is not None:
                    shift = mixer.shift.resolve(i, count)
            placed.append(
                PlacedBlock(stage=s, index=i, width=stage.width, block=block, shift=shift)
            )
            count += 1
        stages.append(tuple(placed))
    return tuple(stages)


def _check_block(placed: PlacedBlock, class_token: bool, where: str) -> None:
    """Raise ValueError where a block cannot work at its width, or beside a class token."""
    block, mixer = placed.block, placed.block.mixer
    try:
        mixer.check_width(placed.width)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if block.local_branch and placed.width < 8:
        raise ValueError(f"{where}: local_branch needs width 8 or more (found {placed.width})")
    if block.ffn is not None and block.ffn.hidden(placed.width) < 1:
        raise ValueError(f"{where}: ffn ratio {block.ffn.ratio} leaves no hidden channel")
    if class_token and not _takes_class_token(block):
        raise ValueError(
            f"{where}: a class token is no part of the map, and a block of mixer {mixer.kind} "
            "works on the map; use ssm with a fixed or window order and conv causal or null"
        )


def _takes_class_token(block: BlockConfig) -> bool:
    mixer = block.mixer
    return (
        isinstance(mixer, SSMConfig)
        and isinstance(mixer.order, (FixedOrder, WindowOrder))
        and (mixer.conv is None or mixer.conv.kind == "causal")
        and not (mixer.direction_bias or block.local_branch or block.post_conv)
    )
