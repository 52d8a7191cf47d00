"""A torch data set as a folder of images: what other processes, and a later day, can read again."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.errors import DataError

_WIDTH = 5  # digits of a number in a file's name


def keep_dataset(dataset: Any, folder: Path) -> str:
    """Write a data set's images into a folder named by their content; return `folder:PATH`.

    dataset: __len__ and __getitem__, giving (image, label). Images are PIL's, or uint8 or [0, 1]
    floats of (C, H, W) or (H, W); labels are class numbers, or masks of class numbers (H, W).
    `classes`, an attribute, names the classes.
    Raises: DataError for anything else, naming the index, and where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
            made = Path(part) / "made"
            made.mkdir()
            digest = hashlib.sha256()
            names: Sequence[str] = getattr(dataset, "classes", ())
            for n in range(len(dataset)):
                _write(made, n, *_pair(dataset, n), digest)
            if (made / "masks").is_dir() and names:
                (made / "classes.txt").write_text("\n".join(map(str, names)) + "\n")
                digest.update(repr(list(names)).encode())
            home = folder / f"own-{digest.hexdigest()[:16]}"
            if not home.is_dir():
                shutil.move(made, home)
    except OSError as error:
        raise DataError(
            f"cannot write the data set's images to {str(folder)!r}: {error.strerror}; free space "
            "or choose another storage"
        ) from None
    return f"folder:{home.absolute()}"


def _pair(dataset: Any, n: int) -> tuple[Any, Any]:
    found = dataset[n]
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise DataError(
            f"item {n} of the data set is a {type(found).__name__}; give pairs of image and label"
        )
    return found[0], found[1]


def _write(folder: Path, n: int, image: Any, label: Any, digest: Any) -> None:
    pixels = _image(image, n)
    name = f"{n:0{_WIDTH}}.png"
    if isinstance(label, Tensor) and label.dim() == 0:
        label = label.item()
    if isinstance(label, (int, np.integer)):
        place = folder / f"{int(label):0{_WIDTH}}"
        place.mkdir(exist_ok=True)
        digest.update(f"{n}/{int(label)}".encode())
    else:
        mask = label if isinstance(label, Image.Image) else Image.fromarray(_mask(label, n))
        place = folder / "images"
        for inner in (place, folder / "masks"):
            inner.mkdir(exist_ok=True)
        mask.save(folder / "masks" / name)
        digest.update(np.asarray(mask).tobytes())
    pixels.save(place / name)
    digest.update(repr(pixels.size).encode() + pixels.tobytes())


def _image(image: Any, n: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    values = torch.as_tensor(image)
    if values.is_floating_point():
        if float(values.min()) < 0 or float(values.max()) > 1:
            raise DataError(
                f"image {n} of the data set has values in {float(values.min()):.3g} to "
                f"{float(values.max()):.3g}; give floats in 0 to 1, not normalized, or bytes"
            )
        values = (values * 255).round().to(torch.uint8)
    if values.dim() == 2:
        values = values[None]
    if values.dim() != 3 or values.shape[0] not in (1, 3) or values.dtype != torch.uint8:
        raise DataError(
            f"image {n} of the data set is {values.dtype} of {tuple(values.shape)}; give PIL "
            "images, or (C, H, W) of bytes or floats with 1 or 3 channels"
        )
    return Image.fromarray(values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def _mask(label: Any, n: int) -> np.ndarray:
    values = np.asarray(label)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"label {n} of the data set is {values.dtype} of {values.shape}; give a class number, "
            "or a mask (H, W) of them"
        )
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"mask {n} of the data set has classes beyond 0 to 255 (255 is no label)")
    return values.astype(np.uint8)
