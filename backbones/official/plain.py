"""Vim, LocalVim and PlainMamba: one resolution throughout.

Sources: hustvl/Vim @ dd0358a, hunto/LocalMamba @ 75e5d1f, ChenhongyiYang/PlainMamba @ 0975a1d.
"""

from __future__ import annotations

from typing import Any

from backbones.config import BackboneConfig, resolve_blocks
from backbones.errors import ConfigError
from backbones.official.names import BATCH_NORM, WEIGHT_BIAS, Names, of_kind
from backbones.official.vmamba import attention


def _routes(names: Names, ours: str, theirs: str, logs: list[str], endings: list[str]) -> None:
    """Map what each route owns: conv1d, x_proj, dt_proj, A and D, told apart by an ending."""
    for part in WEIGHT_BIAS:
        keys = [f"{theirs}.conv1d{end}.{part}" for end in endings]
        names.one(f"{ours}.conv.{part}", *keys, how="concat")
    tensors = {"x_proj": "x_proj{}.weight", "dt_proj": "dt_proj{}.weight"}
    tensors |= {"dt_bias": "dt_proj{}.bias", "D": "D{}"}
    for mine, template in tensors.items():
        keys = [f"{theirs}.{template.format(end)}" for end in endings]
        names.one(f"{ours}.{mine}", *keys, how="stack")
    names.one(f"{ours}.A_log", *(f"{theirs}.{log}" for log in logs), how="stack")


def _sequence(config: BackboneConfig) -> Names:
    """Return the names that Vim and LocalVim share."""
    names = Names()
    token = config.class_token != "none"
    if config.class_token not in ("none", "middle"):
        raise ConfigError(
            f"class_token {config.class_token} has no released weights; use none or middle"
        )
    names.same("stem.conv", "patch_embed.proj")
    names.one("pos_embed", "pos_embed", how="class_last" if token else "same")
    if token:
        names.one("cls_token", "cls_token")
    for b in range(config.stages[0].depth):
        ours, theirs = f"stages.0.blocks.{b}", f"layers.{b}"
        names.one(f"{ours}.norm1.weight", f"{theirs}.norm.weight")
        for layer in ("in_proj", "out_proj"):
            names.one(f"{ours}.mixer.{layer}.weight", f"{theirs}.mixer.{layer}.weight")
    names.one("head.norm.weight", "norm_f.weight")
    names.same("head.fc", "head")
    return names


def vim(config: BackboneConfig) -> Names:
    """Return the names of a Vim; the backward route's carry `_b`."""
    names = _sequence(config)
    for b in range(config.stages[0].depth):
        mixer = f"layers.{b}.mixer"
        _routes(names, f"stages.0.blocks.{b}.mixer", mixer, ["A_log", "A_b_log"], ["", "_b"])
    return names


def local_vim(config: BackboneConfig) -> Names:
    """Return the names of a LocalVim; the routes' carry their place in the layer's list."""
    names = _sequence(config)
    names.ignored = r"rope\.freqs_(cos|sin)$"  # computed, not learned
    for b, placed in enumerate(resolve_blocks(config)[0]):
        mixer: Any = of_kind({"ssm": placed.block.mixer}, placed.block.mixer, "LocalVim")
        endings = [f"_{k}" for k in range(mixer.order.num_routes)]
        ours, theirs = f"stages.0.blocks.{b}.mixer", f"layers.{b}.mixer"
        _routes(names, ours, theirs, [f"A_log{end}" for end in endings], endings)
        attention(names, f"{ours}.attention", f"{theirs}.attn")
    return names


def plainmamba(config: BackboneConfig) -> Names:
    """Return the names of a PlainMamba; its routes share what others own."""
    # L2 and L3 hold a second set, `ema_*`: their hook saves files while the averaged weights
    # stand in the network and the raw ones in those buffers.
    names, where = Names(ignored=r"^ema_"), "backbone.patch_embed"
    stem: Any = of_kind({"conv": config.stem}, config.stem, "PlainMamba")
    for i in range(stem.convs + 1):
        theirs = f"{where}.stem." if i == 0 else f"{where}.convs."
        first = 0 if i == 0 else 3 * (i - 1)
        names.one(f"stem.convs.{i}.weight", f"{theirs}{first}.weight")
        names.same(f"stem.norms.{i}", f"{theirs}{first + 1}", BATCH_NORM)
    names.same("stem.project", f"{where}.projection")
    names.one("pos_embed", "backbone.pos_embed")
    for b, placed in enumerate(resolve_blocks(config)[0]):
        ours, theirs = f"stages.0.blocks.{b}", f"backbone.layers.{b}"
        names.same(f"{ours}.norm1", f"{theirs}.norm")
        inside, mamba = f"{ours}.mixer", f"{theirs}.mamba"
        for mine, part in (("in_proj", "in_proj"), ("out_proj", "out_proj"), ("conv", "conv2d")):
            names.same(f"{inside}.{mine}", f"{mamba}.{part}")
        shared = {"x_proj": "x_proj.weight", "dt_proj": "dt_proj.weight", "D": "D"}
        for mine, part in {**shared, "dt_bias": "dt_proj.bias", "A_log": "A_log"}.items():
            names.one(f"{inside}.{mine}", f"{mamba}.{part}", how="stack")
        names.one(f"{inside}.move_bias", f"{mamba}.direction_Bs")
        if placed.block.post_conv:
            names.one(f"{ours}.post_conv.conv.weight", f"{theirs}.dw.0.weight")
            names.same(f"{ours}.post_conv.norm", f"{theirs}.dw.1", BATCH_NORM)
    names.same("head.norm", "backbone.ln1")
    names.same("head.fc", "head.fc")
    return names
