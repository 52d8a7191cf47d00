"""Folders of images: one subfolder a class, images with masks, or any images at all.

    classify      PATH/<class>/...
    dense         PATH/images/...  and  PATH/masks/...: to each image a PNG of the same name and
                  size, indexed or gray, whose values are class numbers, 255 for none;
                  PATH/classes.txt, if there, names the classes, one a line
    reconstruct   PATH/...: whatever images it holds

A folder laid out as ImageNet is (PATH/train, beside it test, val or validation) is trained on the
first; the other is looked at by confirmation alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.errors import DataError
from nas.training.data.draws import IGNORE
from nas.training.data.items import Items
from nas.training.data.registry import LabelMap, Wanted

UNLABELED = 255  # as PASCAL VOC and Cityscapes write it
_APART = ("test", "val", "validation")
_MASK_MODES = ("P", "L", "1")


def open_folder(wanted: Wanted) -> Items:
    """List the images of a folder as the task needs them.

    Raises: DataError for a folder that is missing or laid out otherwise.
    """
    path = Path(wanted.part.dataset.removeprefix("folder:")).expanduser()
    if wanted.data_dir is not None:
        path = Path(wanted.data_dir).expanduser() / path
    opened = {"classify": _classes, "dense": _masks, "reconstruct": _any}[wanted.part.task]
    if not path.is_dir():
        layout = {
            "classify": "one subfolder of images per class",
            "dense": "images/ and masks/",
            "reconstruct": "images",
        }[wanted.part.task]
        raise DataError(
            f"folder {str(path)!r} does not exist or is no folder; give folder:PATH with {layout}"
        )
    try:
        if not (path / "train").is_dir():
            return opened(path, None)
        apart = next((path / name for name in _APART if (path / name).is_dir()), None)
        items = opened(path / "train", None)
        if wanted.scored == "test" and apart is not None:
            return opened(path / "train", opened(apart, None))
        return items
    except OSError as exc:
        raise DataError(f"cannot list folder {str(path)!r}: {exc.strerror}; check it") from None


def _images(path: Path) -> list[Path]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return sorted(f for f in path.rglob("*") if f.suffix.lower() in IMG_EXTENSIONS)


def _nothing(path: Path, what: str) -> DataError:
    return DataError(
        f"{what} {str(path)!r} holds no image (.jpg, .jpeg, .png, .ppm, ...); add some or "
        + ("remove it" if what == "class folder" else "give another folder:PATH")
    )


def _items(path: Path, files: Sequence[Path], apart: Items | None, **labels: object) -> Items:
    return Items(
        source=str(path),
        count=len(files),
        read=lambda n: Image.open(files[n]),
        name=lambda n: str(files[n]),
        apart=apart,
        **labels,  # type: ignore[arg-type]
    )


def _any(path: Path, apart: Items | None) -> Items:
    if not (files := _images(path)):
        raise _nothing(path, "folder")
    return _items(path, files, apart)


def _classes(path: Path, apart: Items | None) -> Items:
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    if len(names) < 2:
        raise DataError(
            f"folder {str(path)!r} holds {len(names)} class folder(s), needs two or more: one "
            "subfolder of images per class"
        )
    listed = {name: _images(path / name) for name in names}
    if empty := [name for name in names if not listed[name]]:
        raise _nothing(path / empty[0], "class folder")
    if apart is not None and apart.labels[0].classes != tuple(names):
        raise DataError(
            f"folders {apart.source!r} and {str(path)!r} hold other classes; give both the same "
            "subfolders"
        )
    files = [(f, i) for i, name in enumerate(names) for f in listed[name]]
    return _items(
        path,
        [f for f, _ in files],
        apart,
        label=lambda n: files[n][1],
        labels=(LabelMap("class", tuple(names)),),
    )


# --- masks -------------------------------------------------------------------------------------


def _masks(path: Path, apart: Items | None) -> Items:
    missing = [name for name in ("images", "masks") if not (path / name).is_dir()]
    if missing:
        raise DataError(
            f"folder {str(path)!r} holds no {missing[0]}/; give one with images/ and masks/, a PNG "
            "of class numbers for each image"
        )
    if not (files := _images(path / "images")):
        raise _nothing(path / "images", "folder")
    masks = [path / "masks" / f.relative_to(path / "images").with_suffix(".png") for f in files]
    for file, mask in zip(files, masks):
        if not mask.is_file():
            raise DataError(
                f"image {str(file)!r} has no mask {str(mask)!r}; add it or remove the image"
            )
    named = path / "classes.txt"
    lines = named.read_text(encoding="utf-8").splitlines() if named.is_file() else []
    classes = tuple(line.strip() for line in lines if line.strip())

    def read_mask(n: int, image: Image.Image) -> Image.Image:
        return _mask(masks[n], image, classes)

    return _items(path, files, apart, mask=read_mask, labels=(LabelMap("mask", classes),))


def _mask(file: Path, image: Image.Image, classes: Sequence[str]) -> Image.Image:
    """Return the class number of each pixel, 8 bits.

    Raises: DataError for a file that cannot be decoded, or does not fit its image or the classes.
    """
    try:
        with Image.open(file) as mask:
            mask.load()
    except (OSError, ValueError, SyntaxError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(
            f"mask {str(file)!r} cannot be decoded: {reason}; repair or remove the file"
        ) from None
    if mask.mode not in _MASK_MODES:
        raise DataError(
            f"mask {str(file)!r} is of mode {mask.mode}; save it as an indexed (or gray) PNG whose "
            "values are class numbers"
        )
    if mask.size != image.size:
        raise DataError(
            f"mask {str(file)!r} is {mask.size[0]} x {mask.size[1]} pixels, its image "
            f"{image.size[0]} x {image.size[1]}; save both at the same size"
        )
    values = np.asarray(mask)
    wrong = values[(values >= len(classes)) & (values != UNLABELED)]
    if classes and wrong.size:
        raise DataError(
            f"mask {str(file)!r} holds class {int(wrong.max())}, classes.txt names {len(classes)} "
            f"(0 to {len(classes) - 1}); name all, or use {UNLABELED} for no label"
        )
    return Image.fromarray(values.astype(np.uint8))


def tokens(mask: np.ndarray, grid: int) -> np.ndarray:
    """Return the commonest label of each token, `IGNORE` where none has one.

    Shapes: mask (side, side), a class number for each pixel -> int16 (grid, grid).
    """
    cell = len(mask) // grid
    cells = mask.reshape(grid, cell, grid, cell).transpose(0, 2, 1, 3).reshape(grid**2, -1)
    places = np.arange(grid**2)[:, None] * 256 + cells
    counts = np.bincount(places.ravel(), minlength=256 * grid**2).reshape(grid, grid, 256)
    counts = counts[..., :UNLABELED]
    return np.where(counts.any(-1), counts.argmax(-1), IGNORE).astype(np.int16)


def mask_classes(items: Items, train: Tensor, scored: Tensor) -> tuple[LabelMap, ...]:
    """Return the classes of masks: those of classes.txt, or as many as the training masks show.

    Raises: DataError for a single class, or one that no training mask shows the number of.
    """
    [labels] = items.labels
    shown = torch.unique(train)
    if len(shown[shown >= 0]) < 2:
        raise DataError(
            f"masks of {items.source!r} show one class to train on; two or more are needed, as "
            f"numbers from 0 ({UNLABELED} is no label)"
        )
    if labels.classes:
        return (labels,)
    count, highest = int(shown.max()) + 1, int(scored.max())
    if highest >= count:
        raise DataError(
            f"masks of {items.source!r} show class {highest} to be scored and none above "
            f"{count - 1} to train on; raise train_size, or name all classes in classes.txt"
        )
    return (LabelMap("mask", tuple(map(str, range(count)))),)
