"""Reference outputs of the official implementations, and the weights that they were made with.

Each file in tests/golden holds the official state dict's keys and shapes, and what the official
code gave for weights and an image drawn from counter-based generators, so that neither need be
stored.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

FILES = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in FILES.glob("*.json"))
# These files scale stacked (K, out, in) tensors by all axes but the first, the others by the last.
STACKED_BY_ALL = ("vmamba", "quadmamba")


@cache
def golden(name: str) -> dict[str, Any]:
    """Return a file's content."""
    return json.loads((FILES / f"{name}.json").read_text())


def _normal(key: int, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)


def image(height: int, width: int) -> torch.Tensor:
    """Return the input image of every file. Shapes: (1, 3, height, width)."""
    return torch.from_numpy(_normal(0, (1, 3, height, width)))


def fill(key: str, shape: tuple[int, ...], stacked_by_all: bool) -> np.ndarray:
    """Return the weight of a key; the first rule that fits wins."""
    x, tenth = _normal(zlib.crc32(key.encode()), shape), np.float32(0.1)
    if re.search(r"(A_logs|A_log|A_b_log|A_log_[0-9]+)$", key):
        return np.log(np.arange(1, shape[-1] + 1, dtype=np.float32)) + tenth * x
    if key.endswith("mamba.dt_proj.bias"):
        return -2 + np.float32(0.25) * x
    if "dt_projs_bias" in key or re.search(r"dt_proj(_b|_[0-9]+)?\.bias$", key):
        return -4 + np.float32(0.5) * x
    if re.search(r"(Ds|\.D|\.D_b|\.D_[0-9]+)$", key):
        return 1 + tenth * x
    if key.endswith("running_var"):
        return 1 + tenth * np.abs(x)
    if key.endswith(("x_proj_weight", "dt_projs_weight")) and not stacked_by_all:
        return x / np.float32(math.sqrt(shape[-1]))
    if len(shape) >= 2:
        return x / np.float32(math.sqrt(math.prod(shape[1:])))
    return 1 + tenth * x if key.endswith("weight") else tenth * x


@lru_cache(maxsize=1)
def weights(name: str) -> dict[str, torch.Tensor]:
    """Return the official state dict of a file."""
    by_all, out = name.startswith(STACKED_BY_ALL), {}
    for key, shape, dtype in golden(name)["keys"]:
        if dtype.startswith("int") or key.endswith(("freqs_cos", "freqs_sin")):
            out[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
        else:
            value = fill(key, tuple(shape), by_all).astype(np.float32)
            out[key] = torch.from_numpy(np.asarray(value))
    return out
