"""What a network costs: parameters and floating point operations, without building it.

One rule a component, in the order in which its module computes. Rules are exact: they equal the
parameters of the built network and fvcore's count of its trace (`flop_handles`). Two conventions:

fvcore  multiply-adds of convolutions and linear layers count 1, a selective scan
        9 L D N + L D a route, LayerNorm 5 and BatchNorm 2 per element, RMSNorm nothing. What
        VMamba, QuadMamba, LocalVMamba, PlainMamba and EfficientVMamba report.
macs    multiply-adds only: no norms; a scan 4 L D N + 2 L D, and L D more for a gate inside.
        What MambaOut and timm report.

Activations, residual sums, unfused gates, pooling by mean and positional tables count nothing in
either. Source of the scan formulas: `kernels.flops`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backbones.components import component, register
from backbones.config import (
    AtrousOrder,
    BackboneConfig,
    BlockConfig,
    ConvStem,
    DownsampleConfig,
    FixedOrder,
    GatedConvConfig,
    InvertedResidualConfig,
    NormConfig,
    OverlapStem,
    PatchifyStem,
    QuadtreeOfficialOrder,
    QuadtreeOrder,
    SSMConfig,
    StageConfig,
    WindowOrder,
)
from backbones.errors import ConfigError
from backbones.orders import padded_tokens, window_padding
from kernels import scan_flops

CONVENTIONS = ("fvcore", "macs")
Grid = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """Parameters and operations of one image.

    Units: flops in single operations of `convention`; by_component and by_stage map a name to
    (params, flops) and sum to the totals.
    """

    params: int
    flops: int
    by_component: dict[str, tuple[int, int]]
    by_stage: dict[str, tuple[int, int]]
    convention: str
    image_size: tuple[int, int]


@dataclass
class Tally:
    """Adds up a network; rules call its methods, one per kind of layer.

    times: how many equal blocks the next entries stand for.
    """

    convention: str
    times: int = 1
    stage: str = ""
    components: dict[str, list[int]] = field(default_factory=dict)
    stages: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, params: int = 0, flops: int = 0) -> None:
        """Add plain numbers under a component's name."""
        for table, key in ((self.components, name), (self.stages, self.stage)):
            entry = table.setdefault(key, [0, 0])
            entry[0] += params * self.times
            entry[1] += flops * self.times

    def linear(self, name: str, inputs: int, outputs: int, tokens: int, bias: bool = True) -> None:
        """Add a linear layer applied to every token."""
        self.add(name, inputs * outputs + outputs * bias, inputs * outputs * tokens)

    def conv(self, name: str, weight: int, bias: int, positions: int) -> None:
        """Add a convolution with so many weights and biases, evaluated at so many positions."""
        self.add(name, weight + bias, weight * positions)

    def norm(self, name: str, config: NormConfig | None, width: int, tokens: int) -> None:
        """Add a LayerNorm or RMSNorm over the channels of every token."""
        if config is None:
            return
        if config.kind == "rmsnorm":
            self.add(name, width)
        else:
            self.add(name, 2 * width, 5 * width * tokens if self.convention == "fvcore" else 0)

    def batch_norm(self, name: str, width: int, positions: int) -> None:
        """Add a BatchNorm2d, in evaluation."""
        self.add(name, 2 * width, 2 * width * positions if self.convention == "fvcore" else 0)

    def pooled(self, name: str, elements: int) -> None:
        """Add an adaptive pooling or nearest upsampling that touches so many elements."""
        self.add(name, 0, elements if self.convention == "fvcore" else 0)


def cost(
    config: BackboneConfig | str,
    image_size: int | tuple[int, int] = 224,
    convention: str = "fvcore",
    widths: Sequence[int] | None = None,
) -> Cost:
    """Count the parameters and operations of a network on one image, in evaluation.

    config: a config, preset name or path. widths: stage widths that replace the config's, so
    that a solver need not rebuild it.
    Shapes: image_size is a side or (H, W) in pixels.
    Units: see the module docstring; stored with the result as `convention`.
    Raises: ConfigError for an unknown convention, or an image too small for the network.
    """
    if convention not in CONVENTIONS:
        raise ConfigError(
            f"FLOP convention {convention!r} is unknown; use {' or '.join(CONVENTIONS)}"
        )
    if not isinstance(config, BackboneConfig):
        from backbones.catalog import load_config

        config = load_config(config)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if widths is None:
        widths = [stage.width for stage in config.stages]
    tally = Tally(convention, stage="stem")
    grid = component(config.stem).cost(tally, config.stem, config.in_chans, widths[0], size)
    _check_grid(grid, size)
    extra = int(config.class_token != "none")
    if config.position == "learned":
        table = stem_grid(config, (config.image_size, config.image_size))
        tally.add("position", (table[0] * table[1] + extra) * widths[0])
    tally.add("position", extra * widths[0])
    for index, stage in enumerate(config.stages):
        tally.stage, width = f"stage {index + 1}", widths[index]
        if stage.downsample is not None:
            rule = component(stage.downsample).cost
            grid = rule(tally, stage.downsample, widths[index - 1], width, grid)
            _check_grid(grid, size)
        for block, tally.times in _distinct(config.blocks, stage, grid):
            _block(tally, block, width, grid, extra)
        tally.times = 1
    tally.stage = "head"
    _head(tally, config, widths[-1], grid[0] * grid[1])
    return Cost(
        params=sum(entry[0] for entry in tally.stages.values()),
        flops=sum(entry[1] for entry in tally.stages.values()),
        by_component={name: (p, f) for name, (p, f) in tally.components.items()},
        by_stage={name: (p, f) for name, (p, f) in tally.stages.items()},
        convention=convention,
        image_size=size,  # type: ignore[arg-type]
    )


def _distinct(
    blocks: dict[str, BlockConfig], stage: StageConfig, grid: Grid
) -> Iterator[tuple[BlockConfig, int]]:
    """Yield blocks of a stage that cost differently, and how often each occurs."""
    letters = stage.letters
    if stage.routes is None:
        for letter in dict.fromkeys(letters):
            yield blocks[letter], letters.count(letter)
        return
    rows: dict[tuple[str, int, int], list[tuple[str, ...]]] = {}
    for letter, row in zip(letters, stage.routes):
        rows.setdefault((letter, len(row), window_padding(row, *grid)), []).append(row)
    for (letter, *_), same in rows.items():
        block = blocks[letter]
        mixer = block.mixer.model_copy(update={"order": WindowOrder(routes=same[0])})
        yield block.model_copy(update={"mixer": mixer}), len(same)


def stem_grid(config: BackboneConfig, size: Grid) -> Grid:
    """Return the (H, W) of the map that the stem makes of an image of so many pixels."""
    return component(config.stem).cost(Tally("macs"), config.stem, 1, 2, size)


def _check_grid(grid: Grid, size: Grid) -> None:
    if min(grid) < 1:
        raise ConfigError(
            f"an image of {size[0]} x {size[1]} leaves a map of {grid[0]} x {grid[1]}; "
            "use a larger image or fewer stages"
        )


def _out(grid: Grid, kernel: int, stride: int, padding: int) -> Grid:
    """Return the map after a convolution."""
    return tuple((n + 2 * padding - kernel) // stride + 1 for n in grid)  # type: ignore[return-value]


# --- stems and downsampling --------------------------------------------------------------------


def _overlap_stem(tally: Tally, stem: OverlapStem, inputs: int, width: int, grid: Grid) -> Grid:
    half = width // 2
    first, second = stem.strides
    for outputs, stride in ((half, first), (width, second)):
        grid = _out(grid, 3, stride, 1)
        tally.conv("stem", 9 * inputs * outputs, outputs, grid[0] * grid[1])
        tally.norm("stem", stem.norm, outputs, grid[0] * grid[1])
        inputs = outputs
    return grid


def _patchify_stem(tally: Tally, stem: PatchifyStem, inputs: int, width: int, grid: Grid) -> Grid:
    grid = _out(grid, stem.patch, stem.step, 0)
    tally.conv("stem", stem.patch**2 * inputs * width, width, grid[0] * grid[1])
    tally.norm("stem", stem.norm, width, grid[0] * grid[1])
    return grid


def _conv_stem(tally: Tally, stem: ConvStem, inputs: int, width: int, grid: Grid) -> Grid:
    grid = _out(grid, 7, 2, 3)
    positions, hidden, half = grid[0] * grid[1], stem.hidden, stem.patch // 2
    tally.conv("stem", 49 * inputs * hidden, 0, positions)
    tally.batch_norm("stem", hidden, positions)
    for _ in range(stem.convs):
        tally.conv("stem", 9 * hidden * hidden, 0, positions)
        tally.batch_norm("stem", hidden, positions)
    grid = _out(grid, half, half, 0)
    tally.conv("stem", half**2 * hidden * width, width, grid[0] * grid[1])
    return grid


def _downsample(tally: Tally, down: DownsampleConfig, inputs: int, width: int, grid: Grid) -> Grid:
    if down.kind == "patch_merging":
        grid = tuple(-(-n // 2) for n in grid)  # type: ignore[assignment]
        tokens = grid[0] * grid[1]
        tally.norm("downsample", down.norm, 4 * inputs, tokens)
        tally.linear("downsample", 4 * inputs, width, tokens, bias=False)
        return grid
    kernel, padding = (3, 1) if down.kind == "conv3x3" else (2, 0)
    grid = _out(grid, kernel, 2, padding)
    tally.conv("downsample", kernel**2 * inputs * width, width, grid[0] * grid[1])
    tally.norm("downsample", down.norm, width, grid[0] * grid[1])
    return grid


# --- blocks ------------------------------------------------------------------------------------


def _block(tally: Tally, block: BlockConfig, width: int, grid: Grid, extra: int) -> None:
    positions = grid[0] * grid[1]
    tokens = positions + extra
    tally.norm("norm", block.norm, width, tokens)
    component(block.mixer).cost(tally, block.mixer, width, grid, extra)
    if block.local_branch:
        tally.conv("local_branch", 9 * width, width, positions)
        tally.batch_norm("local_branch", width, positions)
        tally.conv("local_branch", width * width, width, positions)
        _channel_attention(tally, "local_branch", width, positions, uses=2)
    if block.ffn is not None:
        hidden = block.ffn.hidden(width)
        tally.norm("norm", block.norm or NormConfig(), width, tokens)
        tally.linear("ffn", width, hidden, tokens)
        tally.linear("ffn", hidden, width, tokens)
    if block.post_conv:
        tally.conv("post_conv", 9 * width, 0, positions)
        tally.batch_norm("post_conv", width, positions)


def _channel_attention(tally: Tally, name: str, width: int, tokens: int, uses: int) -> None:
    """Count one module that gates `uses` maps of so many tokens each."""
    reduced = width // 8
    tally.add(name, 2 * width, 5 * width * tokens * uses if tally.convention == "fvcore" else 0)
    tally.linear(name, width, reduced, uses)
    tally.linear(name, reduced, width, uses)


def _ssm(tally: Tally, ssm: SSMConfig, width: int, grid: Grid, extra: int) -> None:
    order, inner, rank, state = ssm.order, ssm.inner(width), ssm.rank(width), ssm.d_state
    routes, positions = order.num_routes, grid[0] * grid[1]
    tokens = positions + extra
    causal = ssm.conv is not None and ssm.conv.kind == "causal"
    length = _route_length(ssm, grid) + extra
    gates = 1 if ssm.gate == "none" else 2
    tally.linear("mixer.projections", width, gates * inner, tokens, bias=ssm.proj_bias)
    if ssm.conv is not None:
        bias = inner * ssm.conv.bias
        if causal:
            weight = routes * inner * ssm.conv.kernel
            tally.conv("mixer.conv", weight, routes * bias, length)
        else:
            tally.conv("mixer.conv", inner * ssm.conv.kernel**2, bias, positions)
    if isinstance(order, (QuadtreeOrder, QuadtreeOfficialOrder)):
        _predictor(tally, order, inner, grid, length)
    sets = 1 if ssm.shared else routes
    # Routes that read their own input project it each, even with shared weights.
    uses = routes if causal or isinstance(order, AtrousOrder) else sets
    per_set = inner * (rank + 2 * state) + inner * rank
    tally.add("mixer.steps", sets * (per_set + inner), uses * per_set * length)
    if ssm.direction_bias:
        tally.add("mixer.steps", 5 * state)
    scan = scan_flops(length, inner, state, routes, tally.convention, ssm.gates_in_scan)
    tally.add("mixer.scan", sets * (inner * state + inner), scan)
    if ssm.merge == "attention":
        _channel_attention(tally, "mixer.attention", inner, tokens, uses=routes)
    tally.norm("mixer.norm", ssm.out_norm, inner, tokens)
    tally.linear("mixer.projections", inner, width, tokens, bias=ssm.proj_bias)


def _route_length(ssm: SSMConfig, grid: Grid) -> int:
    """Return L, the steps of one route, padding included."""
    order, (height, width) = ssm.order, grid
    if isinstance(order, AtrousOrder):
        return -(-height // order.step) * -(-width // order.step)
    if isinstance(order, QuadtreeOfficialOrder):
        return -(-height // 4) * -(-width // 4) * 16
    if isinstance(order, (FixedOrder, WindowOrder)):
        return height * width + padded_tokens(order, height, width)
    return height * width


def _predictor(
    tally: Tally,
    order: QuadtreeOrder | QuadtreeOfficialOrder,
    inner: int,
    grid: Grid,
    tokens: int,
) -> None:
    name = "mixer.predictor"
    half, quarter = inner // 2, inner // 4
    tally.norm(name, NormConfig(), inner, tokens)
    tally.linear(name, inner, inner, tokens)
    if order.context == "half_global":
        tally.pooled(name, 2 * (inner - half) * tokens)
    tally.linear(name, inner, half, tokens)
    tally.linear(name, half, quarter, tokens)
    tally.linear(name, quarter, 2, tokens)
    if isinstance(order, QuadtreeOrder):  # scores are averaged over windows by a product
        tally.add(name, 0, tokens * sum(n * n for n in order.levels[:-1]))


def _gated_conv(tally: Tally, gated: GatedConvConfig, width: int, grid: Grid, extra: int) -> None:
    tokens, hidden, convolved = grid[0] * grid[1], gated.hidden(width), gated.convolved(width)
    tally.linear("mixer.projections", width, 2 * hidden, tokens)
    tally.conv("mixer.conv", convolved * gated.kernel**2, convolved, tokens)
    tally.linear("mixer.projections", hidden, width, tokens)


def _inverted_residual(
    tally: Tally, block: InvertedResidualConfig, width: int, grid: Grid, extra: int
) -> None:
    positions, hidden = grid[0] * grid[1], block.hidden(width)
    squeezed = block.squeezed(width)
    tally.conv("mixer.projections", width * hidden, 0, positions)
    tally.batch_norm("mixer.norm", hidden, positions)
    tally.conv("mixer.conv", 9 * hidden, 0, positions)
    tally.batch_norm("mixer.norm", hidden, positions)
    tally.conv("mixer.attention", hidden * squeezed, squeezed, 1)
    tally.conv("mixer.attention", squeezed * hidden, hidden, 1)
    tally.conv("mixer.projections", hidden * width, 0, positions)
    tally.batch_norm("mixer.norm", width, positions)


def _head(tally: Tally, config: BackboneConfig, width: int, positions: int) -> None:
    head = config.head
    tokens = positions + (config.class_token != "none")
    tally.norm("head", head.norm, width, tokens if head.norm_first and head.pool == "mean" else 1)
    if head.mlp_ratio is not None:
        hidden = head.hidden(width)
        tally.linear("head", width, hidden, 1)
        tally.norm("head", head.norm, hidden, 1)
        width = hidden
    if config.num_classes:
        tally.linear("head", width, config.num_classes, 1)


register(OverlapStem, builder="backbones.stems:Overlap", cost=_overlap_stem)
register(PatchifyStem, builder="backbones.stems:Patchify", cost=_patchify_stem)
register(ConvStem, builder="backbones.stems:Convolutional", cost=_conv_stem)
register(DownsampleConfig, builder="backbones.stems:Downsample", cost=_downsample)
register(SSMConfig, builder="backbones.mixers.ssm:SSM", cost=_ssm)
register(GatedConvConfig, builder="backbones.mixers.gated_conv:GatedConv", cost=_gated_conv)
register(
    InvertedResidualConfig,
    builder="backbones.mixers.inverted_residual:InvertedResidual",
    cost=_inverted_residual,
)
