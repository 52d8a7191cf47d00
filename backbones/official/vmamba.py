"""VMamba and the families grown from its code: QuadMamba, LocalVMamba, EfficientVMamba.

Sources: MzeroMiko/VMamba @ 2ed52ea, VISION-SJTU/QuadMamba @ 720ecc3, hunto/LocalMamba @ 75e5d1f,
TerryPei/EfficientVMamba @ 0bc5ee2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backbones.config import BackboneConfig, resolve_blocks
from backbones.official.names import BATCH_NORM, Names, of_kind
from backbones.parts import BlockConfig

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
    names = Names(other=((r"self_attention|^patch_embed\.proj|^head\.", RENAMED),))
    for ours, theirs in of_kind(STEMS, config.stem, "VMamba's lineage"):
        names.same(f"stem.{ours}", f"patch_embed.{theirs}")
    for s, blocks in enumerate(resolve_blocks(config)):
        map_block, prefix, extra = of_kind(STAGES, blocks[0].block.mixer, "VMamba's lineage")
        for b, placed in enumerate(blocks):
            ours = f"stages.{s}.blocks.{b}"
            map_block(names, placed.block, ours, f"layers.{s}.{prefix}{b + extra}")
        if s + 1 < len(config.stages):
            place = f"layers.{s}.{len(blocks) + 2}" if extra else f"layers.{s}.downsample"
            down = config.stages[s + 1].downsample
            for ours, theirs, parts in of_kind(DOWNSAMPLES, down, "VMamba's lineage"):
                names.same(f"stages.{s + 1}.downsample.{ours}", f"{place}.{theirs}", parts)
    names.same("head.norm", "classifier.norm")
    names.same("head.fc", "classifier.head")
    return names


def vmamba_dense(config: BackboneConfig) -> Names:
    """Return the names in released detectors and segmenters: norms of the maps, no classifier.

    Source: `Backbone_VSSM` of VMamba, which QuadMamba's and LocalMamba's downstream code copies.
    """
    names = vmamba(config)
    names.sources = {k: v for k, v in names.sources.items() if not k.startswith("head.")}
    for i in range(len(config.stages)):
        names.same(f"stage_norms.{i}", f"outnorm{i}")
    return names


def _block(names: Names, block: BlockConfig, ours: str, theirs: str) -> None:
    mixer: Any = block.mixer
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
    if mixer.conv is not None:
        names.same(f"{inside}.conv", f"{op}.conv2d", ("weight", "bias")[: 1 + mixer.conv.bias])
    if mixer.order.learned:
        predictor = f"{op}.score_predictor"
        parts = ("in_conv.0", "in_conv.1", "out_conv.0", "out_conv.2", "out_conv.4")
        for layer, part in zip(("norm", "fc1", "fc2", "fc3", "fc4"), parts):
            names.same(f"{inside}.layout.predictor.{layer}", f"{predictor}.{part}")
    if mixer.merge == "attention":
        attention(names, f"{inside}.attention", f"{op}.multi_scan.attn")
    if block.beside is not None:
        branch = f"{ours}.beside.mixer"
        names.same(f"{branch}.conv", f"{theirs}.conv_branch.0")
        names.same(f"{branch}.norm", f"{theirs}.conv_branch.1", BATCH_NORM)
        names.same(f"{branch}.project", f"{theirs}.conv_branch.3")
        attention(names, f"{ours}.beside.attention", f"{theirs}.se")
    if block.ffn is not None:
        names.same(f"{ours}.norm2", f"{theirs}.norm2")
        for layer in ("fc1", "fc2"):
            names.same(f"{ours}.mlp.{layer}", f"{theirs}.mlp.{layer}")


def attention(names: Names, ours: str, theirs: str) -> None:
    """Map a channel attention."""
    parts = (("norm", "norm"), ("reduce", "global_reduce"), ("select", "channel_select"))
    for mine, part in parts:
        names.same(f"{ours}.{mine}", f"{theirs}.{part}")


def _inverted_residual(names: Names, block: BlockConfig, ours: str, theirs: str) -> None:
    ours = f"{ours}.mixer"
    convs = (("expand", "conv_pw"), ("conv", "conv_dw"), ("project", "conv_pw2"))
    for i, (mine, part) in enumerate(convs, start=1):
        names.one(f"{ours}.{mine}.weight", f"{theirs}.{part}.0.weight")
        names.same(f"{ours}.norm{i}", f"{theirs}.{part}.1", BATCH_NORM)
    names.same(f"{ours}.reduce", f"{theirs}.se.conv_reduce")
    names.same(f"{ours}.excite", f"{theirs}.se.conv_expand")


BOTH = ("weight", "bias")
STEMS: dict[str, tuple[tuple[str, int], ...]] = {
    "overlap": (("conv1", 0), ("norm1", 2), ("conv2", 5), ("norm2", 7)),
    "patchify": (("conv", 0), ("norm", 2)),
}
DOWNSAMPLES: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "conv3x3": (("conv", "1", BOTH), ("norm", "3", BOTH)),
    "conv2x2": (("conv", "1", BOTH), ("norm", "3", BOTH)),
    "patch_merging": (("norm", "norm", BOTH), ("reduction", "reduction", ("weight",))),
}
# How a stage's blocks are mapped, where they stand, and how many things stand before the first:
# EfficientVMamba's convolutional stages are one Sequential behind a permutation.
STAGES: dict[str, tuple[Callable[[Names, BlockConfig, str, str], None], str, int]] = {
    "ssm": (_block, "blocks.", 0),
    "inverted_residual": (_inverted_residual, "", 1),
}
