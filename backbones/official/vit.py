"""ViT and DeiT. Sources: timm's vision_transformer.py, facebookresearch/deit @ 7e160fe."""

from __future__ import annotations

from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.official.names import Names


def vit(config: BackboneConfig) -> Names:
    """Return the names of a ViT; its class token stands first."""
    if config.class_token != "head":
        raise ConfigError(
            f"class_token {config.class_token} is no ViT's: it has no released weights; use head"
        )
    names = Names()
    names.same("stem.conv", "patch_embed.proj")
    names.one("cls_token", "cls_token")
    names.one("pos_embed", "pos_embed", how="class_first")
    for b in range(config.stages[0].depth):
        ours, theirs = f"stages.0.blocks.{b}", f"blocks.{b}"
        for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            names.same(f"{ours}.{layer}", f"{theirs}.{layer}")
        for layer in ("qkv", "proj"):
            names.same(f"{ours}.mixer.{layer}", f"{theirs}.attn.{layer}")
    names.same("head.norm", "norm")
    names.same("head.fc", "head")
    return names
