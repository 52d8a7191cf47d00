"""Crops of scikit-learn's two photographs: natural images that need no download, unlabeled.

Of each photograph the left three fifths are for training, the next fifth for validation, the
last for the test: no pixel serves two splits.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.draws import Draw, Split

NAMES = ("china.jpg", "flower.jpg")
_FIFTHS: dict[Split, tuple[int, int]] = {"train": (0, 3), "val": (3, 4), "test": (4, 5)}
_STREAM = 24
_CHUNK_PIXELS = 2**21


@functools.cache
def photograph(name: str) -> Tensor:
    """Return a photograph as float (1, 3, 427, 640), 0 to 255.

    Source: sklearn.datasets.load_sample_image.
    """
    from sklearn.datasets import load_sample_image

    return torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1)[None].float()


@functools.lru_cache(maxsize=6)
def _parts(split: Split, side: int) -> tuple[Tensor, ...]:
    """Return the split's part of each photograph: uint8 (H, W, 3), enlarged to hold a crop."""
    first, last = _FIFTHS[split]
    parts = []
    for name in NAMES:
        photo = photograph(name)
        width = photo.shape[3]
        part = photo[..., width * first // 5 : width * last // 5]
        # A fifth is 128 pixels wide. All splits are enlarged alike.
        factor = side / (width // 5)
        if factor > 1:
            size = [round(n * factor) for n in part.shape[2:]]
            part = F.interpolate(part, size=size, mode="bilinear", align_corners=False)
        parts.append(part[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous())
    return tuple(parts)


def draw(ask: Draw) -> tuple[Tensor, Tensor]:
    """Return crops at random places, half of them mirrored: uint8 (n, 3, S, S), labels all 0."""
    photos = _parts(ask.split, ask.side)
    offset = torch.arange(ask.side)

    def make(index: np.ndarray) -> tuple[Tensor, Tensor]:
        u = torch.from_numpy(ask.uniforms(_STREAM, index, 4))
        out = torch.empty(len(index), ask.side, ask.side, 3, dtype=torch.uint8)
        which = (u[:, 0] * len(photos)).long()
        for p, photo in enumerate(photos):
            rows = torch.nonzero(which == p).flatten()
            height, width, _ = photo.shape
            top = (u[rows, 1] * (height - ask.side + 1)).long()
            left = (u[rows, 2] * (width - ask.side + 1)).long()
            y = top[:, None] + offset
            x = left[:, None] + torch.where(u[rows, 3, None] < 0.5, offset, ask.side - 1 - offset)
            out[rows] = photo[y[:, :, None], x[:, None, :]]
        return out.permute(0, 3, 1, 2).contiguous(), torch.zeros(len(index), dtype=torch.int64)

    return ask.chunked(_CHUNK_PIXELS, make)
