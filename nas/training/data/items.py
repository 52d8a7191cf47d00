"""Images in files that are not read yet, whoever listed them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from nas.errors import DataError
from nas.training.data.registry import LabelMap


@dataclass(frozen=True)
class Items:
    """Images that are not read yet.

    read: n -> image. name: n -> what to call it. label: n -> label, without decoding; None where
    labels are not used. mask: (n, the image) -> the class number of each pixel, 8 bits, in place of
    `label`. labels: what they mean; names of the classes of masks may be left to be counted
    (empty). apart: images that are kept for the test, if any.
    """

    source: str
    count: int
    read: Callable[[int], Image.Image]
    name: Callable[[int], str]
    label: Callable[[int], int] | None = None
    mask: Callable[[int, Image.Image], Image.Image] | None = None
    labels: tuple[LabelMap, ...] = ()
    apart: Items | None = None


def decode(items: Items, n: int) -> Image.Image:
    """Return image n, decoded; DataError names one that cannot be."""
    try:
        image = items.read(n)
        image.load()
        return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        # PIL reports broken files with any of these; the file is what the user needs to know.
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(
            f"image {items.name(n)!r} cannot be decoded: {reason}; repair or remove the file"
        ) from None


def cropped(image: Image.Image, side: int, *, exact: bool = False) -> Tensor:
    """Return the middle of an image whose shorter side becomes `side`: uint8 (C, side, side).

    exact: values are names, to be taken from one pixel and not averaged.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as T

    how = InterpolationMode.NEAREST if exact else InterpolationMode.BILINEAR
    pixels: Tensor = T.pil_to_tensor(T.center_crop(T.resize(image, [side], how), [side]))
    return pixels
