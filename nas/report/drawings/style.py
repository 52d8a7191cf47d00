"""How pictures look, and how they are written: legible on any page, and to who cannot see them."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from nas.errors import StudyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

PAPER, INK, FAINT = "#ffffff", "#1f2430", "#626b7a"
# Okabe and Ito's colors, told apart by colour-blind readers and in grey.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
FORMATS = (".svg", ".png", ".pdf")
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches; its paper is white on a dark page too."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")


def plain_text(make: Callable[P, T]) -> Callable[P, T]:
    """Let a function that draws write names as they are: a `$` in one begins no formula."""

    @functools.wraps(make)
    def call(*args: P.args, **options: P.kwargs) -> T:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return make(*args, **options)

    return call


def time_colors() -> Colormap:
    """Return the colors from first to last: viridis without the yellow that paper swallows."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)), "time")


def new_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and its one axis, in inches from the upper left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=PAPER)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    return figure, axis


def swatch(axis: Axes, corner: tuple[float, float], size: tuple[float, float], color: str) -> None:
    """Draw a rounded box in a light tint of a color, to write on."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={min(0.08, size[1] / 3)}"
    axis.add_patch(
        FancyBboxPatch(
            corner, *size, boxstyle=style, facecolor=to_rgba(color, 0.16), edgecolor=color,
            linewidth=1.2,
        )
    )  # fmt: skip


def save(figure: Figure, path: Path, *, title: str, alternative: str) -> Path:
    """Write a figure in the format of its name, with a text alternative inside.

    Raises: StudyError for a format that is none of FORMATS, or a place that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise StudyError(f"cannot draw {path.name!r}: use a name that ends in {', '.join(FORMATS)}")
    return put(_written(figure, suffix[1:], title, alternative), path)


def put(content: bytes, path: Path) -> Path:
    """Write a page or a picture and the folders above it; StudyError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as exc:
        raise StudyError(f"cannot write {str(path)!r}: {exc}; choose another --out") from None
    return path


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    name: of a file. alternative: what it shows, in words. photographs: whether it shows pixels,
    which a page then holds as such.
    """

    name: str
    figure: Figure
    alternative: str
    photographs: bool = False

    def inline(self) -> str:
        """Return the picture as the address of an image that a page holds itself."""
        if not self.photographs:
            return f"data:image/svg+xml;base64,{base64.b64encode(self.svg()).decode()}"
        content = _written(self.figure, "png", self.name, self.alternative)
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"

    def svg(self) -> bytes:
        """Return the picture as SVG, the same bytes for the same picture."""
        return _written(self.figure, "svg", self.name, self.alternative)

    def write(self, folder: Path) -> Path:
        """Write the picture as PNG. Raises: StudyError where that cannot be."""
        return save(
            self.figure, folder / f"{self.name}.png", title=self.name, alternative=self.alternative
        )


def _written(figure: Figure, form: str, title: str, alternative: str) -> bytes:
    import matplotlib

    facts: dict[str, str | None] = {
        "Title": title,
        "Subject" if form == "pdf" else "Description": alternative,
    }
    if form == "svg":
        facts["Date"] = None
    out = io.BytesIO()
    # Text stays text: it can be searched, copied and read aloud.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scannas"}):
        figure.savefig(out, format=form, dpi=_DPI, metadata=facts, facecolor=PAPER)
    return out.getvalue()
