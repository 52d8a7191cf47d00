"""Data sets that are read from files: folders of images, and timm's data sets.

Every image that a recipe selects is decoded once, resized to the shorter side and cropped to
the middle, and kept as bytes; a proxy trains dozens of networks on the same few thousand.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.training.data.draws import permutation
from nas.training.data.folder import mask_classes, open_folder, tokens
from nas.training.data.items import Items, cropped, decode
from nas.training.data.registry import LEAST_IMAGES, MEMORY_LIMIT, LabelMap, Wanted
from nas.training.data.timm_names import open_timm

# At most this share of the images is set aside for validation, and as much for the test.
_VAL_SHARE = 0.2
_DECODERS = 4
Labeled = tuple[Tensor, Tensor]


def read(wanted: Wanted) -> tuple[Labeled, Labeled, tuple[LabelMap, ...]]:
    """Read training images and those to be scored, disjoint, and what their labels mean.

    Shapes: images uint8 (n, 3, side, side), labels as `ProxyData` holds them.
    Raises: DataError for files that cannot be used (named), too few, too many, or one class.
    """
    items = open_files(wanted)
    train, scored = split(items, wanted)
    side = wanted.side
    if (len(train) + len(scored)) * 3 * side**2 > MEMORY_LIMIT:
        raise DataError(
            f"{len(train) + len(scored)} images of {items.source!r} at {side} px need more than "
            f"{MEMORY_LIMIT // 2**30} GiB; set train_size in the recipe"
        )
    held = items.apart if wanted.scored == "test" and items.apart is not None else items
    first, second = _read(items, train, wanted), _read(held, scored, wanted)
    if items.mask is None:
        return first, second, items.labels
    return first, second, mask_classes(items, first[1], second[1])


def open_files(wanted: Wanted) -> Items:
    """List a data set's images without reading them.

    Raises: DataError for files that are missing or laid out otherwise.
    """
    named = wanted.part.dataset.startswith("folder:")
    return open_folder(wanted) if named else open_timm(wanted)


def split(items: Items, wanted: Wanted, share: float = _VAL_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of training images and of those to be scored, a share of all.

    Neither the validation nor the test images depend on the sizes, only on the seed. For a test,
    images that no folder keeps apart are taken from the end of those to train on.
    """
    order = permutation(items.count, wanted.seed)
    n_val = int(items.count * share)
    if n_val < LEAST_IMAGES:
        raise DataError(
            f"{items.source!r} holds {items.count} images; {share:.0%} are kept for validation, "
            f"which takes {math.ceil(LEAST_IMAGES / share)} or more"
        )
    scored, train = order[:n_val], order[n_val:]
    if wanted.scored == "test":
        if items.apart is not None:
            scored = permutation(items.apart.count, wanted.seed)
        else:
            scored, train = train[-n_val:], train[:-n_val]
    return train[: wanted.train_size], scored[: wanted.val_size]


def _read(items: Items, index: np.ndarray, wanted: Wanted) -> Labeled:
    side, grid = wanted.side, wanted.grid
    images = torch.empty(len(index), 3, side, side, dtype=torch.uint8)
    labels = torch.zeros(len(index), dtype=torch.int64)
    if items.label is not None:
        labels = torch.tensor([items.label(int(n)) for n in index])
    elif items.mask is not None:
        labels = torch.empty(len(index), 1, grid, grid, dtype=torch.int16)

    def put(row: int) -> None:
        n = int(index[row])
        with decode(items, n) as image:
            images[row] = cropped(image.convert("RGB"), side)
            if items.mask is not None:
                mask = cropped(items.mask(n, image), side, exact=True)[0].numpy()
                labels[row, 0] = torch.from_numpy(tokens(mask, grid))

    with ThreadPoolExecutor(_DECODERS) as pool:
        for _ in pool.map(put, range(len(index))):
            pass
    return images, labels
