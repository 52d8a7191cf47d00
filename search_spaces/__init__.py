"""What may vary: search spaces as YAML files.

from search_spaces import Band, SearchSpace
space = SearchSpace.load("quadtree")
config = space.build(space.sample(rng), [Band("flops", 4.275e9, 4.5e9)])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.common.lazy import public

if TYPE_CHECKING:
    from search_spaces.choices import Choice, Choices
    from search_spaces.errors import SpaceError, UnreachableError
    from search_spaces.fit import Band, fit_widths
    from search_spaces.space import SearchSpace, list_ablations, list_spaces

_HOME = {
    "Band": "search_spaces.fit",
    "Choice": "search_spaces.choices",
    "Choices": "search_spaces.choices",
    "SearchSpace": "search_spaces.space",
    "SpaceError": "search_spaces.errors",
    "UnreachableError": "search_spaces.errors",
    "fit_widths": "search_spaces.fit",
    "list_ablations": "search_spaces.space",
    "list_spaces": "search_spaces.space",
}

__all__ = [
    "Band",
    "Choice",
    "Choices",
    "SearchSpace",
    "SpaceError",
    "UnreachableError",
    "fit_widths",
    "list_ablations",
    "list_spaces",
]

__getattr__ = public(__name__, _HOME)
