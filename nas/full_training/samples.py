"""Labeled images of a split, one at a time: what a training's loader draws from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from nas.errors import DataError, TrainingError
from nas.study.tasks import Part, Task
from nas.training.data import files
from nas.training.data.catalog import check_name
from nas.training.data.draws import Split
from nas.training.data.items import Items, decode
from nas.training.data.registry import DatasetInfo, LabelMap, Wanted, find_dataset

Label = int | Tensor | Image.Image


@dataclass(frozen=True)
class Data:
    """A data set, as a user asks for it.

    name: a generated set, folder:PATH, or a timm name. data_dir, download, seed: as of a proxy's
    recipe. val_share: of the images of files that are set aside for validation, as for a test
    where no folder keeps some apart.
    """

    name: str
    task: Task
    data_dir: str | None = None
    download: bool = False
    seed: int = 0
    val_share: float = 0.2


@dataclass(frozen=True)
class Samples:
    """The images of a split.

    image: n -> RGB. label: (n, the image) -> a class; dense: the tokens' labels (R, grid, grid), or
    the class number of each pixel as an image. name: n -> what to call it. labels: what they mean.
    mirrors: whether a mirrored image keeps its labels.
    """

    count: int
    image: Callable[[int], Image.Image]
    label: Callable[[int, Image.Image], Label]
    name: Callable[[int], str]
    labels: tuple[LabelMap, ...]
    mirrors: bool = True

    def __len__(self) -> int:
        return self.count


def usual_task(name: str) -> Task:
    """Return what a data set is for where nobody says: the first task that it has labels of."""
    check_name(name)
    if (info := find_dataset(name)) is not None:
        return info.tasks[0]
    path = Path(name.removeprefix("folder:")).expanduser()
    inner = path / "train" if (path / "train").is_dir() else path
    masked = (inner / "images").is_dir() and (inner / "masks").is_dir()
    return "dense" if masked else "classify"


def open_samples(data: Data, split: Split, *, side: int, grid: int) -> Samples:
    """Return the samples of a split; generated images are drawn at once, files are only listed.

    side: of generated images, in pixels. grid: tokens on a side (dense).
    Raises: DataError for a data set that cannot be used; TrainingError for one without labels.
    """
    check_name(data.name)
    wanted = Wanted(
        part=Part(task=data.task, dataset=data.name),
        data_dir=data.data_dir,
        download=data.download,
        seed=data.seed,
        train_size=None,
        val_size=None,
        side=side,
        grid=grid,
        scored="test" if split == "train" else split,  # nothing of any test is trained on
    )
    if data.task == "reconstruct":
        raise TrainingError(
            f"data set {data.name!r} has no labels; train on one that has, or give --task"
        )
    info = find_dataset(data.name)
    return _listed(wanted, data, split) if info is None else _drawn(info, wanted, split)


def _drawn(info: DatasetInfo, wanted: Wanted, split: Split) -> Samples:
    task = wanted.part.task
    if task not in info.tasks:
        raise DataError(
            f"data set {info.name!r} has no labels to {task}; it serves {' and '.join(info.tasks)}"
        )
    images, labels = info.draw(wanted.ask(split, info.size(split)))

    def label(n: int, _: Image.Image) -> Label:
        return int(labels[n]) if task == "classify" else labels[n]

    return Samples(
        count=len(images),
        image=lambda n: to_pil_image(images[n]).convert("RGB"),
        label=label,
        name=lambda n: f"{info.name} {split} image {n}",
        labels=info.labels(task),
        mirrors=info.mirrors,
    )


def _listed(wanted: Wanted, data: Data, split: Split) -> Samples:
    items = files.open_files(wanted)
    train, scored = files.split(items, wanted, data.val_share)
    held = items.apart if split == "test" and items.apart is not None else items
    index = train if split == "train" else scored
    if held.mask is not None and not held.labels[0].classes:
        raise DataError(
            f"{held.source!r} names no classes of its masks; add classes.txt with their names, one "
            "a line, in the order of their numbers"
        )
    return Samples(
        count=len(index),
        image=lambda n: _rgb(held, int(index[n])),
        label=partial(_label, held, index),
        name=lambda n: held.name(int(index[n])),
        labels=held.labels,
    )


def _rgb(items: Items, n: int) -> Image.Image:
    with decode(items, n) as image:
        return image.convert("RGB")


def _label(items: Items, index: np.ndarray, n: int, image: Image.Image) -> Label:
    place = int(index[n])
    if items.mask is not None:
        return items.mask(place, image)
    assert items.label is not None
    return items.label(place)
