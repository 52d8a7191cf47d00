"""The data sets that need no files, by name, and the form that all data takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.study.tasks import Part, Task
from nas.training.data.draws import SPLITS, Draw, Split

if TYPE_CHECKING:
    from torch import Tensor


# Images are held as bytes; above this a proxy should train on fewer or smaller ones.
MEMORY_LIMIT = 8 * 2**30

# A split below this decides nothing.
LEAST_IMAGES = 8


@dataclass(frozen=True)
class Wanted:
    """All that decides which images and labels a run sees, of one part of a recipe.

    scored: the split beside the training images. grid: tokens on a side.
    """

    part: Part
    data_dir: str | None
    download: bool
    seed: int
    train_size: int | None
    val_size: int | None
    side: int
    grid: int
    scored: Split

    def ask(self, split: Split, size: int) -> Draw:
        """Return what a generated data set is asked for."""
        p = self.part
        return Draw(p.task, split, size, self.side, self.grid, self.seed, p.difficulty, p.density)


@dataclass(frozen=True)
class LabelMap:
    """One label of every image, or of every token: its name, and those of its classes in order."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ProxyData:
    """One data set, split for selection.

    train_x, val_x: uint8 (n, C, S, S). train_y, val_y: labels, int64 (n,) to classify, int16
    (n, R, grid, grid) for R labels per token (dense), `IGNORE` where a token has none.
    mean, std: per channel over the training images, in [0, 1]. labels: what the labels mean; none
    where they are not used. val is the split that is scored.
    """

    train_x: Tensor
    train_y: Tensor
    val_x: Tensor
    val_y: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[LabelMap, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the first label."""
        return self.labels[0].classes if self.labels else ()

    @property
    def num_classes(self) -> int:
        """The number of classes of the first label."""
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        """C, 1 for gray images, else 3."""
        return int(self.train_x.shape[1])

    def with_chans(self, count: int) -> ProxyData:
        """Return the same images with so many channels, if they are gray."""
        if self.in_chans == count:
            return self
        return replace(
            self,
            train_x=self.train_x.repeat(1, count, 1, 1),
            val_x=self.val_x.repeat(1, count, 1, 1),
            mean=self.mean * count,
            std=self.std * count,
        )


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that needs no files: what `datasets` lists.

    module: where its function `draw` is, that makes images and labels of what a `Draw` asks for.
    sizes: images of train, val and test where a recipe names no number. classes: of an image; 0
    where it has no label. maps: (name, number of classes) of each label that a token has.
    mirrors: whether a mirrored image keeps its labels.
    """

    name: str
    summary: str
    module: str
    in_chans: int
    sizes: tuple[int, int, int]
    classes: int = 0
    maps: tuple[tuple[str, int], ...] = ()
    mirrors: bool = True

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it has labels for; any image can be reconstructed."""
        labeled: dict[Task, bool] = {"classify": self.classes > 0, "dense": bool(self.maps)}
        return (*(task for task, has in labeled.items() if has), "reconstruct")

    def labels(self, task: Task) -> tuple[LabelMap, ...]:
        """Return the labels of a task."""
        counts = {"classify": (("class", self.classes),), "dense": self.maps}.get(task, ())
        return tuple(LabelMap(name, tuple(map(str, range(n)))) for name, n in counts)

    def size(self, split: Split) -> int:
        """Return how many images a split has by default."""
        return self.sizes[SPLITS.index(split)]

    def draw(self, ask: Draw) -> tuple[Tensor, Tensor]:
        """Return images and labels as `ProxyData` holds them."""
        made: Callable[[Draw], tuple[Tensor, Tensor]] = importlib.import_module(self.module).draw
        return made(ask)


_DATASETS: dict[str, DatasetInfo] = {}


def register(name: str, summary: str, module: str, **facts: object) -> None:
    """Add a data set; facts are the fields of `DatasetInfo`.

    Raises: ValueError when the name is taken.
    """
    if name in _DATASETS:
        raise ValueError(f"dataset {name!r} is registered already, by {_DATASETS[name].module}")
    _DATASETS[name] = DatasetInfo(name, summary, module, **facts)  # type: ignore[arg-type]


_HERE = "nas.training.data"
register(
    "digits",
    "1,797 real handwritten digits, enlarged",
    f"{_HERE}.digits",
    in_chans=1,
    sizes=(1078, 359, 360),
    classes=10,
)
register(
    "scenes",
    "those digits at random place and size on photographs",
    f"{_HERE}.scenes",
    in_chans=3,
    sizes=(6000, 2000, 2000),
    classes=10,
    maps=(("figure", 2), ("zero", 2)),
)
register(
    "relations",
    "colored marks; per token the nearest left, right, above, below, ...",
    f"{_HERE}.relations",
    in_chans=3,
    sizes=(6000, 2000, 2000),
    maps=tuple((n, 6) for n in "left right above below nearest window carry".split()),
    mirrors=False,
)
register(
    "photographs",
    "crops of two photographs, unlabeled",
    f"{_HERE}.photographs",
    in_chans=3,
    sizes=(6000, 2000, 2000),
)


def find_dataset(name: str) -> DatasetInfo | None:
    """Return the data set of that name, None where none is generated."""
    return _DATASETS.get(name)


def list_datasets() -> list[DatasetInfo]:
    """Return the data sets that need no files, by name."""
    return [_DATASETS[name] for name in sorted(_DATASETS)]
