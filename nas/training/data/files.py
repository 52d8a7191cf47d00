"""Data sets that are read from files: folders of images, and timm's data sets.

Every image that a recipe selects is decoded once, resized to the shorter side and cropped to
the middle, and kept as bytes; a proxy trains dozens of networks on the same few thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.errors import DataError
from nas.training.data.catalog import LEAST_IMAGES, MEMORY_LIMIT
from nas.training.data.draws import permutation

# At most this share of the images is set aside for validation.
_VAL_SHARE = 0.2
_DECODERS = 4
# Names that timm may be asked for. Others can only be streamed (tfds/, hfids/, wds/), and some run
# what their location says: a `pipe:` of webdataset is a shell command.
_INDEXED = ("torch", "hfds")


@dataclass(frozen=True)
class Items:
    """Labeled images that are not read yet.

    label: n -> label, without decoding. read: n -> image. name: n -> what to call it.
    """

    source: str
    classes: tuple[str, ...]
    count: int
    label: Callable[[int], int]
    read: Callable[[int], Image.Image]
    name: Callable[[int], str]


def open_items(dataset: str, data_dir: str | None, download: bool) -> Items:
    """List the images of `folder:PATH` or of a timm data set's training split.

    Raises: DataError for a missing folder, fewer than two classes, or a data set that timm
    cannot open.
    """
    if dataset.startswith("folder:"):
        return _open_folder(dataset.removeprefix("folder:"), data_dir)
    return _open_timm(dataset, data_dir, download)


def _open_folder(text: str, data_dir: str | None) -> Items:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    path = Path(text).expanduser()
    if data_dir is not None:
        path = Path(data_dir).expanduser() / path
    if not path.is_dir():
        raise DataError(
            f"folder {str(path)!r} does not exist or is no folder; give folder:PATH with one "
            "subfolder of images per class"
        )
    # A folder laid out as ImageNet is: its validation or test part is not ours to look at.
    if (path / "train").is_dir():
        path = path / "train"
    try:
        names = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
        files = {
            name: sorted(f for f in (path / name).rglob("*") if f.suffix.lower() in IMG_EXTENSIONS)
            for name in names
        }
    except OSError as exc:
        raise DataError(f"cannot list folder {str(path)!r}: {exc.strerror}; check it") from None
    if len(names) < 2:
        raise DataError(
            f"folder {str(path)!r} holds {len(names)} class folder(s), needs two or more: one "
            "subfolder of images per class"
        )
    empty = [name for name in names if not files[name]]
    if empty:
        raise DataError(
            f"class folder {str(path / empty[0])!r} holds no image "
            f"({', '.join(e[1:] for e in IMG_EXTENSIONS[:4])}, ...); add some or remove it"
        )
    listed = [(f, i) for i, name in enumerate(names) for f in files[name]]
    return Items(
        source=str(path),
        classes=tuple(names),
        count=len(listed),
        label=lambda n: listed[n][1],
        read=lambda n: Image.open(listed[n][0]),
        name=lambda n: str(listed[n][0]),
    )


def _open_timm(name: str, data_dir: str | None, download: bool) -> Items:
    from timm.data import create_dataset

    prefix = name.partition("/")[0].lower()
    if prefix not in _INDEXED:
        raise DataError(
            f"dataset {name!r}: only {' and '.join(f'{p}/...' for p in _INDEXED)} can be read by "
            "index; unpack the images and give folder:PATH"
        )
    if prefix == "hfds" and not download:
        # timm passes no such flag on, and the hub is asked even for what is cached.
        raise DataError(
            f"dataset {name!r} may be downloaded, and download is false; set download: true in "
            "the recipe, or unpack the images and give folder:PATH"
        )
    try:
        # Readers of files and torchvision both raise nearly anything; each means the same here.
        data: Any = create_dataset(name, root=data_dir, split="train", download=download)
        count = len(data)
        first = data[0][0] if count else None
    except Exception as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(
            f"dataset {name!r} cannot be read from data_dir {data_dir!r}: {reason.rstrip('.')}; "
            "give --data-dir, or download: true in the recipe"
        ) from None
    if not isinstance(first, Image.Image):
        raise DataError(f"dataset {name!r} holds no images; use one of labeled images")
    classes = _class_names(data, count)
    if len(classes) < 2:
        raise DataError(f"dataset {name!r} has {len(classes)} class, needs two or more")
    targets = getattr(data, "targets", None)
    return Items(
        source=name,
        classes=classes,
        count=count,
        label=lambda n: int(targets[n] if targets is not None else data[n][1]),
        read=lambda n: data[n][0],
        name=lambda n: f"{name} image {n}",
    )


def _class_names(data: Any, count: int) -> tuple[str, ...]:
    if (named := getattr(data, "classes", None)) is not None:
        return tuple(str(c) for c in named)
    indices = getattr(getattr(data, "reader", None), "class_to_idx", None)
    if indices:
        return tuple(sorted((str(k) for k in indices), key=lambda k: int(indices[k])))
    highest = max(int(data[n][1]) for n in range(count))
    return tuple(str(i) for i in range(highest + 1))


def read_splits(
    items: Items, side: int, train_size: int | None, val_size: int | None, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read a training and a validation split, disjoint: uint8 (n, 3, side, side), labels (n,).

    Raises: DataError for too few images, a file that cannot be decoded (named), or more than
    memory should hold.
    """
    order = permutation(items.count, seed)
    n_val = int(items.count * _VAL_SHARE)
    if n_val < LEAST_IMAGES:
        raise DataError(
            f"{items.source!r} holds {items.count} images; a fifth is set aside for validation, "
            f"which takes {int(LEAST_IMAGES / _VAL_SHARE)} or more"
        )
    # The validation images do not depend on either size, only on the seed.
    val, train = order[:n_val][:val_size], order[n_val:][:train_size]
    if (len(train) + len(val)) * 3 * side**2 > MEMORY_LIMIT:
        raise DataError(
            f"{len(train) + len(val)} images of {items.source!r} at {side} px need more than "
            f"{MEMORY_LIMIT // 2**30} GiB; set train_size in the recipe"
        )
    return _read(items, train, side), _read(items, val, side)


def _read(items: Items, index: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    images = torch.empty(len(index), 3, side, side, dtype=torch.uint8)
    labels = torch.tensor([items.label(int(n)) for n in index])

    def put(row: int) -> None:
        images[row] = _decode(items, int(index[row]), side)

    with ThreadPoolExecutor(_DECODERS) as pool:
        for _ in pool.map(put, range(len(index))):
            pass
    return images, labels


def _decode(items: Items, n: int, side: int) -> Tensor:
    from torchvision.transforms import functional as T

    try:
        with items.read(n) as image:
            small = T.center_crop(T.resize(image.convert("RGB"), [side]), [side])
            pixels: Tensor = T.pil_to_tensor(small)
            return pixels
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        # PIL reports broken files with any of these; the file is what the user needs to know.
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(
            f"image {items.name(n)!r} cannot be decoded: {reason}; repair or remove the file"
        ) from None
