"""Handwritten digits: real images that need no download.

scikit-learn's 1,797 8 x 8 scans (UCI "Optical Recognition of Handwritten Digits"), enlarged.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.draws import Draw, Split, permutation

# Shares of the 1,797 digit images that each split may show; no image serves two splits.
_TRAIN_SHARE, _VAL_SHARE = 0.6, 0.2


@functools.cache
def raw_digits() -> tuple[Tensor, Tensor]:
    """Return all digits, float (1797, 8, 8) in [0, 1], and what they show, int64 (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16.0)
    return images, torch.from_numpy(bunch.target.astype(np.int64))


def digit_pool(split: Split, seed: int) -> np.ndarray:
    """Return the indices of the digit images that `split` may show; splits are disjoint."""
    order = permutation(len(raw_digits()[0]), seed)
    a = int(_TRAIN_SHARE * len(order))
    b = a + int(_VAL_SHARE * len(order))
    return {"train": order[:a], "val": order[a:b], "test": order[b:]}[split]


def draw(ask: Draw) -> tuple[Tensor, Tensor]:
    """Return the split's digits: uint8 (n, 1, S, S) and labels (n,); at most all that there are.

    Source: sklearn.datasets.load_digits.
    """
    pool = torch.from_numpy(digit_pool(ask.split, ask.seed)[: ask.size].copy())
    images, labels = raw_digits()
    size = (ask.side, ask.side)
    big = F.interpolate(images[pool, None], size=size, mode="bilinear", align_corners=False)
    return to_uint8(big), labels[pool]


def to_uint8(images: Tensor) -> Tensor:
    """Return images of floats in [0, 1] as bytes."""
    return (images * 255.0).round().clamp(0, 255).to(torch.uint8)
