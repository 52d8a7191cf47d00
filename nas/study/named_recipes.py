"""Recipes that ship, by name; `--recipe` takes one of them or a file."""

from __future__ import annotations

from pathlib import Path

from kernels.errors import nearest
from nas.errors import DataError
from nas.study.recipe import Recipe

_SHIPPED = Path(__file__).parent / "recipes"


def list_recipes() -> list[str]:
    """Return the names of the recipes that ship, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_recipe(source: str | Path) -> Recipe:
    """Return a recipe by its name, or from a YAML file.

    Raises: DataError for what is neither, and for a file as `Recipe.load`.
    """
    name, known = str(source), list_recipes()
    if name in known:
        return Recipe.load(_SHIPPED / f"{name}.yaml")
    if not Path(source).exists() and "/" not in name and "." not in name:
        hint = nearest(name, known, f"names: {', '.join(known)}; or a file")
        raise DataError(f"no recipe {name!r}; {hint}")
    return Recipe.load(source)
