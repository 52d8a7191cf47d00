"""Sizes of images in pixels: a side of a square, or height x width, written 224 and 512x2048."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveInt

from backbones.errors import ConfigError
from backbones.language import Grid

ImageSize = int | tuple[int, int]
LEAST = 32  # pixels a side, of a size that a user gives: smaller ones leave deep stages no token
_TEXT = re.compile(r"(\d{1,5})(?:\s*[xX×]\s*(\d{1,5}))?")


def sides(size: ImageSize | Sequence[int]) -> Grid:
    """Return (height, width)."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def shown(size: ImageSize | Sequence[int]) -> str:
    """Return a size as it is written: 224, or 512x2048."""
    height, width = sides(size)
    return str(height) if height == width else f"{height}x{width}"


def parse_image_size(text: str, least: int = LEAST) -> ImageSize:
    """Read 224 or 512x2048 (height x width); a square is its side.

    Raises: ConfigError for anything else, or a side below `least` pixels.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"image size {text!r} must be a side or HEIGHTxWIDTH in pixels, e.g. 224 or 512x2048"
        )
    height, width = int(found[1]), int(found[2] or found[1])
    if min(height, width) < least:
        raise ConfigError(f"image size {text!r}: a side must have {least} pixels or more")
    return height if height == width else (height, width)


def _read(value: Any) -> Any:
    """Let a field be written as text, and a square as two sides."""
    if isinstance(value, str):
        try:
            value = parse_image_size(value, least=1)
        except ConfigError as error:
            raise ValueError(str(error)) from None
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value


_Size = PositiveInt | tuple[PositiveInt, PositiveInt]
PixelSize = Annotated[_Size, BeforeValidator(_read, json_schema_input_type=_Size | str)]
"""A field of a config: a side, [height, width], or text."""
