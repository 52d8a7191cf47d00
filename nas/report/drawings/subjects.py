"""What a picture is asked of: a scan order, an architecture or a space, by name or by file."""

from __future__ import annotations

from pathlib import Path

import yaml

from backbones import list_presets, load_config
from backbones.image_size import ImageSize
from backbones.registry import ORDERS
from kernels.errors import nearest
from nas.errors import StudyError
from nas.report.drawings import architectures, orders, spaces
from nas.report.drawings.style import save
from nas.study.orders import read_order
from search_spaces import SearchSpace, list_spaces

SORTS = ("order", "arch", "space")


def draw(
    what: str, out: Path, *, grid: orders.Grid = (14, 14), image_size: ImageSize = 224
) -> Path:
    """Draw a subject to a file, SVG, PNG or PDF by its name.

    what: a kind of scan order, or a mapping that describes one; a preset, config file or exported
        file; a shipped space or space file. `order:`, `arch:` or `space:` before it says which.
    grid: (H, W) tokens of the map on which an order is drawn.
    Raises: StudyError for a subject that is unknown or could be several, and for a bad file name;
        ConfigError or SpaceError for a subject that cannot be read.
    """
    sort, name = find_subject(what)
    title = Path(name).stem
    if sort == "order":
        order = read_order(name)
        routes = orders.visited(order, grid)
        figure = orders.order_figure(order, routes)
        title, said = order.kind, orders.order_alternative(order, routes)
    elif sort == "arch":
        config = load_config(name)
        figure = architectures.architecture_figure(config, name=title, image_size=image_size)
        said = architectures.architecture_alternative(config, title, image_size)
    else:
        space = SearchSpace.load(name)
        figure, said = spaces.space_figure(space), spaces.space_alternative(space)
    return save(figure, out, title=title, alternative=said)


def find_subject(what: str) -> tuple[str, str]:
    """Return the sort of a subject, one of SORTS, and its name."""
    sort, colon, name = what.partition(":")
    if colon and sort in SORTS:
        return sort, name
    if what.lstrip().startswith("{"):
        return "order", what
    known = {"order": list(ORDERS.places), "arch": list_presets(), "space": list_spaces()}
    sorts = [sort for sort, names in known.items() if what in names]
    if not sorts and Path(what).is_file():
        sorts = ["space" if _holds_choices(Path(what)) else "arch"]
    if not sorts:
        every = [name for names in known.values() for name in names]
        hint = nearest(what, every, "name an order, a preset, a space or a file")
        raise StudyError(f"nothing to draw is called {what!r}; {hint}")
    if len(sorts) > 1:
        choices = " or ".join(f"{sort}:{what}" for sort in sorts)
        raise StudyError(f"{what!r} is more than one thing; write {choices}")
    return sorts[0], what


def parse_grid(text: str) -> orders.Grid:
    """Return (H, W) of `14x14`, or of one side.

    Raises: StudyError for what is no grid of 1 to 128 tokens a side.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 0 < int(side) <= 128 for side in sides):
        raise StudyError(f"grid {text!r} must be one or two sides of 1 to 128 tokens, e.g. 14x14")
    return int(sides[0]), int(sides[-1])


def _holds_choices(path: Path) -> bool:
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return False  # what is wrong with it is said when it is loaded
    return isinstance(document, dict) and "choices" in document
