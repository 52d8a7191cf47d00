"""VMamba and the families grown from its code: QuadMamba, LocalVMamba, EfficientVMamba.

Sources: MzeroMiko/VMamba @ 2ed52ea, VISION-SJTU/QuadMamba @ 720ecc3, hunto/LocalMamba @ 75e5d1f,
TerryPei/EfficientVMamba @ 0bc5ee2.
"""

from __future__ import annotations

from backbones.config import (
    BackboneConfig,
    BlockConfig,
    ConvConfig,
    GatedConvConfig,
    InvertedResidualConfig,
    QuadtreeOfficialOrder,
    SSMConfig,
    resolve_blocks,
)
from backbones.official.names import BATCH_NORM, Names

# The first releases of VMamba named things as Swin does.
RENAMED = (
    (r"^patch_embed\.proj\.", "patch_embed.0."),
    (r"^patch_embed\.norm\.", "patch_embed.2."),
    (r"^(layers\.\d+\.blocks\.\d+)\.ln_1\.", r"\1.norm."),
    (r"^(layers\.\d+\.blocks\.\d+)\.self_attention\.", r"\1.op."),
    (r"^norm\.", "classifier.norm."),
    (r"^head\.", "classifier.head."),
)


def vmamba(config: BackboneConfig) -> Names:
    """Return the names of a hierarchical network of VMamba's lineage."""
    names = Names(renamed=RENAMED)
    if config.stem.kind == "overlap":
        for ours, theirs in (("conv1", 0), ("norm1", 2), ("conv2", 5), ("norm2", 7)):
            names.same(f"stem.{ours}", f"patch_embed.{theirs}")
    else:
        names.same("stem.conv", "patch_embed.0")
        names.same("stem.norm", "patch_embed.2")
    for s, blocks in enumerate(resolve_blocks(config)):
        # EfficientVMamba's convolutional stages are one Sequential behind a permutation.
        sequential = isinstance(blocks[0].block.mixer, InvertedResidualConfig)
        for b, placed in enumerate(blocks):
            ours = f"stages.{s}.blocks.{b}"
            if sequential:
                _inverted_residual(names, f"{ours}.mixer", f"layers.{s}.{b + 1}")
            else:
                _block(names, placed.block, ours, f"layers.{s}.blocks.{b}")
        if s + 1 < len(config.stages):
            place = f"layers.{s}.{len(blocks) + 2}" if sequential else f"layers.{s}.downsample"
            _downsample(names, config, s + 1, place)
    names.same("head.norm", "classifier.norm")
    names.same("head.fc", "classifier.head")
    return names


def _downsample(names: Names, config: BackboneConfig, stage: int, theirs: str) -> None:
    ours, down = f"stages.{stage}.downsample", config.stages[stage].downsample
    assert down is not None
    if down.kind == "patch_merging":
        names.same(f"{ours}.norm", f"{theirs}.norm")
        names.one(f"{ours}.reduction.weight", f"{theirs}.reduction.weight")
    else:
        names.same(f"{ours}.conv", f"{theirs}.1")
        names.same(f"{ours}.norm", f"{theirs}.3")


def _block(names: Names, block: BlockConfig, ours: str, theirs: str) -> None:
    mixer = block.mixer
    assert isinstance(mixer, SSMConfig) and not isinstance(mixer, GatedConvConfig)
    names.same(f"{ours}.norm1", f"{theirs}.norm")
    op, inside = f"{theirs}.op", f"{ours}.mixer"
    names.one(f"{inside}.x_proj", f"{op}.x_proj_weight")
    names.one(f"{inside}.dt_proj", f"{op}.dt_projs_weight")
    names.one(f"{inside}.dt_bias", f"{op}.dt_projs_bias")
    names.one(f"{inside}.A_log", f"{op}.A_logs", how="routes")
    names.one(f"{inside}.D", f"{op}.Ds", how="routes")
    names.one(f"{inside}.in_proj.weight", f"{op}.in_proj.weight")
    names.one(f"{inside}.out_proj.weight", f"{op}.out_proj.weight")
    names.same(f"{inside}.out_norm", f"{op}.out_norm")
    assert isinstance(mixer.conv, ConvConfig)
    names.same(f"{inside}.conv", f"{op}.conv2d", ("weight", "bias")[: 1 + mixer.conv.bias])
    if isinstance(mixer.order, QuadtreeOfficialOrder):
        predictor = f"{op}.score_predictor"
        parts = ("in_conv.0", "in_conv.1", "out_conv.0", "out_conv.2", "out_conv.4")
        for layer, part in zip(("norm", "fc1", "fc2", "fc3", "fc4"), parts):
            names.same(f"{inside}.quadtree.predictor.{layer}", f"{predictor}.{part}")
    if mixer.merge == "attention":
        attention(names, f"{inside}.attention", f"{op}.multi_scan.attn")
    if block.local_branch:
        branch = f"{ours}.local_branch"
        names.same(f"{branch}.conv", f"{theirs}.conv_branch.0")
        names.same(f"{branch}.norm", f"{theirs}.conv_branch.1", BATCH_NORM)
        names.same(f"{branch}.project", f"{theirs}.conv_branch.3")
        attention(names, f"{branch}.attention", f"{theirs}.se")
    if block.ffn is not None:
        names.same(f"{ours}.norm2", f"{theirs}.norm2")
        for layer in ("fc1", "fc2"):
            names.same(f"{ours}.mlp.{layer}", f"{theirs}.mlp.{layer}")


def attention(names: Names, ours: str, theirs: str) -> None:
    """Map a channel attention."""
    parts = (("norm", "norm"), ("reduce", "global_reduce"), ("select", "channel_select"))
    for mine, part in parts:
        names.same(f"{ours}.{mine}", f"{theirs}.{part}")


def _inverted_residual(names: Names, ours: str, theirs: str) -> None:
    convs = (("expand", "conv_pw"), ("conv", "conv_dw"), ("project", "conv_pw2"))
    for i, (mine, part) in enumerate(convs, start=1):
        names.one(f"{ours}.{mine}.weight", f"{theirs}.{part}.0.weight")
        names.same(f"{ours}.norm{i}", f"{theirs}.{part}.1", BATCH_NORM)
    names.same(f"{ours}.reduce", f"{theirs}.se.conv_reduce")
    names.same(f"{ours}.excite", f"{theirs}.se.conv_expand")
