"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

console = Console()


def emit(data: Any, as_json: bool, view: Callable[[Any], RenderableType]) -> None:
    """Print `data` as JSON, or as `view` renders it."""
    if as_json:
        print(json.dumps(data, indent=2, default=str))
    else:
        console.print(view(data))


def say(line: str) -> None:
    """Print a line as it is: neither colored nor broken."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    numeric: Sequence[str] | str = (),
) -> Table:
    """Make a table; `numeric` names the columns to align right, if a text separated by blanks."""
    right = numeric.split() if isinstance(numeric, str) else numeric
    out = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for column in columns:
        out.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        out.add_row(*("" if cell is None else str(cell) for cell in row))
    return out
