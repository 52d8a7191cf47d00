"""Identity of an architecture: one canonical form, one hash.

Two configs that describe the same function hash alike: patterns are tiled out, names dropped,
ratios become channel counts, spellings of one scan order become one list of routes, the order
of summed routes is forgotten and fields without effect are left out. The drop-path rate and the
reference image size of a network without positional table do not change the function either.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from backbones.config import (
    BackboneConfig,
    BlockConfig,
    FixedOrder,
    GatedConvConfig,
    InvertedResidualConfig,
    PlacedBlock,
    SSMConfig,
    WindowOrder,
    resolve_blocks,
    route_key,
)

CANONICAL_VERSION = 1

_AS_ROUTES = {
    "raster": ("h",),
    "bidirectional": ("h", "h_flip"),
    "cross": ("h", "h_flip", "v", "v_flip"),
}


def fingerprint(config: BackboneConfig) -> str:
    """Return the SHA-256 (hex) of the canonical form of `config`."""
    text = json.dumps(canonical_form(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_form(config: BackboneConfig) -> dict[str, Any]:
    """Return plain data that is equal for configs of the same function."""
    stages = []
    for stage, placed in zip(config.stages, resolve_blocks(config)):
        down = stage.downsample
        stages.append(
            {
                "width": stage.width,
                "downsample": None if down is None else down.model_dump(mode="json"),
                "blocks": [_block(b, config.class_token != "none") for b in placed],
            }
        )
    head = config.head.model_dump(mode="json")
    if head["mlp_ratio"] is not None:
        head["mlp_hidden"] = config.head.hidden(config.stages[-1].width)
    del head["mlp_ratio"]
    if head["pool"] == "token":  # the norm of one token is the same before or after picking it
        del head["norm_first"]
    stem = config.stem.model_dump(mode="json")
    if stem["kind"] == "patchify":
        stem["stride"] = config.stem.step  # type: ignore[union-attr]
    table = config.position == "learned" or config.rope
    return {
        "version": CANONICAL_VERSION,
        "stem": stem,
        "stages": stages,
        "head": head,
        "position": config.position,
        "rope": config.rope,
        "class_token": config.class_token,
        "table_side": config.image_size if table else None,
        "in_chans": config.in_chans,
        "num_classes": config.num_classes,
    }


def _block(placed: PlacedBlock, class_token: bool) -> dict[str, Any]:
    block: BlockConfig = placed.block
    ffn = block.ffn
    return {
        "norm": None if block.norm is None else block.norm.model_dump(mode="json"),
        "mixer": _mixer(placed, class_token),
        "ffn": None if ffn is None else ffn.hidden(placed.width),
        "local_branch": block.local_branch,
        "post_conv": block.post_conv,
    }


def _mixer(placed: PlacedBlock, class_token: bool) -> dict[str, Any]:
    mixer, width = placed.block.mixer, placed.width
    if isinstance(mixer, GatedConvConfig):
        return {
            "kind": mixer.kind,
            "hidden": mixer.hidden(width),
            "convolved": mixer.convolved(width),
            "kernel": mixer.kernel,
        }
    if isinstance(mixer, InvertedResidualConfig):
        return {
            "kind": mixer.kind,
            "hidden": mixer.hidden(width),
            "squeezed": mixer.squeezed(width),
        }
    gate = mixer.gate
    if gate == "scan" and mixer.merge != "attention" and mixer.out_norm is None:
        gate = "output"  # gating each summand or the sum is the same
    merge = mixer.merge
    if merge == "mean" and (mixer.order.num_routes == 1 or mixer.order.kind == "atrous"):
        merge = "sum"  # nothing to average: one route, or routes over parts of the map
    return {
        "kind": mixer.kind,
        "order": _order(mixer, class_token),
        "d_state": mixer.d_state,
        "inner": mixer.inner(width),
        "rank": mixer.rank(width),
        "conv": None if mixer.conv is None else mixer.conv.model_dump(mode="json"),
        "gate": gate,
        "merge": merge,
        "out_norm": None if mixer.out_norm is None else mixer.out_norm.model_dump(mode="json"),
        "shared": mixer.shared and mixer.order.num_routes > 1,
        "proj_bias": mixer.proj_bias,
        "shift": placed.shift and [*placed.shift, mixer.shift.fraction],  # type: ignore[union-attr]
        "direction_bias": mixer.direction_bias,
        "raster_steps": mixer.raster_steps,
        "double_dt_bias": mixer.double_dt_bias,
    }


def _order(mixer: SSMConfig, class_token: bool) -> Any:
    order = mixer.order
    # A class token stays in the middle of a flipped window route, but not of a reversed order.
    if isinstance(order, FixedOrder) and order.kind in _AS_ROUTES and not class_token:
        return list(_AS_ROUTES[order.kind])
    if isinstance(order, WindowOrder):
        # Every merge is commutative and routes own their parameters: a set, not a list.
        return sorted(order.routes, key=route_key)
    return order.model_dump(mode="json")
