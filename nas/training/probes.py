"""Small networks that show what a scan order or a mixer can carry, trained as they are.

One stage of blocks without local convolution, positions or FFN, so that the mixer alone carries
what a token has to know of others. What is measured is capability on a task, and says nothing of
the accuracy of a large network.
"""

from __future__ import annotations

from typing import Any, Literal

from backbones.config import BackboneConfig
from backbones.orders.base import CurveOrder, ScanOrder
from nas.study.recipe import Recipe

ProbeTask = Literal["relations", "reconstruct"]
TASKS: tuple[ProbeTask, ...] = ("relations", "reconstruct")
ROUTES = 4  # of every order whose routes have names: equally many parameters
GRID = 16  # tokens a side
_STRIDE = 4
_BATCH = 32
# Depth, width and updates with which each task is learned in half a minute on two cores.
_SIZES: dict[ProbeTask, tuple[int, int, int]] = {
    "relations": (2, 48, 200),
    "reconstruct": (4, 40, 250),
}
# What every probe is compared with. The first is left out of nothing but knowledge of others.
NO_MIXING = "no mixing"
CONTROLS: dict[str, dict[str, Any]] = {
    NO_MIXING: {"kind": "identity"},
    "one route, repeated": {"kind": "routes", "routes": ["h"] * ROUTES},
    "random routes": {"kind": "routes", "routes": [f"random:{n}" for n in range(1, ROUTES + 1)]},
    "convolution 7 x 7": {"kind": "gated_conv", "kernel": 7},
}


def equal_routes(order: ScanOrder) -> ScanOrder:
    """Return the order with four routes: fewer ones repeated, a curve along both axes and back.

    An order whose routes depend on the image, or have no names, is returned as it is.
    """
    from backbones.orders.routes import RoutesOrder

    if isinstance(order, CurveOrder):
        curve = order.kind
        names = (curve, f"{curve}_flip", f"t_{curve}", f"t_{curve}_flip")
    else:
        names = tuple(getattr(order, "routes", ()))
    if not names or ROUTES % len(names):
        return order
    return RoutesOrder(routes=names * (ROUTES // len(names)))


def ssm(order: Any, conv: int | None = None) -> dict[str, Any]:
    """Return the mixer that scans in an order. conv: kernel of a local convolution before it."""
    local = None if conv is None else {"kernel": conv}
    return {"kind": "ssm", "order": order, "d_state": 4, "conv": local}


def network(task: ProbeTask, mixer: dict[str, Any]) -> BackboneConfig:
    """Return the single-stage network of a mixer."""
    depth, width, _ = _SIZES[task]
    stage = {"depth": depth, "width": width, "pattern": "m"}
    return BackboneConfig.model_validate(
        {
            "schema": 1,
            "stem": {"kind": "patchify", "patch": _STRIDE},
            "blocks": {"m": {"mixer": mixer}},
            "stages": [stage],
            "image_size": GRID * _STRIDE,
            "num_classes": 0,
        }
    )


def recipe(task: ProbeTask, *, updates: int | None = None, threads: int = 2) -> Recipe:
    """Return how a task is learned: one pass over fresh images, 32 an update."""
    return Recipe(
        task="dense" if task == "relations" else task,
        image_size=GRID * _STRIDE,
        stem_stride=_STRIDE,
        flops_ratio=None,
        train_size=_BATCH * (updates or _SIZES[task][2]),
        val_size=1000,
        epochs=1,
        batch_size=_BATCH,
        threads=threads,
    )
