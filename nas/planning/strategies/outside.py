"""Strategies from elsewhere: any Optuna sampler, by the name module:Class."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nas.errors import StudyError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search_spaces import SearchSpace

_NUMPY_SEED = 0xFFFFFFFF
_FORMS = "give module:Class of an Optuna sampler, or module:function of (space, seed)"


def name_of(strategy: str | Callable[..., Any]) -> str:
    """Return the name of a strategy, as a study stores it.

    Raises: StudyError for a class or function that no other session could import.
    """
    if isinstance(strategy, str):
        return strategy
    module = getattr(strategy, "__module__", "__main__")
    name = getattr(strategy, "__qualname__", "")
    if module == "__main__" or not name or "<" in name:
        shown = name or type(strategy).__name__
        raise StudyError(
            f"strategy {shown!r}: a study that is continued could not import it; {_FORMS}, kept in "
            "a module"
        )
    parts = module.split(".")
    packages = [".".join(parts[: n + 1]) for n in range(len(parts))]
    # The package that shows it, rather than the file it is written in, which may move.
    shown_by = (p for p in packages if getattr(sys.modules.get(p), name, None) is strategy)
    return f"{next(shown_by, module)}:{name}"


def find(name: str) -> Callable[[SearchSpace, int], BaseSampler]:
    """Import the strategy of a name, module:Class; modules of this folder are found too.

    A class or function that takes `space` is given the space and the seed; any other the seed.
    Raises: StudyError for a name that names none, or one that cannot be seeded.
    """
    module, _, path = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise StudyError(f"strategy {name!r}: {error}; {_FORMS}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1, 0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StudyError(f"strategy {name!r}: {module} has no {part!r}{hint}; {_FORMS}")
        found = getattr(found, part)
    if not callable(found):
        raise StudyError(f"strategy {name!r} is a {type(found).__name__}; {_FORMS}")
    wanted = inspect.signature(found).parameters
    unfilled = [
        at
        for at, parameter in wanted.items()
        if at not in ("space", "seed")
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if "seed" not in wanted or unfilled:
        lacks = f"asks for {unfilled[0]!r}" if unfilled else "takes no seed"
        raise StudyError(
            f"strategy {name!r} {lacks}, so a study could not make it again; write a function of "
            "(space, seed) that returns it"
        )

    def make(space: SearchSpace, seed: int) -> BaseSampler:
        given = {"space": space, "seed": seed} if "space" in wanted else {"seed": seed}
        return _made(name, found, {**given, "seed": seed & _NUMPY_SEED})

    return make


def _made(name: str, maker: Callable[..., Any], given: dict[str, Any]) -> BaseSampler:
    """Return what a maker from elsewhere makes.

    Raises: StudyError for what is no Optuna sampler, or one whose own package is missing.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import BaseSampler

    try:
        with warnings.catch_warnings():  # one for every proposal
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = maker(**given)
    except ImportError as error:
        raise StudyError(f"strategy {name!r} needs a package: {error}; install it") from None
    if not isinstance(sampler, BaseSampler):
        raise StudyError(f"strategy {name!r} makes a {type(sampler).__name__}; {_FORMS}")
    return sampler
