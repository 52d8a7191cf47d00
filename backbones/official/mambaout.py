"""MambaOut. Sources: yuweihao/MambaOut @ 9f2f234; timm's mambaout.py."""

from __future__ import annotations

from backbones.config import BackboneConfig
from backbones.official.names import Names

# timm's files hold the same tensors by other names; `head.norm` is the official `norm` there.
TIMM = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
    (r"^head\.norm\.", "norm."),
    (r"^head\.pre_logits\.fc\.", "head.fc1."),
    (r"^head\.pre_logits\.norm\.", "head.norm."),
    (r"^head\.fc\.", "head.fc2."),
)


def mambaout(config: BackboneConfig) -> Names:
    """Return the names of a MambaOut."""
    names = Names(other=((r"^head\.pre_logits\.", TIMM),))
    for layer in ("conv1", "norm1", "conv2", "norm2"):
        names.same(f"stem.{layer}", f"downsample_layers.0.{layer}")
    for s, stage in enumerate(config.stages):
        if s:
            for layer in ("conv", "norm"):
                names.same(f"stages.{s}.downsample.{layer}", f"downsample_layers.{s}.{layer}")
        for b in range(stage.depth):
            ours, theirs = f"stages.{s}.blocks.{b}", f"stages.{s}.{b}"
            names.same(f"{ours}.norm1", f"{theirs}.norm")
            for layer in ("fc1", "conv", "fc2"):
                names.same(f"{ours}.mixer.{layer}", f"{theirs}.{layer}")
    names.same("head.norm", "norm")
    names.same("head.pre_logits.0", "head.fc1")
    names.same("head.pre_logits.2", "head.norm")
    names.same("head.fc", "head.fc2")
    return names
