"""Random backbones of the whole language, small enough to build and run."""

from __future__ import annotations

from hypothesis import strategies as st

from backbones.config import BackboneConfig
from backbones.registry import DOWNSAMPLES, ORDERS

ROUTES = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w3", "w7", "w7_flip"]
NORMS = st.sampled_from(["layernorm", "rmsnorm", {"kind": "layernorm", "eps": 1e-6}])
WINDOWS = st.lists(st.sampled_from(ROUTES), min_size=1, max_size=4, unique=True)


def orders(plain: bool = False) -> st.SearchStrategy:
    """Any scan order; plain ones visit fixed routes over all tokens."""
    fixed = st.sampled_from(
        [kind for kind in ORDERS.places if kind != "routes" and ORDERS.read(kind).fixed]
    )
    window = st.builds(lambda r: {"kind": "window", "routes": r}, WINDOWS)
    window |= st.builds(
        lambda r: {"kind": "routes", "routes": [*r, f"t_{r[0]}", "random:1"]}, WINDOWS
    )
    if plain:
        return fixed | window
    quadtree = st.builds(
        lambda levels, refine, context: {
            "kind": "quadtree",
            "levels": levels,
            "refine": refine,
            "context": context,
        },
        st.sampled_from([[2, 4], [1, 3], [2, 4, 8], [3, 6], [2, 6]]),
        st.just(1),
        st.sampled_from(["local", "half_global"]),
    )
    refined = quadtree.map(lambda q: {**q, "refine": 2} if q["levels"][0] > 1 else q)
    official = st.builds(
        lambda c: {"kind": "quadtree_official", "context": c},
        st.sampled_from(["local", "half_global"]),
    )
    return fixed | window | quadtree | refined | official | st.just("atrous")


@st.composite
def ssms(draw: st.DrawFn, class_token: bool = False) -> dict:
    """A selective-scan mixer."""
    causal = class_token or draw(st.booleans())
    order = draw(orders(plain=causal))
    kind = order if isinstance(order, str) else order["kind"]
    merges = ["sum", "mean"]
    if kind not in ("atrous", "quadtree_official"):
        merges.append("attention")
    conv = {"kind": "2d", "kernel": draw(st.sampled_from([1, 3, 5])), "bias": draw(st.booleans())}
    if causal:
        conv = {"kind": "causal", "kernel": draw(st.integers(1, 4)), "bias": draw(st.booleans())}
    mixer = {
        "kind": "ssm",
        "order": order,
        "d_state": draw(st.integers(1, 4)),
        "expand": draw(st.sampled_from([1.0, 1.5, 2.0])),
        "dt_rank": draw(st.sampled_from(["auto", 1, 3])),
        "conv": draw(st.sampled_from([None, conv])),
        "gate": draw(st.sampled_from(["none", "output", "scan"])),
        "merge": draw(st.sampled_from(merges)),
        "out_norm": draw(st.none() | NORMS),
        "shared": draw(st.booleans()),
        "proj_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(["silu", "gelu", "relu"])),
        "init": draw(st.sampled_from(["mamba", "linear", "random", "zero"])),
        "double_dt_bias": draw(st.booleans()),
    }
    if not causal and kind != "atrous" and mixer["merge"] == "sum":
        mixer["split"] = draw(st.booleans())
        if mixer["split"]:  # widths of the strategies are multiples of 4, routes up to 6
            routes = ORDERS.read(order).num_routes
            mixer["split"] = routes in (1, 2, 4) and mixer["expand"] != 1.5
    if kind == "cross" and not class_token and not mixer.get("split"):
        mixer["cascade"] = not causal and mixer["merge"] != "attention" and draw(st.booleans())
    mixer["scan"] = causal or draw(st.integers(0, 4)) > 0
    if kind == "snake":
        mixer["raster_steps"] = draw(st.booleans())
        mixer["direction_bias"] = draw(st.booleans()) and not class_token
    if kind != "atrous" and not mixer.get("cascade") and draw(st.booleans()):
        mixer["shift"] = {
            "direction": draw(st.sampled_from(["omni", "down_right", "up_left"])),
            "fraction": draw(st.sampled_from([2, 4, 8])),
            "blocks": draw(st.sampled_from(["odd", "all"])),
        }
    return mixer


@st.composite
def blocks(draw: st.DrawFn, class_token: bool = False) -> dict:
    """A block of any mixer."""
    kinds = ["ssm", "attention", "identity"]
    kinds += [] if class_token else ["ssm", "gated", "inverted", "conv"]
    kind = draw(st.sampled_from(kinds))
    if kind == "ssm":
        mixer = draw(ssms(class_token))
    elif kind == "gated":
        mixer = {
            "kind": "gated_conv",
            "expand": draw(st.sampled_from([1.5, 8 / 3])),
            "conv_ratio": draw(st.sampled_from([0.5, 1.0])),
            "kernel": draw(st.sampled_from([3, 7])),
        }
    elif kind == "attention":
        window = None if class_token else draw(st.sampled_from([None, 1, 3, 4]))
        mixer = {"kind": "attention", "head_dim": draw(st.sampled_from([2, 4])), "window": window}
        if window is not None:
            mixer["position"] = draw(st.sampled_from(["none", "relative"]))
    elif kind == "inverted":
        mixer = {"kind": "inverted_residual", "expand": 2.0, "se_ratio": 0.25}
    else:
        mixer = {"kind": kind}
    return {
        "norm": draw(st.none() | NORMS),
        "mixer": mixer,
        "ffn": draw(st.none() | st.just({"ratio": 1.5})),
        "beside": None if class_token else draw(st.sampled_from([None, "local_conv"])),
        "post_conv": not class_token and draw(st.integers(0, 4)) == 0,
        "conv_position": not class_token and draw(st.integers(0, 3)) == 0,
        "norm_at": draw(st.sampled_from(["input", "output"])),
        "layer_scale": draw(st.sampled_from([None, 1e-2])),
    }


@st.composite
def backbones(draw: st.DrawFn) -> BackboneConfig:
    """A whole backbone, plain or hierarchical."""
    plain = draw(st.booleans())
    token = plain and draw(st.booleans())
    letters = draw(st.sampled_from(["a", "ab"]))
    stems = [
        {"kind": "overlap", "stride": draw(st.sampled_from([1, 2, 4])), "norm": draw(NORMS)},
        {"kind": "patchify", "patch": 4, "norm": draw(st.none() | NORMS)},
        {"kind": "patchify", "patch": 4, "stride": 3},
        {"kind": "conv", "patch": 4, "convs": draw(st.integers(1, 2)), "hidden": 6},
    ]
    widths = st.sampled_from([8, 12, 20])
    stages = []
    for i in range(1 if plain else draw(st.integers(2, 3))):
        pattern = "".join(draw(st.lists(st.sampled_from(letters), min_size=1, max_size=3)))
        stage = {"width": draw(widths), "depth": draw(st.integers(1, 3)), "pattern": pattern}
        if i:
            kinds = st.sampled_from(list(DOWNSAMPLES.places))
            stage["downsample"] = {"kind": draw(kinds), "norm": draw(NORMS)}
        stages.append(stage)
    return BackboneConfig.model_validate(
        {
            "schema": 1,
            "stem": draw(st.sampled_from(stems)),
            "blocks": {letter: draw(blocks(token)) for letter in letters},
            "stages": stages,
            "head": {
                "pool": draw(st.sampled_from(["mean", "max", *["token"] * token])),
                "norm": draw(NORMS),
                "norm_first": draw(st.booleans()),
                "mlp_ratio": draw(st.sampled_from([None, 2.0])),
            },
            "position": draw(st.sampled_from(["none", "learned"])),
            "rope": plain and draw(st.booleans()),
            "class_token": draw(st.sampled_from(["middle", "head", "double"])) if token else "none",
            "image_size": draw(st.sampled_from([16, 24])),
            "in_chans": draw(st.sampled_from([1, 3])),
            "num_classes": draw(st.sampled_from([0, 5])),
        }
    )


# Three stages of squares of 2, behind patches of 4, need 16 pixels for a token.
IMAGE_SIZES = st.tuples(st.integers(16, 33), st.integers(16, 33))
