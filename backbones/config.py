"""The backbone language: what a network is, as frozen, validated data.

A backbone is a stem, stages and a head. A stage is a width, a depth and a pattern: a string of
letters tiled over the depth, each letter naming a block declared under `blocks`. A block is a
norm, a token mixer and an optional FFN. No paper has a class of its own: published models are
YAML files in `presets/` written in this language.

Differences between families that remain are fields here, each with its reason; see the class
that owns the field.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from backbones import yaml_files
from backbones.errors import ConfigError


class Model(BaseModel):
    """Base of every config: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _named(key: str) -> BeforeValidator:
    """Let a mapping with one telling key be written as the bare value: `norm: rmsnorm`."""
    return BeforeValidator(lambda v: {key: v} if isinstance(v, str) else v)


class NormConfig(Model):
    """Normalization over channels. LayerNorm has weight and bias, RMSNorm weight only."""

    kind: Literal["layernorm", "rmsnorm"] = "layernorm"
    eps: Annotated[float, Field(gt=0)] = 1e-5


Norm = Annotated[NormConfig, _named("kind")]

# --- scan orders -------------------------------------------------------------------------------

ROUTE_NAME = re.compile(r"(h|v|w([2-9]|[1-9]\d))(_flip)?")


def route_key(name: str) -> tuple[int, int, bool]:
    """Sort key in LocalMamba's canonical order: h, v, windows by size, each before its flip."""
    base = name.removesuffix("_flip")
    kind = {"h": 0, "v": 1}.get(base, 2)
    return kind, int(base[1:]) if kind == 2 else 0, name.endswith("_flip")


class FixedOrder(Model):
    """Orders given by the grid alone.

    raster: rows (K = 1). bidirectional: rows and their reverse (K = 2, Vim). cross: rows,
    columns and their reverses (K = 4, VMamba). snake: continuous boustrophedon rows, columns and
    their reverses (K = 4, PlainMamba). hilbert, zorder: the space-filling curve, its reverse,
    its transpose and that one's reverse (K = 4; ours).
    """

    kind: Literal["raster", "bidirectional", "cross", "snake", "hilbert", "zorder"]

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return {"raster": 1, "bidirectional": 2}.get(self.kind, 4)


class WindowOrder(Model):
    """Any set of LocalMamba's routes: h, v, wK (K x K windows), each with `_flip` for reversed.

    Grids that are no multiple of the window are zero-padded at the bottom and right.
    Source: LocalMamba, arXiv 2403.09338, section 3.2.
    """

    kind: Literal["window"] = "window"
    routes: tuple[str, ...] = ("h", "h_flip", "w2", "w2_flip")

    @field_validator("routes")
    @classmethod
    def _known_routes(cls, routes: tuple[str, ...]) -> tuple[str, ...]:
        bad = [r for r in routes if not ROUTE_NAME.fullmatch(r)]
        if bad:
            raise ValueError(
                f"unknown route {bad[0]!r}; a route is h, v or wK with K from 2 to 99, "
                "with _flip for its reverse"
            )
        if not routes or len(set(routes)) != len(routes):
            raise ValueError(f"routes {list(routes)} must be one or more distinct names")
        return routes

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return len(self.routes)


class AtrousOrder(Model):
    """Skip sampling: step x step interleaved sub-grids, one route each, placed back, not summed.

    Source: EfficientVMamba, arXiv 2403.09977, section 3.2.
    """

    kind: Literal["atrous"] = "atrous"
    step: Literal[2] = 2

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations (one per sub-grid)."""
        return self.step**2


class QuadtreeOrder(Model):
    """Learned quadtree: windows with the highest mean locality score are subdivided in place.

    levels: windows per side at each level, coarse to fine; each a multiple of the one before.
    refine: how many windows of a level are subdivided into the next level.
    context: what the score predictor sees; "half_global" pools half of its channels over
        2 x 2 quadrants (the paper's local and global branches), "local" does not.
    Evaluation is deterministic (argmax); training uses straight-through Gumbel-softmax.
    K = 2: the sequence and its reverse.
    Source: QuadMamba, arXiv 2410.06806, section 3.3; two levels there, deeper is ours.
    """

    kind: Literal["quadtree"] = "quadtree"
    levels: tuple[PositiveInt, ...] = (2, 4)
    refine: PositiveInt = 1
    context: Literal["local", "half_global"] = "half_global"

    @model_validator(mode="after")
    def _nested_levels(self) -> QuadtreeOrder:
        if len(self.levels) < 2:
            raise ValueError(f"levels {list(self.levels)} must be two or more, e.g. [2, 4]")
        for coarse, fine in zip(self.levels, self.levels[1:]):
            if fine <= coarse or fine % coarse:
                raise ValueError(
                    f"levels {list(self.levels)}: {fine} must be a larger multiple of {coarse}, "
                    f"e.g. {2 * coarse}"
                )
        if self.refine > self.levels[0] ** 2:
            raise ValueError(
                f"refine {self.refine} exceeds the {self.levels[0] ** 2} windows of the first level"
            )
        return self

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return 2


class QuadtreeOfficialOrder(Model):
    """QuadMamba's released code, quirks included, for its checkpoints.

    The refined windows are taken from a raster of 4 x 4 windows over the whole map, so tokens
    of the chosen quadrant are added onto tokens of others and some positions hold zeros.
    Kept because released weights were trained that way; `quadtree` is what the paper describes.
    Source: VISION-SJTU/QuadMamba @ 720ecc3 (context local) and @ 07cd16d (half_global).
    """

    kind: Literal["quadtree_official"] = "quadtree_official"
    context: Literal["local", "half_global"] = "local"

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return 2


ScanOrder = Annotated[
    FixedOrder | WindowOrder | AtrousOrder | QuadtreeOrder | QuadtreeOfficialOrder,
    Field(discriminator="kind"),
    _named("kind"),
]

DIRECTIONS: dict[str, tuple[int, int]] = {
    # Sign of the roll along (H, W), in the order in which QuadMamba's code cycles through them.
    "down_right": (1, 1),
    "up_left": (-1, -1),
    "down_left": (1, -1),
    "up_right": (-1, 1),
}


class ShiftConfig(Model):
    """Cyclic shift of the map by side // fraction before the scan, undone after it.

    direction: one diagonal, or "omni": the four diagonals in turn over the shifted blocks.
    blocks: "odd" shifts every second block of a stage (as published), "all" every block.
    Source: QuadMamba, section 3.3 (omnidirectional window shifting).
    """

    direction: Literal["down_right", "up_left", "down_left", "up_right", "omni"] = "omni"
    fraction: PositiveInt = 8
    blocks: Literal["odd", "all"] = "odd"

    def resolve(self, block_in_stage: int, global_block: int) -> tuple[int, int] | None:
        """Return the (H, W) signs of the roll for one block, or None where it does not shift."""
        if self.blocks == "odd" and block_in_stage % 2 == 0:
            return None
        if self.direction != "omni":
            return DIRECTIONS[self.direction]
        turn = global_block // 2 if self.blocks == "odd" else global_block
        return tuple(DIRECTIONS.values())[turn % 4]


Shift = Annotated[ShiftConfig, _named("direction")]

# --- token mixers ------------------------------------------------------------------------------


def _require_odd(kernel: int) -> None:
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} must be odd to keep the map's size; use {kernel + 1}")


class ConvConfig(Model):
    """Depthwise convolution in front of the scan, followed by SiLU.

    kind "2d": on the map, shared by the routes (VMamba). "causal": 1-D along each route, with
    parameters of its own per route (Vim, LocalVim).
    """

    kind: Literal["2d", "causal"] = "2d"
    kernel: PositiveInt = 3
    bias: bool = False

    @model_validator(mode="after")
    def _centered(self) -> ConvConfig:
        if self.kind == "2d":
            _require_odd(self.kernel)
        return self


class SSMConfig(Model):
    """Selective scan (S6) over K routes of a scan order.

    order: which routes. d_state: N. expand: inner width / width. dt_rank: R, "auto" is
    ceil(width / 16). conv: depthwise conv before the scan, null for none (SiLU stays).
    gate: "none"; "output" multiplies SiLU(z) after merge and out_norm (VMamba v0, PlainMamba);
        "scan" multiplies it to each route inside the scan (Vim, LocalVim).
    merge: how routes join: "sum", "mean" (Vim's division by two), "attention" (sum after one
        channel attention shared by the routes, LocalMamba).
    out_norm: LayerNorm over the inner width after the merge, null for none.
    shared: all routes share x_proj, dt_proj, A and D (PlainMamba).
    proj_bias: bias on the in and out projections (PlainMamba).
    shift: cyclic shift before the scan, null for none.
    init: "mamba" initializes dt so that softplus(bias) is in [1e-3, 1e-1]; "linear" leaves the
        dt projection as any other linear layer, as LocalVim and PlainMamba do in effect.
    direction_bias: adds a learned vector per movement direction to B (PlainMamba).
    raster_steps: delta, B and C of step t come from raster token t instead of the token that
        step visits: a quirk of PlainMamba's code that its weights were trained with.
    double_dt_bias: the dt bias enters twice: likewise PlainMamba.
    Source: VMamba, arXiv 2401.10166; Mamba, arXiv 2312.00752, algorithm 2.
    """

    kind: Literal["ssm"] = "ssm"
    order: ScanOrder = FixedOrder(kind="cross")
    d_state: Annotated[int, Field(ge=1, le=64)] = 1
    expand: Annotated[float, Field(gt=0)] = 2.0
    dt_rank: PositiveInt | Literal["auto"] = "auto"
    conv: Annotated[ConvConfig, _named("kind")] | None = ConvConfig()
    gate: Literal["none", "output", "scan"] = "none"
    merge: Literal["sum", "mean", "attention"] = "sum"
    out_norm: Norm | None = NormConfig()
    shared: bool = False
    proj_bias: bool = False
    shift: Shift | None = None
    init: Literal["mamba", "linear"] = "mamba"
    direction_bias: bool = False
    raster_steps: bool = False
    double_dt_bias: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SSMConfig:
        if self.direction_bias and self.order.kind != "snake":
            raise ValueError(
                f"direction_bias needs order snake (found {self.order.kind}); drop one of the two"
            )
        if self.raster_steps and self.order.kind != "snake":
            raise ValueError(
                f"raster_steps needs order snake (found {self.order.kind}); drop one of the two"
            )
        if self.shift and self.order.kind == "atrous":
            raise ValueError("shift has no meaning for order atrous; remove it")
        if self.conv is not None and self.conv.kind == "causal":
            if not isinstance(self.order, (FixedOrder, WindowOrder)):
                raise ValueError(
                    f"a causal conv follows fixed routes, not order {self.order.kind}; use conv 2d"
                )
        if self.merge == "attention" and self.order.kind in ("atrous", "quadtree_official"):
            raise ValueError(
                f"merge attention needs whole routes, which order {self.order.kind} has not; "
                "use merge sum"
            )
        return self

    @property
    def gates_in_scan(self) -> bool:
        """Whether the kernel applies the gate; orders that rearrange tokens apply it after."""
        return self.gate == "scan" and self.order.kind not in ("atrous", "quadtree_official")

    def inner(self, width: int) -> int:
        """E, the number of scanned channels."""
        return int(self.expand * width)

    def rank(self, width: int) -> int:
        """R, the rank of the dt projection."""
        return math.ceil(width / 16) if self.dt_rank == "auto" else self.dt_rank


class GatedConvConfig(Model):
    """MambaOut's gated CNN: an SSM block without the SSM.

    expand: hidden / width. conv_ratio: convolved channels / width. kernel: depthwise kernel.
    Source: MambaOut, arXiv 2405.07992, section 3.
    """

    kind: Literal["gated_conv"] = "gated_conv"
    expand: Annotated[float, Field(gt=0)] = 8 / 3
    conv_ratio: Annotated[float, Field(gt=0)] = 1.0
    kernel: PositiveInt = 7

    @model_validator(mode="after")
    def _fits(self) -> GatedConvConfig:
        if self.conv_ratio > self.expand:
            raise ValueError(
                f"conv_ratio {self.conv_ratio} exceeds expand {self.expand}; lower it to at most "
                "expand"
            )
        _require_odd(self.kernel)
        return self

    def hidden(self, width: int) -> int:
        """Return the width of the gate and of the gated channels."""
        return int(self.expand * width)

    def convolved(self, width: int) -> int:
        """Return how many of the gated channels are convolved."""
        return int(self.conv_ratio * width)


class InvertedResidualConfig(Model):
    """EfficientVMamba's convolutional block: 1x1, depthwise 3x3, squeeze-excite, 1x1, all BN.

    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """

    kind: Literal["inverted_residual"] = "inverted_residual"
    expand: Annotated[float, Field(gt=0)] = 4.0
    se_ratio: Annotated[float, Field(gt=0, le=1)] = 0.125

    def hidden(self, width: int) -> int:
        """Return the width of the depthwise convolution."""
        return int(self.expand * width)

    def squeezed(self, width: int) -> int:
        """Return the width of the squeeze-excite bottleneck."""
        return int(self.se_ratio * self.hidden(width))


Mixer = Annotated[
    SSMConfig | GatedConvConfig | InvertedResidualConfig,
    Field(discriminator="kind"),
    _named("kind"),
]


class FFNConfig(Model):
    """Linear, GELU, linear, with biases; hidden = int(width * ratio)."""

    ratio: Annotated[float, Field(gt=0)] = 4.0

    def hidden(self, width: int) -> int:
        """Return the inner width."""
        return int(self.ratio * width)


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
        """Stride of the patches in pixels."""
        return self.stride or self.patch


class ConvStem(Model):
    """7x7 stride 2, `convs` 3x3 convolutions (BN, ReLU), then a (patch/2) patch projection.

    Source: PlainMamba, arXiv 2403.17695, section 3.
    """

    kind: Literal["conv"] = "conv"
    patch: PositiveInt = 16
    convs: PositiveInt = 1
    hidden: PositiveInt = 64

    @field_validator("patch")
    @classmethod
    def _even(cls, patch: int) -> int:
        if patch % 2:
            raise ValueError(f"patch {patch} must be even: the first convolution takes stride 2")
        return patch


Stem = Annotated[OverlapStem | PatchifyStem | ConvStem, Field(discriminator="kind"), _named("kind")]


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
    downsample: Annotated[DownsampleConfig, _named("kind")] | None = None
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
        resolve_blocks(self)  # raises on routes for a block that has no window order
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
