"""Procedural 2-D tasks: a small detail whose meaning depends on a far-away mark.

Each image holds a round patch of parallel stripes and, at least 0.35 of the side away, a beacon.
The class is the direction of the stripes (4: local structure at an unknown place) together with
the side on which the beacon lies (4: a relation over a long distance, along rows or columns):
16 classes. Dimmer stripes, noise and false beacons of other colors make it harder.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.draws import SPLITS, Split, uniforms

NUM_CLASSES = 16

# Difficulty -> (contrast of the stripes, amplitude of the pixel noise, false beacons).
_LEVELS: dict[int, tuple[float, float, int]] = {
    1: (0.50, 0.05, 0),
    2: (0.40, 0.10, 1),
    3: (0.30, 0.15, 2),
    4: (0.22, 0.20, 3),
}

_PERIOD = 1 / 8  # of the stripes, over the side: 4 px at 32
_MARGIN = 0.08  # of marks from the border
_COARSE = 5  # nodes per side of the smooth background
_MAX_FALSE = 3
_CHUNK_PIXELS = 2**20
_SCALARS = 8 + 3 * _MAX_FALSE


def make_patterns(
    split: Split, size: int, image_size: int, seed: int, difficulty: int
) -> tuple[Tensor, Tensor]:
    """Return `size` images of a split: uint8 (n, 3, S, S) and labels (n,) below 16."""
    chunk = max(1, _CHUNK_PIXELS // image_size**2)
    parts = [
        _patterns(np.arange(i, min(i + chunk, size)), split, image_size, seed, difficulty)
        for i in range(0, size, chunk)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _patterns(
    index: np.ndarray, split: Split, side: int, seed: int, difficulty: int
) -> tuple[Tensor, Tensor]:
    contrast, noise, false_beacons = _LEVELS[difficulty]
    n = len(index)
    count = _SCALARS + 3 * _COARSE**2 + 1
    draws = uniforms(seed, 8 + SPLITS.index(split), index, count)
    u = torch.from_numpy(draws.astype(np.float32))
    stripes = (u[:, 0] * 4).long().clamp(max=3)
    relation = (u[:, 1] * 4).long().clamp(max=3)

    near, beacon = _places(u, relation)
    axis = (torch.arange(side) + 0.5) / side
    y, x = axis.view(1, -1, 1), axis.view(1, 1, -1)

    coarse = u[:, _SCALARS : _SCALARS + 3 * _COARSE**2].view(n, 3, _COARSE, _COARSE)
    back = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    image = 0.25 + 0.4 * back.clamp(0, 1)

    angle = stripes.float() * (torch.pi / 4)
    along = x * torch.cos(angle).view(-1, 1, 1) + y * torch.sin(angle).view(-1, 1, 1)
    wave = torch.sin(2 * torch.pi * (along / _PERIOD + u[:, 2].view(-1, 1, 1)))
    radius = (0.13 + 0.06 * u[:, 3]).view(-1, 1, 1)
    patch = _disc(x, y, near, radius)
    image = image + contrast * (patch * wave)[:, None]

    image = _paint(image, _disc(x, y, beacon, torch.tensor(0.06)), (1.0, 0.9, 0.1))
    for k in range(false_beacons):
        at = u[:, 8 + 3 * k : 10 + 3 * k] * (1 - 2 * _MARGIN) + _MARGIN
        color = (0.1, 0.8, 1.0) if k % 2 else (1.0, 0.2, 0.8)
        image = _paint(image, _disc(x, y, at, torch.tensor(0.06)), color)

    grain = torch.from_numpy(_grain(draws[:, -1], (3, side, side)))
    image = image + noise * grain
    return (image * 255.0).round().clamp(0, 255).to(torch.uint8), stripes * 4 + relation


def _places(u: Tensor, relation: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (x, y) of patch and beacon: relation 0 right, 1 left, 2 below, 3 above."""
    # Along the main axis the beacon lies 0.35 or more ahead; across it, by less than that.
    start = 0.15 + 0.35 * u[:, 4]
    ahead = start + 0.35 + (1 - _MARGIN - start - 0.35) * u[:, 5]
    cross = 0.15 + 0.7 * u[:, 6]
    spread = 0.7 * (ahead - start)
    other = (cross + spread * (2 * u[:, 7] - 1)).clamp(_MARGIN, 1 - _MARGIN)
    back = relation % 2 == 1
    main = torch.where(back, 1 - start, start), torch.where(back, 1 - ahead, ahead)
    vertical = (relation >= 2)[:, None]
    patch, beacon = torch.stack([main[0], cross], 1), torch.stack([main[1], other], 1)
    return (
        torch.where(vertical, patch.flip(1), patch),
        torch.where(vertical, beacon.flip(1), beacon),
    )


def _disc(x: Tensor, y: Tensor, center: Tensor, radius: Tensor) -> Tensor:
    """Return a soft-edged disc per center: (n, S, S) in [0, 1]."""
    distance = torch.hypot(x - center[:, 0].view(-1, 1, 1), y - center[:, 1].view(-1, 1, 1))
    return torch.sigmoid((radius - distance) * 80.0)


def _paint(image: Tensor, mask: Tensor, color: tuple[float, float, float]) -> Tensor:
    tint = torch.tensor(color).view(1, 3, 1, 1)
    return image * (1 - mask[:, None]) + tint * mask[:, None]


def _grain(keys: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return pixel noise in [-1, 1) for each key, from a shared table read at a keyed offset."""
    size = int(np.prod(shape))
    table = np.random.Generator(np.random.Philox(key=7)).random(4 * size, dtype=np.float32)
    starts = (keys * 3 * size).astype(np.int64)
    return np.stack([table[s : s + size] for s in starts]).reshape(-1, *shape) * 2 - 1
