"""Scenes: handwritten digits at random places and sizes on dimmed crops of two photographs.

To classify, a scene shows one digit. Dense, it shows four, one in each quarter, and every token has
two labels: figure or ground, and of figures, whether they are of a zero. Image i of a split is a
function of (seed, split, i) alone.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.digits import digit_pool, raw_digits, to_uint8
from nas.training.data.draws import IGNORE, Draw
from nas.training.data.photographs import NAMES, photograph

# Difficulty -> (least, greatest side of the digit over that of the image, brightness of the
# background, least contrast of the digit).
_LEVELS: dict[int, tuple[float, float, float, float]] = {
    1: (0.60, 1.00, 0.35, 0.8),
    2: (0.50, 0.95, 0.50, 0.7),
    3: (0.40, 0.80, 0.60, 0.6),
    4: (0.25, 0.60, 0.70, 0.5),
}

# Four digits in a scene fill their quarters more than one fills the whole.
_QUARTER_ZOOM = 1.4
_WANTED = 0  # the digit that is told from the others
# A token with a greater mean of ink is figure, with a smaller one ground; between, it has no label.
_INK, _NO_INK = 0.25, 0.05

_STREAM, _DENSE_STREAM = 0, 32
_CHUNK_PIXELS = 2**21  # images are drawn in chunks so that large ones do not fill the memory


def draw(ask: Draw) -> tuple[Tensor, Tensor]:
    """Return scenes: uint8 (n, 3, S, S) and labels (n,), or of tokens int16 (n, 2, grid, grid).

    Source: sklearn.datasets.load_digits and load_sample_images (china.jpg, flower.jpg).
    """
    pool = digit_pool(ask.split, ask.seed)
    make = _dense if ask.task == "dense" else _single
    return ask.chunked(_CHUNK_PIXELS, lambda index: make(index, pool, ask))


def _single(index: np.ndarray, pool: np.ndarray, ask: Draw) -> tuple[Tensor, Tensor]:
    small, large, _, _ = _LEVELS[ask.difficulty]
    draws = ask.uniforms(_STREAM, index, 12)
    which = torch.from_numpy(pool[(draws[:, 0] * len(pool)).astype(np.int64)])
    u = torch.from_numpy(draws.astype(np.float32))
    ink = _placed(which, small + (large - small) * u[:, 1], u[:, 2:4], (ask.side, ask.side))
    return _painted(ink, u[:, 4:12], ask), raw_digits()[1][which]


def _dense(index: np.ndarray, pool: np.ndarray, ask: Draw) -> tuple[Tensor, Tensor]:
    small, large, _, _ = (min(1.0, _QUARTER_ZOOM * v) for v in _LEVELS[ask.difficulty])
    draws = ask.uniforms(_DENSE_STREAM, index, 28)
    u = torch.from_numpy(draws.astype(np.float32))
    digits = raw_digits()[1].numpy()
    wanted = digits[pool] == _WANTED
    ink = torch.zeros(len(index), 1, ask.side, ask.side)
    right = torch.zeros_like(ink)
    half = ask.side // 2
    for q in range(4):
        v, t = draws[:, 5 * q : 5 * q + 5], u[:, 5 * q : 5 * q + 5]
        # Half of the digits are wanted ones.
        chosen = [
            own[(v[:, 1] * len(own)).astype(np.int64)] for own in (pool[wanted], pool[~wanted])
        ]
        which = torch.from_numpy(np.where(v[:, 0] < 0.5, *chosen))
        rows, cols = (slice(half) if n == 0 else slice(half, None) for n in divmod(q, 2))
        quarter = ink[:, :, rows, cols]
        scale = small + (large - small) * t[:, 2]
        quarter.copy_(_placed(which, scale, t[:, 3:5], (quarter.shape[2], quarter.shape[3])))
        right[:, :, rows, cols] = torch.from_numpy(v[:, 0] < 0.5).view(-1, 1, 1, 1).float()
    share = F.avg_pool2d(ink, ask.side // ask.grid)[:, 0]
    mine = F.avg_pool2d(ink * right, ask.side // ask.grid)[:, 0] > share / 2
    figure = share > _INK
    labels = torch.full((len(index), 2, ask.grid, ask.grid), IGNORE, dtype=torch.int16)
    labels[:, 0][figure] = 1
    labels[:, 0][share < _NO_INK] = 0
    labels[:, 1][figure] = mine[figure].to(torch.int16)
    return _painted(ink, u[:, 20:28], ask), labels


def _placed(which: Tensor, scale: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the ink of digits at their places: float (n, 1, *size) in [0, 1].

    scale: side of the digit's square over that of the image, wholly inside of it. at: (n, 2)
    draws of its place, across and down.
    """
    # theta maps output to input coordinates, both in [-1, 1].
    free = 1 - scale
    theta = torch.zeros(len(which), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, 0, 2] = -(2 * at[:, 0] - 1) * free / scale
    theta[:, 1, 2] = -(2 * at[:, 1] - 1) * free / scale
    grid = F.affine_grid(theta, [len(which), 1, *size], align_corners=False)
    digits = raw_digits()[0][which, None]
    return F.grid_sample(digits, grid, mode="bilinear", align_corners=False)


def _painted(ink: Tensor, u: Tensor, ask: Draw) -> Tensor:
    """Return the ink on a background: uint8 (n, 3, S, S). Shapes: ink (n, 1, S, S), u (n, 8)."""
    _, _, brightness, contrast = _LEVELS[ask.difficulty]
    back = _crops(u[:, :5], ask.side) * (brightness * (0.7 + 0.3 * u[:, 5])).view(-1, 1, 1, 1)
    color = 1 - 0.25 * torch.stack([u[:, 6], u[:, 7], 1 - u[:, 6]], 1)
    alpha = ink * (contrast + (1 - contrast) * u[:, 7]).view(-1, 1, 1, 1)
    return to_uint8(back * (1 - alpha) + color[:, :, None, None] * alpha)


@functools.cache
def _photographs(side: int) -> tuple[Tensor, ...]:
    """Return each photograph at four sizes, float (H, W, 3) in [0, 1], all larger than `side`."""
    scaled = []
    for photo in map(photograph, NAMES):
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
