"""Search spaces as trees: what may vary, and what exists only when something else is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas.report.drawings.style import COLORS, FAINT, INK, new_sheet, plain_text, swatch
from search_spaces import SearchSpace
from search_spaces.choices import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_ROW, _INDENT, _LEFT, _CHIP, _LETTER = 0.32, 0.32, 0.25, 0.2, 0.066
_OPTIONS_AT = 3.4
_MOST_CHIPS = 12
_NODE, _GROUP, _OPTION = COLORS[0], COLORS[1], COLORS[2]


@dataclass
class Node:
    """A choice, or a condition (no choice) under which those below it exist.

    when: what the choice above must be for this one to exist.
    """

    text: str
    choice: Choice | None = None
    when: str = ""
    below: list[Node] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield this node and all below it, each with its depth."""
        yield depth, self
        for node in self.below:
            yield from node.walk(depth + 1)


def choice_tree(space: SearchSpace) -> Node:
    """Return the choices of a space; one that depends on one other stands below that one.

    Choices that depend on several others stand together below their condition.
    """
    root = Node(f"{space.name}, version {space.version}")
    nodes: dict[str, Node] = {}
    groups: dict[str, Node] = {}
    for row in space.explain():
        node = nodes[row["choice"]] = Node(row["choice"], space.choices[row["choice"]])
        named = [name for name in nodes if re.search(rf"\b{re.escape(name)}\b", row["when"])]
        if not row["when"]:
            root.below.append(node)
        elif len(named) == 1 and named[0] != row["choice"]:
            node.when = row["when"].removeprefix(named[0]).strip()
            nodes[named[0]].below.append(node)
        else:
            if row["when"] not in groups:
                groups[row["when"]] = Node(f"when {row['when']}")
                root.below.append(groups[row["when"]])
            groups[row["when"]].below.append(node)
    return root


@plain_text
def space_figure(space: SearchSpace) -> Figure:
    """Draw the choices of a space as a tree, the options of each beside it."""
    rows = list(choice_tree(space).walk())
    ends = [_OPTIONS_AT + _chips_width(node.choice) for _, node in rows if node.choice]
    titles = [_LEFT + (d + 1) * _INDENT + len(n.text) * _LETTER for d, n in rows]
    about = max([7.0, *ends]) + 0.25
    longest = max((len(n.choice.about) for _, n in rows if n.choice), default=0)
    notes = [f"always: {rule}" for rule in space.constraints]
    wide = max(about + longest * _LETTER * 0.95, *titles) + 0.3
    tall = 0.85 + _ROW * (len(rows) - 1 + len(notes)) + 0.25
    figure, axis = new_sheet(wide, tall)
    axis.text(_LEFT, 0.3, rows[0][1].text, fontsize=13, weight="bold", color=INK, va="center")
    said = f"{space.size:,} designs. {space.description}"
    axis.text(_LEFT, 0.56, said, fontsize=8.5, color=INK, va="center")
    last: dict[int, float] = {0: 0.72}
    for place, (depth, node) in enumerate(rows[1:]):
        y = 0.85 + _ROW * (place + 0.4)
        x = _LEFT + (depth - 1) * _INDENT + 0.12
        axis.plot([x, x, x + 0.16], [last[depth - 1], y, y], color=FAINT, lw=0.8)
        last[depth] = y + 0.09
        color = _GROUP if node.choice is None else _NODE
        axis.plot(x + 0.2, y, "o", ms=5, color=color)
        weight = "normal" if node.choice is None else "bold"
        axis.text(x + 0.32, y, node.text, fontsize=8.5, weight=weight, color=INK, va="center")
        if node.choice is not None:
            end = x + 0.42 + len(node.text) * _LETTER * 1.2
            axis.text(end, y, node.when, fontsize=7.5, color=FAINT, va="center")
            _chips(axis, y, node.choice)
            axis.text(about, y, node.choice.about, fontsize=8, color=FAINT, va="center")
    for place, note in enumerate(notes):
        y = 0.85 + _ROW * (len(rows) - 1 + place + 0.4)
        axis.text(_LEFT, y, note, fontsize=8.5, color=INK, va="center")
    return figure


def space_alternative(space: SearchSpace) -> str:
    """Say in words what the picture shows."""
    rows = "; ".join(
        f"{row['choice']} ({row['options']}{', when ' + row['when'] if row['when'] else ''})"
        for row in space.explain()
    )
    return f"Search space {space.name}: {space.size:,} designs. {rows}."


def _labels(choice: Choice) -> list[str]:
    """Return what the chips of a choice say: its options, or all of them in one."""
    if choice.kind == "int" or len(choice.options) > _MOST_CHIPS:
        return [choice.summary()]
    return [
        "-".join(map(str, o)) if isinstance(o, list) else "none" if o is None else str(o)
        for o in choice.options
    ]


def _chips_width(choice: Choice) -> float:
    return sum(len(label) * _LETTER + 0.22 for label in _labels(choice))


def _chips(axis: Axes, y: float, choice: Choice) -> None:
    x = _OPTIONS_AT
    for label in _labels(choice):
        width = len(label) * _LETTER + 0.14
        swatch(axis, (x, y - _CHIP / 2), (width, _CHIP), _OPTION)
        axis.text(x + width / 2, y, label, fontsize=7.5, color=INK, ha="center", va="center")
        x += width + 0.08
