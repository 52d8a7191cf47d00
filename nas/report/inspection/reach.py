"""Effective receptive field: how much each pixel moves the token in the middle of the last map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHARES = (0.2, 0.3, 0.5, 0.99)


@dataclass(frozen=True)
class Reach:
    """An effective receptive field.

    pixels: contribution of each, (S, S), the largest 1. center: (row, column) of the token's
    middle. areas: by share of the contribution, the area of the smallest square around the
    middle that holds it, as a share of the image.
    """

    pixels: np.ndarray
    center: tuple[float, float]
    areas: dict[float, float]


def reach(model: Any, images: Tensor) -> Reach:
    """Measure the effective receptive field of a network over images.

    Shapes: images (n, C, S, S), normalized.
    Source: Luo et al., arXiv 1701.04128; measured as by Ding et al., RepLKNet, arXiv 2203.06717,
    appendix (gradient of the middle token's rectified features, rectified, summed over
    channels and images; areas as in its table of high-contribution squares).
    """
    images = images.clone().requires_grad_()
    features = model.forward_features(images)
    grid = last_grid(model, images.shape[-1])
    if model.has_class_token:
        features = features[:, : grid[0] * grid[1]].unflatten(1, grid)
    row, column = grid[0] // 2, grid[1] // 2
    moved = features[:, row, column].relu().sum()
    (gradient,) = torch.autograd.grad(moved, images)
    pixels = gradient.relu().sum((0, 1)).double().numpy()
    side = pixels.shape[0]
    center = ((row + 0.5) * side / grid[0], (column + 0.5) * side / grid[1])
    areas = {share: _area(pixels, center, share) for share in SHARES}
    return Reach(pixels / max(pixels.max(), 1e-30), center, areas)


def last_grid(model: Any, side: int) -> tuple[int, int]:
    """Return (H, W) of the last map of a network for images of a side."""
    config = model.config
    grid: tuple[int, int] = config.stem.grid((side, side))
    for stage in config.stages:
        grid = grid if stage.downsample is None else stage.downsample.grid(grid)
    return grid


def _area(pixels: np.ndarray, center: tuple[float, float], share: float) -> float:
    side = pixels.shape[0]
    places = np.arange(side) + 0.5
    away = np.maximum(abs(places - center[0])[:, None], abs(places - center[1])[None])
    order = np.argsort(away, axis=None, kind="stable")
    held = np.cumsum(pixels.ravel()[order])
    reached = away.ravel()[order][np.searchsorted(held, share * held[-1] * (1 - 1e-9))]
    return float((away <= reached).mean())
