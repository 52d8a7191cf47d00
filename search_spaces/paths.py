"""Config paths: where in a backbone config a choice writes.

A path names keys and positions from the top of the config, joined by dots:
`stages.0.depth`, `blocks.q.mixer.order.levels`. A part may list alternatives, `blocks.q|s.ffn`,
or be `*` for all: the choice then writes its value to each place.
"""

from __future__ import annotations

from typing import Any

from kernels.errors import nearest
from search_spaces.errors import SpaceError

Path = tuple[str | int, ...]


def expand(text: str, data: dict[str, Any]) -> list[Path]:
    """Return the places that a written path names in a full config dump.

    The last part must exist as well, except below a place that is null in `data`: there the
    rest of the path is returned as written, for another choice may fill that place.
    Raises: SpaceError naming the first part that does not exist, and the nearest key.
    """
    found: list[tuple[Path, Any]] = [((), data)]
    parts = text.split(".")
    for position, part in enumerate(parts):
        deeper: list[tuple[Path, Any]] = []
        for path, node in found:
            if node is None:
                deeper.append(((*path, *_as_keys(part)), None))
                continue
            for key in _keys(part, node, ".".join(parts[:position]), text):
                deeper.append(((*path, key), node[key]))
        found = deeper
    return [path for path, _ in found]


def _as_keys(part: str) -> Path:
    return (int(part),) if part.isdigit() else (part,)


def _keys(part: str, node: Any, above: str, text: str) -> list[str | int]:
    if isinstance(node, dict):
        known: list[str | int] = list(node)
    elif isinstance(node, list):
        known = list(range(len(node)))
    else:
        raise SpaceError(
            f"path {text!r} does not exist: {above} is the value {node!r} and holds no {part!r}"
        )
    if part == "*":
        return known
    keys: list[str | int] = []
    for name in part.split("|"):
        key: str | int = int(name) if isinstance(node, list) and name.isdigit() else name
        if key not in known:
            held = [str(k) for k in known]
            hint = nearest(name, held, f"{'it' if above else 'the config'} holds {', '.join(held)}")
            under = f"{above} has no {name!r}" if above else f"there is no {name!r}"
            raise SpaceError(f"path {text!r} does not exist: {under}; {hint}")
        keys.append(key)
    return keys


def write(data: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at a path of plain data in place."""
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def within(path: Path, ancestor: Path) -> bool:
    """Return whether a path is `ancestor` or lies under it."""
    return path[: len(ancestor)] == ancestor
