"""The data that candidates are compared on: by name, as uint8 images in memory, cached.

Selection sees a training and a validation split, both cut from training data. The test split is
scored by confirmation alone, which asks for it by name.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kernels.errors import nearest
from nas.errors import DataError
from nas.study.recipe import Recipe
from nas.study.tasks import Part
from nas.training.data.draws import Split
from nas.training.data.registry import (
    LEAST_IMAGES,
    MEMORY_LIMIT,
    ProxyData,
    Wanted,
    find_dataset,
    list_datasets,
)

if TYPE_CHECKING:
    from torch import Tensor


def check_data(recipe: Recipe) -> None:
    """Check that the recipe's data can be trained on, before anything is recorded.

    Generated sets are checked without drawing an image. Files are read, all that the recipe
    selects: only this finds a corrupt one, and the trials of this process use what was read.
    Raises: DataError that names the data set, folder or file, the rule and the remedy.
    """
    for part in recipe.parts:
        _check(recipe, part)
        if find_dataset(part.dataset) is None:
            load_data(recipe, part)


def load_data(recipe: Recipe, part: Part | None = None, *, split: Split = "val") -> ProxyData:
    """Return the images of a recipe's part, its own by default; read or drawn once per process.

    split: what is read beside the training images; "test" is for confirmation alone.
    Raises: DataError as `check_data`.
    """
    part = part or recipe.parts[0]
    _check(recipe, part)
    return _load(
        Wanted(
            part=part.model_copy(update={"weight": 1.0}),
            data_dir=recipe.data_dir,
            download=recipe.download,
            seed=recipe.data_seed,
            train_size=recipe.train_size,
            val_size=recipe.val_size,
            side=recipe.image_size,
            grid=recipe.grid,
            scored=split,
        )
    )


@functools.lru_cache(maxsize=4)
def _load(wanted: Wanted) -> ProxyData:
    if (info := find_dataset(wanted.part.dataset)) is not None:
        train = info.draw(wanted.ask("train", wanted.train_size or info.size("train")))
        val = info.draw(wanted.ask(wanted.scored, wanted.val_size or info.size(wanted.scored)))
        labels = info.labels(wanted.part.task)
    else:
        from nas.training.data import files

        train, val, labels = files.read(wanted)
    mean, std = _moments(train[0])
    return ProxyData(*train, *val, mean=mean, std=std, labels=labels)


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, exactly: from counts of the 256 values."""
    import torch

    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = (share * values).sum()
        means.append(float(mean))
        stds.append(max(float((share * (values - mean) ** 2).sum().sqrt()), 1e-3))
    return tuple(means), tuple(stds)


def _check(recipe: Recipe, part: Part) -> None:
    check_name(part.dataset)
    if (info := find_dataset(part.dataset)) is not None:
        if part.task not in info.tasks:
            raise DataError(
                f"dataset {info.name!r} has no labels to {part.task}; it serves "
                f"{' and '.join(info.tasks)}"
            )
        if recipe.augment == "flip" and part.task == "dense" and not info.mirrors:
            raise DataError(
                f"augment flip changes what the labels of {info.name!r} mean (left is right then); "
                "set augment: none in the recipe"
            )
    for what, size in (("train_size", recipe.train_size), ("val_size", recipe.val_size)):
        if size is None:
            continue
        if size < LEAST_IMAGES:
            raise DataError(f"{what} {size} is below {LEAST_IMAGES}; raise it in the recipe")
        if size * 3 * recipe.image_size**2 > MEMORY_LIMIT:
            raise DataError(
                f"{what} {size} at {recipe.image_size} px needs more than "
                f"{MEMORY_LIMIT // 2**30} GiB; lower {what} or image_size in the recipe"
            )


def check_name(name: str) -> None:
    """Raise DataError for a name that is no data set's, with the nearest."""
    if find_dataset(name) is not None or name.startswith("folder:") or "/" in name:
        return
    known = [info.name for info in list_datasets()]
    hint = nearest(name, known, f"known: {', '.join(known)}")
    raise DataError(
        f"unknown dataset {name!r}; {hint} Or folder:PATH, or a timm name such as torch/cifar10"
    )
