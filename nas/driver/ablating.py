"""From what a user wrote to an ablation: the levels of one choice at equal cost, and controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import backbones
from backbones.config import BackboneConfig
from backbones.image_size import ImageSize
from backbones.mixers.controls import IdentityConfig
from backbones.mixers.ssm import SSMConfig
from backbones.orders.routes import RoutesOrder
from backbones.parts import BlockConfig
from kernels.errors import nearest
from nas.driver.request import search_settings
from nas.errors import StudyError
from nas.planning.meters import bands_of
from nas.study.budget import Budget, parse_budget
from nas.study.comparison import AblationAsked, Compared, TableAsked
from nas.study.place import Place
from nas.study.settings import Settings
from nas.training.scaling import network_of
from search_spaces import SearchSpace, fit_widths, list_ablations, list_spaces
from search_spaces.choices import Choices, show
from search_spaces.errors import SpaceError
from search_spaces.space import ABLATIONS

MOST_LEVELS = 12
DEFAULT_STEP = 8


def table_file(name: str) -> Path:
    """Return the file of a paper's ablation table; StudyError for an unknown one."""
    known = list_ablations()
    if name not in known:
        hint = nearest(name, known, f"tables: {', '.join(known)}")
        raise StudyError(f"no ablation table {name!r}; {hint}")
    return ABLATIONS / f"{name}.yaml"


def find_space(config: BackboneConfig, choice: str) -> SearchSpace:
    """Return the smallest shipped space that holds a design and has the choice.

    Raises: StudyError with the reason of each space that has the choice and not the design.
    """
    spaces = sorted((SearchSpace.load(n) for n in list_spaces()), key=lambda s: len(s.choices))
    able = [s for s in spaces if choice in s.choices]
    if not able:
        names = sorted({n for s in spaces for n in s.choices})
        hint = nearest(choice, names, f"choices: {', '.join(names)}")
        raise StudyError(f"no shipped space has a choice {choice!r}; {hint}")
    reasons = []
    for space in able:
        try:
            if choice in space.choices_of(config):
                return space
            reasons.append(f"{space.name}: {choice} does not exist in this design")
        except SpaceError as error:
            reasons.append(f"{space.name}: {error}")
    raise StudyError(
        f"no shipped space holds this design and its {choice!r} ({'; '.join(reasons)}); give a "
        "--space that does"
    )


def equal_budget(config: BackboneConfig, image_size: ImageSize) -> Budget:
    """Return the budget of what a design costs: from 95 % of its FLOPs up to them."""
    mega = math.ceil(backbones.cost(config, image_size).flops / 1e6)
    return parse_budget([f"{mega}MFLOPs"])


def question(
    *,
    place: Place,
    table: str | None = None,
    arch: str | None = None,
    space: str | None = None,
    choice: str = "",
    budget: str | None = None,
    image_size: ImageSize = 224,
    **training: Any,
) -> tuple[Settings, Choices]:
    """Return the settings of a study that only compares, and the point that is changed.

    table: of a paper; its space's base. Else arch, in `space` or in the smallest shipped space
    that holds it; without it, the space's base. training: as `search_settings`.
    Raises: SpaceError, StudyError or DataError for the first thing that is wrong.
    """
    if table is not None:
        where: str | Path = table_file(table)
        config, point = SearchSpace.load(where).base, {}
    else:
        if arch is None and space is None:
            raise StudyError(
                "nothing to change: give ARCH, e.g. vmamba_tiny_s1l8, or --space for its base"
            )
        loaded = None if space is None else SearchSpace.load(space)
        if arch is not None:
            config = backbones.load_config(arch)
            loaded = loaded or find_space(config, choice)
        assert loaded is not None
        config = loaded.base if arch is None else config
        where, point = space or loaded.name, loaded.choices_of(config)
    limits = equal_budget(config, image_size) if budget is None else parse_budget([budget])
    settings = search_settings(
        space=where,
        budget=limits,
        trials=0,
        warm_start="none",
        image_size=image_size,
        place=place,
        **training,
    )
    return settings, point


def ablation_of(
    settings: Settings,
    point: Choices,
    choice: str,
    *,
    subject: str,
    margin: float,
    seeds: int,
    only: Sequence[str] | None = None,
    controls: bool = True,
) -> AblationAsked:
    """Return the levels of one choice of a point, each fitted to the budget, and controls.

    only: the levels to compare, as they are written; all by default. The point's own comes first.
    Levels that the proxy trains as one network stand as one.
    Raises: StudyError for a choice that the point does not have, an unknown level, or fewer than
    two levels to compare.
    """
    space = settings.space
    if choice not in point:
        elsewhere = " (it exists in other designs of the space)" * (choice in space.choices)
        hint = nearest(choice, point, f"choices: {', '.join(point)}")
        raise StudyError(f"{subject} has no choice {choice!r}{elsewhere}; {hint}")
    values = _levels(space, choice, point[choice], only)
    left_out: list[tuple[str, str]] = []
    notes: list[str] = []
    designs: dict[str, Compared] = {}
    for value in values:
        name = show(value)
        try:
            config, also = _with_level(settings, point, choice, value)
        except (SpaceError, ValidationError) as error:
            left_out.append((name, " ".join(str(error).split())))
            continue
        notes += [f"with {choice} = {name}, {also}"] if also else []
        _add(designs, left_out, name, config, settings)
    if len(designs) < 2:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out)
        raise StudyError(f"choice {choice!r} leaves nothing to compare: {why}")
    base = next(iter(designs.values()))
    if controls:
        for name, config in _controls(space, choice, BackboneConfig.model_validate(base.config)):
            try:
                _add(designs, left_out, name, _fitted(config, settings), settings, control=True)
            except (SpaceError, ValidationError) as error:
                left_out.append((name, " ".join(str(error).split())))
    return AblationAsked(
        subject=subject,
        choice=choice,
        margin=margin,
        seeds=seeds,
        designs=tuple(designs.values()),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def table_of(settings: Settings, seeds: int) -> TableAsked:
    """Return a paper's table as designs at equal cost.

    Raises: StudyError where a level cannot meet the budget.
    """
    space = settings.space
    published = space.published
    if published is None:
        raise StudyError(f"space {space.name} has no published numbers; it is no ablation table")
    designs: dict[str, Compared] = {}
    left_out: list[tuple[str, str]] = []
    for row in published.rows:
        rest = {k: v for k, v in row.at.items() if k != published.choice}
        group = ", ".join(f"{k} {show(v)}" for k, v in rest.items())
        level = show(row.at[published.choice])
        name = f"{level}, {group}" if group else level
        config = _fitted(space.build(row.at), settings)
        _add(designs, left_out, name, config, settings, group=group, published=row.scores)
    return TableAsked(
        table=space.name,
        source=published.source,
        metrics=published.metrics,
        seeds=seeds,
        designs=tuple(designs.values()),
        left_out=tuple(left_out),
    )


def _levels(space: SearchSpace, choice: str, own: Any, only: Sequence[str] | None) -> list[Any]:
    options = list(space.choices[choice].options)
    if only is not None:
        known = {show(o): o for o in options}
        for name in only:
            if name not in known:
                hint = nearest(name, known, f"levels: {', '.join(known)}")
                raise StudyError(f"{choice} has no level {name!r}; {hint}")
        options = [known[name] for name in only]
    if len(options) > MOST_LEVELS:
        raise StudyError(
            f"{choice} has {len(options)} levels; name up to {MOST_LEVELS} with --levels, e.g. "
            f"--levels '{';'.join(show(o) for o in options[:3])}'"
        )
    return sorted(options, key=lambda o: o != own)


def _with_level(
    settings: Settings, point: Choices, choice: str, value: Any
) -> tuple[BackboneConfig, str]:
    """Return the design with one choice changed, and in words what had to follow."""
    changed = settings.space.changed(point, choice, value)
    if changed is None:
        raise SpaceError(f"no design of space {settings.space.name} has it")
    moved = [
        f"{n} {show(point[n])} became {show(changed[n])}"
        for n in point
        if n != choice and n in changed and changed[n] != point[n]
    ]
    moved += [f"{n} ceases to exist" for n in point if n not in changed]
    moved += [f"{n} is {show(v)}" for n, v in changed.items() if n not in point]
    return _fitted(settings.space.build(changed), settings), ", ".join(moved)


def _fitted(config: BackboneConfig, settings: Settings) -> BackboneConfig:
    budget, fit = settings.budget, settings.space.fit_step
    return fit_widths(
        config,
        bands_of(settings),
        image_size=settings.image_size,
        convention=budget.convention,
        step=fit or DEFAULT_STEP,
    )


def _add(
    designs: dict[str, Compared],
    left_out: list[tuple[str, str]],
    name: str,
    config: BackboneConfig,
    settings: Settings,
    *,
    control: bool = False,
    group: str = "",
    published: dict[str, float] | None = None,
) -> None:
    """Add a design, unless the proxy trains the same network for one that is there."""
    recipe = settings.recipe
    trained = network_of(config, recipe)
    for known in designs.values():
        if network_of(BackboneConfig.model_validate(known.config), recipe) == trained:
            left_out.append((name, f"the proxy trains the same network as for {known.name}"))
            return
    cost = backbones.cost(config, settings.image_size, settings.budget.convention)
    designs[name] = Compared(
        name=name,
        role="control" if control else "candidate",
        group=group,
        fingerprint=config.fingerprint(),
        config=config.to_dict(),
        flops=cost.flops,
        params=cost.params,
        published=published or {},
    )


def _controls(
    space: SearchSpace, choice: str, base: BackboneConfig
) -> list[tuple[str, BackboneConfig]]:
    """Return designs that ought to be worse where the task shows what such a choice does.

    For orders: as many routes, each a random path. For mixers: none at all.
    """
    ends = {path.rpartition(".")[2] for path in space.choices[choice].sets}
    if ends & {"order", "cascade", "routes"}:
        blocks = {name: _randomized(block) for name, block in base.blocks.items()}
        if blocks != base.blocks:
            return [("random paths", _with_blocks(base, blocks))]
    if ends & {"mixer", "pattern"}:
        update = {"mixer": IdentityConfig()}
        blocks = {name: block.model_copy(update=update) for name, block in base.blocks.items()}
        return [("no mixer", _with_blocks(base, blocks))]
    return []


def _with_blocks(base: BackboneConfig, blocks: dict[str, BlockConfig]) -> BackboneConfig:
    changed = base.model_copy(update={"blocks": blocks})
    return BackboneConfig.model_validate(changed.to_dict())


def _randomized(block: BlockConfig) -> BlockConfig:
    """Return the block with as many routes, each a random path."""
    if not isinstance(block.mixer, SSMConfig):
        return block
    routes = tuple(f"random:{i + 1}" for i in range(block.mixer.order.num_routes))
    plain = {"order": RoutesOrder(routes=routes), "cascade": False, "shift": None}
    return block.model_copy(update={"mixer": block.mixer.model_copy(update=plain)})
