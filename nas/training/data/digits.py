"""Handwritten digits, plain and in scenes: real images that need no download.

The digits are scikit-learn's 1,797 8 x 8 scans (UCI "Optical Recognition of Handwritten
Digits"). A scene shows one of them at a random place and size on a dimmed crop of one of
scikit-learn's two photographs. Image i of a split is a function of (seed, split, i) alone.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.draws import SPLITS, Split, permutation, uniforms

# Shares of the 1,797 digit images that each split may show; no image serves two splits.
_TRAIN_SHARE, _VAL_SHARE = 0.6, 0.2

# Difficulty -> (least, greatest side of the digit over that of the image, brightness of the
# background, least contrast of the digit).
_LEVELS: dict[int, tuple[float, float, float, float]] = {
    1: (0.60, 1.00, 0.35, 0.8),
    2: (0.50, 0.95, 0.50, 0.7),
    3: (0.40, 0.80, 0.60, 0.6),
    4: (0.25, 0.60, 0.70, 0.5),
}

_CHUNK_PIXELS = 2**21  # images are drawn in chunks so that large ones do not fill the memory


@functools.cache
def _raw() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16.0)
    return images, torch.from_numpy(bunch.target.astype(np.int64))


def digit_pool(split: Split, seed: int) -> np.ndarray:
    """Return the indices of the digit images that `split` may show; splits are disjoint."""
    order = permutation(len(_raw()[0]), seed)
    a = int(_TRAIN_SHARE * len(order))
    b = a + int(_VAL_SHARE * len(order))
    return {"train": order[:a], "val": order[a:b], "test": order[b:]}[split]


def make_digits(
    split: Split, size: int | None, image_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the split's digits, enlarged: uint8 (n, 1, S, S) and labels (n,).

    size: at most so many; None or more than there are gives all.
    Source: sklearn.datasets.load_digits.
    """
    pool = torch.from_numpy(digit_pool(split, seed)[:size].copy())
    images, labels = _raw()
    big = F.interpolate(
        images[pool, None], size=(image_size, image_size), mode="bilinear", align_corners=False
    )
    return _to_uint8(big), labels[pool]


def make_scenes(
    split: Split, size: int, image_size: int, seed: int, difficulty: int
) -> tuple[Tensor, Tensor]:
    """Return `size` scenes of a split: uint8 (n, 3, S, S) and labels (n,).

    Source: sklearn.datasets.load_digits and load_sample_images (china.jpg, flower.jpg).
    """
    pool = digit_pool(split, seed)
    chunk = max(1, _CHUNK_PIXELS // image_size**2)
    parts = [
        _scenes(np.arange(i, min(i + chunk, size)), pool, split, image_size, seed, difficulty)
        for i in range(0, size, chunk)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _scenes(
    index: np.ndarray, pool: np.ndarray, split: Split, side: int, seed: int, difficulty: int
) -> tuple[Tensor, Tensor]:
    small, large, brightness, contrast = _LEVELS[difficulty]
    draws = uniforms(seed, SPLITS.index(split), index, 12)
    which = torch.from_numpy(pool[(draws[:, 0] * len(pool)).astype(np.int64)])
    u = torch.from_numpy(draws.astype(np.float32))
    images, labels = _raw()

    scale = small + (large - small) * u[:, 1]
    # theta maps output to input coordinates, both in [-1, 1]: the digit's square, of side
    # `scale`, lies wholly inside the image.
    free = 1 - scale
    theta = torch.zeros(len(index), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, 0, 2] = -(2 * u[:, 2] - 1) * free / scale
    theta[:, 1, 2] = -(2 * u[:, 3] - 1) * free / scale
    grid = F.affine_grid(theta, [len(index), 1, side, side], align_corners=False)
    ink = F.grid_sample(images[which, None], grid, mode="bilinear", align_corners=False)

    back = _crops(u[:, 4:9], side) * (brightness * (0.7 + 0.3 * u[:, 9])).view(-1, 1, 1, 1)
    color = 1 - 0.25 * torch.stack([u[:, 10], u[:, 11], 1 - u[:, 10]], 1)
    alpha = ink * (contrast + (1 - contrast) * u[:, 11]).view(-1, 1, 1, 1)
    return _to_uint8(back * (1 - alpha) + color[:, :, None, None] * alpha), labels[which]


@functools.cache
def _photographs(side: int) -> tuple[Tensor, ...]:
    """Return each photograph at four sizes, float (H, W, 3) in [0, 1], all larger than `side`."""
    from sklearn.datasets import load_sample_image

    scaled = []
    for name in ("china.jpg", "flower.jpg"):
        photo = torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1)[None].float()
        short = min(photo.shape[2:])
        for zoom in (1.5, 3.0, 6.0, 12.0):
            factor = max(zoom * side, side + 1) / short
            size = [max(side + 1, round(n * factor)) for n in photo.shape[2:]]
            # No copy larger than twice the original: huge crops would only be blurred.
            if zoom > 1.5 and factor > 2:
                break
            resized = F.interpolate(photo, size=size, mode="bilinear", antialias=True)
            scaled.append((resized[0].permute(1, 2, 0) / 255.0).contiguous())
    return tuple(scaled)


def _crops(u: Tensor, side: int) -> Tensor:
    """Return one crop per row of draws u (n, 5): float (n, 3, side, side), half mirrored."""
    photos = _photographs(side)
    which = (u[:, 0] * len(photos)).long().clamp(max=len(photos) - 1)
    out = torch.empty(len(u), side, side, 3)
    offset = torch.arange(side)
    for p, photo in enumerate(photos):
        rows = torch.nonzero(which == p).flatten()
        height, width, _ = photo.shape
        top = (u[rows, 1] * (height - side)).long()
        left = (u[rows, 2] * (width - side)).long()
        y = top[:, None] + offset
        x = left[:, None] + torch.where(u[rows, 3, None] < 0.5, offset, side - 1 - offset)
        out[rows] = photo[y[:, :, None], x[:, None, :]]
    return out.permute(0, 3, 1, 2) * (0.8 + 0.4 * u[:, 4]).view(-1, 1, 1, 1)


def _to_uint8(images: Tensor) -> Tensor:
    return (images * 255.0).round().clamp(0, 255).to(torch.uint8)
