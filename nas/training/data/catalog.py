"""The data that candidates are compared on: by name, as uint8 images in memory, cached.

Selection sees a training and a validation split, both cut from training data; the test split of
the generated sets exists for full training and is never read by a proxy.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import DataError
from nas.study.recipe import Recipe
from nas.training.data.draws import Split

if TYPE_CHECKING:
    from torch import Tensor

# Images are held as bytes; above this a proxy should train on fewer or smaller ones.
MEMORY_LIMIT = 8 * 2**30

# A split below this decides nothing.
LEAST_IMAGES = 8


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that needs no files: what `datasets` lists."""

    name: str
    summary: str
    num_classes: int
    in_chans: int
    default_size: int
    val_size: int


@dataclass(frozen=True)
class ProxyData:
    """One data set, split for selection.

    train_x, val_x: uint8 (n, C, S, S). train_y, val_y: int64 (n,).
    mean, std: per channel over the training images, in [0, 1].
    classes: names, in the order of the labels.
    """

    train_x: Tensor
    train_y: Tensor
    val_x: Tensor
    val_y: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of labels."""
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        """C, 1 for gray images, else 3."""
        return int(self.train_x.shape[1])


BUILT_IN: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", "1,797 real handwritten digits, enlarged", 10, 1, 1078, 359),
        DatasetInfo(
            "scenes", "those digits at random place and size on photographs", 10, 3, 6000, 2000
        ),
        DatasetInfo(
            "patterns",
            "stripes here, a beacon there: local detail, far relation",
            16,
            3,
            6000,
            2000,
        ),
    )
}


def list_datasets() -> list[DatasetInfo]:
    """Return the data sets that need no files, by name."""
    return [BUILT_IN[name] for name in sorted(BUILT_IN)]


def check_data(recipe: Recipe) -> None:
    """Check that the recipe's data can be trained on, before anything is recorded.

    Generated sets are checked without drawing an image. Files are read, all that the recipe
    selects: only this finds a corrupt one, and the trials of this process use what was read.
    Raises: DataError that names the data set, folder or file, the rule and the remedy.
    """
    _check_memory(recipe)
    if recipe.dataset in BUILT_IN:
        return
    load_data(recipe)


def load_data(recipe: Recipe) -> ProxyData:
    """Return the training and validation images of a recipe; read or drawn once per process.

    Raises: DataError as `check_data`.
    """
    _check_memory(recipe)
    return _load(
        recipe.dataset,
        recipe.data_dir,
        recipe.download,
        recipe.data_seed,
        recipe.difficulty,
        recipe.train_size,
        recipe.val_size,
        recipe.image_size,
    )


def make_split(recipe: Recipe, split: Split, size: int | None) -> tuple[Tensor, Tensor]:
    """Return images uint8 (n, C, S, S) and labels (n,) of one split of a generated set.

    split: "test" is for full training alone; no proxy reads it.
    Raises: DataError for a data set that is read from files.
    """
    if recipe.dataset not in BUILT_IN:
        raise DataError(
            f"dataset {recipe.dataset!r} is not generated; generated: {', '.join(BUILT_IN)}"
        )
    return _generate(
        recipe.dataset, split, size, recipe.image_size, recipe.data_seed, recipe.difficulty
    )


def _generate(
    name: str, split: Split, size: int | None, side: int, seed: int, difficulty: int
) -> tuple[Tensor, Tensor]:
    if name == "digits":
        from nas.training.data.digits import make_digits

        return make_digits(split, size, side, seed)
    if size is None:
        info = BUILT_IN[name]
        size = info.default_size if split == "train" else info.val_size
    make: Callable[[Split, int, int, int, int], tuple[Tensor, Tensor]]
    if name == "scenes":
        from nas.training.data.digits import make_scenes as make
    else:
        from nas.training.data.patterns import make_patterns as make
    return make(split, size, side, seed, difficulty)


@functools.lru_cache(maxsize=2)
def _load(
    name: str,
    data_dir: str | None,
    download: bool,
    seed: int,
    difficulty: int,
    train_size: int | None,
    val_size: int | None,
    side: int,
) -> ProxyData:
    if name in BUILT_IN:
        train = _generate(name, "train", train_size, side, seed, difficulty)
        val = _generate(name, "val", val_size, side, seed, difficulty)
        classes = tuple(str(i) for i in range(BUILT_IN[name].num_classes))
    else:
        from nas.training.data import files

        items = files.open_items(name, data_dir, download)
        train, val = files.read_splits(items, side, train_size, val_size, seed)
        classes = items.classes
    mean, std = _moments(train[0])
    return ProxyData(*train, *val, mean=mean, std=std, classes=classes)


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


def _check_memory(recipe: Recipe) -> None:
    _check_name(recipe.dataset)
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


def _check_name(name: str) -> None:
    if name in BUILT_IN or name.startswith("folder:") or "/" in name:
        return
    near = difflib.get_close_matches(name, BUILT_IN, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(BUILT_IN))}"
    raise DataError(
        f"unknown dataset {name!r}; {hint} Or folder:PATH, or a timm name such as torch/cifar10"
    )
