"""Tiny variants of every preset, mixer and scan order, for tests that run each of them."""

from __future__ import annotations

from backbones import list_presets, load_config, registry
from backbones.config import BackboneConfig

TINY_WIDTH = 16
TINY_SIZE = 32


def shrink(config: BackboneConfig) -> BackboneConfig:
    """Return a preset's design at a sixteenth of its width and two blocks a stage, 5 classes."""
    data = config.to_dict()
    for i, stage in enumerate(data["stages"]):
        stage["width"] = TINY_WIDTH * (1 + i)
        letters = config.stages[i].letters
        depth = 2
        stage["pattern"] = letters[:depth] if len(letters) >= depth else letters
        stage["depth"] = depth
        if stage.get("routes"):
            stage["routes"] = stage["routes"][-depth:]
    for block in data["blocks"].values():
        if "head_dim" in block.get("mixer", {}):
            block["mixer"]["head_dim"] = 8
    stem = data.get("stem", {})
    if config.stem.kind == "patchify":
        stem["patch"] = 4
    if config.stem.kind == "conv":
        stem.update(patch=4, hidden=8)
    data.update(num_classes=5, image_size=TINY_SIZE, drop_path_rate=0.0)
    return BackboneConfig.model_validate(data)


def with_mixer(mixer: dict, **block: object) -> BackboneConfig:
    """Return two stages of two blocks of one mixer."""
    return BackboneConfig.model_validate(
        {
            "schema": 1,
            "stem": {"kind": "overlap", "stride": 2},
            "blocks": {"a": {"mixer": mixer, "ffn": {"ratio": 2.0}, **block}},
            "stages": [
                {"width": 16, "depth": 2, "pattern": "a"},
                {"width": 24, "depth": 2, "pattern": "a", "downsample": "patch_merging"},
            ],
            "num_classes": 5,
            "image_size": TINY_SIZE,
        }
    )


SHIFT = {"direction": "omni", "fraction": 4, "blocks": "all"}

MIXERS: dict[str, dict] = {
    "raster": {"kind": "ssm", "order": "raster"},
    "bidirectional": {"kind": "ssm", "order": "bidirectional", "merge": "mean", "gate": "scan"},
    "cross_shifted": {"kind": "ssm", "order": "cross", "shift": SHIFT, "gate": "output"},
    "snake": {"kind": "ssm", "order": "snake", "direction_bias": True, "shared": True},
    "snake_raster_steps": {
        "kind": "ssm",
        "order": "snake",
        "direction_bias": True,
        "raster_steps": True,
        "double_dt_bias": True,
        "shift": SHIFT,
    },
    "hilbert": {"kind": "ssm", "order": "hilbert", "d_state": 3, "shift": "omni"},
    "zorder": {"kind": "ssm", "order": "zorder", "conv": None, "dt_rank": 3},
    "window": {
        "kind": "ssm",
        "order": {"kind": "window", "routes": ["h", "w3_flip", "w7", "v_flip"]},
        "merge": "attention",
        "shift": SHIFT,
    },
    "routes": {
        "kind": "ssm",
        "order": {"kind": "routes", "routes": ["h", "h", "t_diag_flip", "random:5", "t_w3"]},
        "merge": "mean",
        "shift": SHIFT,
    },
    "window_causal": {
        "kind": "ssm",
        "order": {"kind": "window", "routes": ["v", "w3", "w7_flip"]},
        "conv": {"kind": "causal", "kernel": 4, "bias": True},
        "gate": "scan",
        "merge": "attention",
        "init": "linear",
    },
    "causal_shared": {
        "kind": "ssm",
        "order": "cross",
        "conv": "causal",
        "shared": True,
        "proj_bias": True,
    },
    "cross_split": {
        "kind": "ssm",
        "order": "cross",
        "split": True,
        "gate": "scan",
        "activation": "gelu",
        "init": "random",
        "shift": SHIFT,
    },
    "cascade": {"kind": "ssm", "order": "cross", "cascade": True, "gate": "scan"},
    "cascade_shared": {
        "kind": "ssm",
        "order": "cross",
        "cascade": True,
        "shared": True,
        "merge": "mean",
        "conv": None,
        "gate": "output",
    },
    "quadtree_official_split": {
        "kind": "ssm",
        "order": "quadtree_official",
        "split": True,
        "shared": True,
        "init": "zero",
    },
    "atrous": {"kind": "ssm", "order": "atrous", "gate": "scan"},
    "quadtree": {"kind": "ssm", "order": "quadtree", "shift": SHIFT},
    "quadtree_deep": {
        "kind": "ssm",
        "order": {"kind": "quadtree", "levels": [2, 4, 8], "refine": 2, "context": "local"},
        "merge": "attention",
    },
    "quadtree_thirds": {
        "kind": "ssm",
        "order": {"kind": "quadtree", "levels": [3, 6, 12], "refine": 4},
        "gate": "scan",
        "shift": {"direction": "up_left", "fraction": 2},
    },
    "quadtree_official": {
        "kind": "ssm",
        "order": {"kind": "quadtree_official", "context": "half_global"},
        "shift": SHIFT,
    },
    "gated_conv": {"kind": "gated_conv", "conv_ratio": 0.5},
    "attention": {"kind": "attention", "head_dim": 8},
    "attention_in_windows": {"kind": "attention", "head_dim": 4, "window": 5},
    "inverted_residual": {"kind": "inverted_residual"},
}


def models() -> dict[str, BackboneConfig]:
    """Return all tiny variants by a readable id."""
    designs = {}  # sizes of a family shrink to the same design: one of them stands for all
    for name in list_presets():
        config = shrink(load_config(name))
        designs.setdefault(config.fingerprint(), (f"preset:{name}", config))
    out = dict(designs.values())
    out |= {f"mixer:{name}": with_mixer(mixer) for name, mixer in MIXERS.items()}
    gated = {"kind": "gated_conv"}
    out["block:local_branch"] = with_mixer(gated, local_branch=True)
    out["block:beside"] = with_mixer({"kind": "ssm"}, beside={"kind": "gated_conv", "kernel": 3})
    # Whatever is registered is built, run and counted, as it stands by default.
    named = {part["kind"] for part in MIXERS.values()}
    named |= {
        part["order"] if isinstance(part["order"], str) else part["order"]["kind"]
        for part in MIXERS.values()
        if "order" in part
    }
    others = {kind: {"kind": kind} for kind in registry.MIXERS.places}
    others |= {kind: {"kind": "ssm", "order": kind} for kind in registry.ORDERS.places}
    unnamed = sorted(others.keys() - named)
    out |= {f"registered:{kind}": with_mixer(others[kind]) for kind in unnamed}
    out["block:post_conv"] = with_mixer(gated, post_conv=True)
    for place in ("head", "double"):
        tokens = shrink(load_config("vim_tiny")).to_dict() | {"class_token": place}
        out[f"readout:{place}"] = BackboneConfig.model_validate(tokens)
    pooled = with_mixer({"kind": "ssm"}).to_dict() | {"head": {"pool": "max"}}
    out["readout:max"] = BackboneConfig.model_validate(pooled)
    out["block:conv_position"] = with_mixer({"kind": "ssm"}, conv_position=True, layer_scale=0.5)
    out["block:norm_at"] = with_mixer(gated, norm_at="output", beside="local_conv", layer_scale=0.1)
    return out
