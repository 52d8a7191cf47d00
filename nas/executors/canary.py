"""A small known design, trained for a few updates: does this place train anything at all?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas.study.attempts import Attempt
from nas.study.outcomes import Stop

# A convolution, and a scan for the backends: what every design of the shipped spaces is made of.
_DESIGN = {
    "schema": 1,
    "stem": {"kind": "overlap", "norm": "layernorm"},
    "blocks": {
        "g": {"mixer": {"kind": "gated_conv", "expand": 2.0, "kernel": 3}},
        "s": {"mixer": {"kind": "ssm", "order": "raster", "d_state": 1, "expand": 1.0}},
    },
    "stages": [
        {"width": 16, "depth": 1, "pattern": "g"},
        {"width": 32, "depth": 1, "pattern": "s", "downsample": "conv3x3"},
    ],
}
_UPDATES = 3


def trouble_with_canary(
    attempt: Attempt, train: Callable[[Attempt, Callable[[], bool]], object]
) -> str | None:
    """Return of what a known design fails in the place of `attempt`; None where it trains.

    train: trains an attempt until it is asked to stop.
    """
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > _UPDATES

    try:
        train(replace(attempt, config=_DESIGN, checkpoint=None), should_stop)
    except Stop:
        return None
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return None
