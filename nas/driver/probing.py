"""From what a user wrote to a probe: networks that differ in one mixer alone, and controls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import backbones
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.registry import MIXERS, ORDERS
from kernels.errors import nearest
from nas.errors import StudyError
from nas.study.budget import parse_budget
from nas.study.comparison import Compared, ProbeAsked
from nas.study.orders import read_order
from nas.study.recipe import Recipe
from nas.study.settings import Settings
from nas.training.probes import CONTROLS, TASKS, ProbeTask, equal_routes, network, recipe, ssm
from nas.training.scaling import as_it_is, proxy_config
from search_spaces import SearchSpace
from search_spaces.errors import SpaceError

_BUDGET = "0.001-1000GFLOPs"  # a probe's networks are as they are; nothing is fitted
_SCAN_CONTROLS = ("one route, repeated", "random routes")
_USUAL = Recipe()  # backbones are scaled by its share of their FLOPs


def probe_name(subjects: Sequence[str]) -> str:
    """Return a study's name for a probe of these subjects."""
    words = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", Path(s).stem).strip("-") for s in subjects)
    return f"probe-{words}"[:80].rstrip("-")


def parse_tasks(names: Sequence[str] | None) -> tuple[ProbeTask, ...]:
    """Return the tasks of these names, all without any; StudyError for an unknown one."""
    for name in names or ():
        if name not in TASKS:
            hint = nearest(name, TASKS, f"use {' or '.join(TASKS)}")
            raise StudyError(f"no probe is called {name!r}; {hint}")
    return tuple(task for task in TASKS if not names or task in names)


def probe_of(
    subjects: Sequence[str],
    tasks: Sequence[ProbeTask],
    *,
    seeds: int,
    seed: int = 0,
    updates: int | None = None,
    threads: int = 2,
) -> tuple[Settings, ProbeAsked]:
    """Return the settings of a study that only probes, and what is asked of it.

    subjects: scan orders and mixers, which stand in a single-stage network, four routes each where
    routes have names; or backbones, scaled down.
    Raises: StudyError for a subject that is unknown, given twice, or cannot act on the map, and
    for orders beside backbones.
    """
    if len(set(subjects)) != len(subjects):
        raise StudyError(f"{next(s for s in subjects if subjects.count(s) > 1)!r} is given twice")
    sorts = {subject: _sort(subject) for subject in subjects}
    if len({sort == "backbone" for sort in sorts.values()}) > 1:
        raise StudyError(
            "orders and mixers are probed in a network of one stage, backbones in their own: "
            f"ask for them apart ({', '.join(f'{s} is a {sort}' for s, sort in sorts.items())})"
        )
    recipes = {task: recipe(task, updates=updates, threads=threads) for task in tasks}
    designs, notes = [], []
    for task in tasks:
        named, said = _networks(sorts, task)
        notes += [f"{task}: {line}" for line in said]
        designs += [
            _compared(name, task, config, recipes[task], control=name in CONTROLS)
            for name, config in named.items()
        ]
    first = recipes[tasks[0]]
    settings = Settings.of(
        space=_space(BackboneConfig.model_validate(designs[0].config)),
        budget=parse_budget([_BUDGET]),
        recipe=first,
        trials=0,
        seed=seed,
        warm_start="none",
        image_size=first.image_size,
    )
    data = {str(task): made.to_dict() for task, made in recipes.items()}
    return settings, ProbeAsked(
        seeds=seeds, recipes=data, designs=tuple(designs), notes=tuple(notes)
    )


def _sort(subject: str) -> str:
    if subject.lstrip().startswith("{") or subject in ORDERS.places:
        return "order"
    if subject in MIXERS.places:
        return "mixer"
    if subject in backbones.list_presets() or Path(subject).is_file():
        return "backbone"
    known = [*ORDERS.places, *MIXERS.places, *backbones.list_presets()]
    hint = nearest(subject, known, "name an order, a mixer, a preset or a file")
    raise StudyError(f"nothing to probe is called {subject!r}; {hint}")


def _networks(
    sorts: dict[str, str], task: ProbeTask
) -> tuple[dict[str, BackboneConfig], list[str]]:
    """Return the networks of subjects and controls by name, and what to know of them."""
    found: dict[str, BackboneConfig] = {}
    notes: list[str] = []
    for subject, sort in sorts.items():
        if sort == "backbone":
            how = recipe(task).model_copy(update={"flops_ratio": _USUAL.flops_ratio})
            found[subject], said = proxy_config(backbones.load_config(subject), how, 0, 3)
            notes += [f"{subject}: {line}" for line in said]
        elif sort == "mixer":
            found[subject] = _single(subject, task, {"kind": subject})
        else:
            order = equal_routes(read_order(subject))
            found[subject] = _single(subject, task, ssm(order.model_dump()))
            if order.num_routes != 4:
                notes.append(f"{subject} has {order.num_routes} routes, others 4")
    base = next(iter(found.values()))
    single = "backbone" not in sorts.values()
    for name, mixer in CONTROLS.items():
        scans = name in _SCAN_CONTROLS
        if single:
            found[name] = network(task, ssm(mixer) if scans else mixer)
        elif (changed := _replaced(base, mixer, scans)) is not None:
            found[name] = changed
        else:
            notes.append(f"no control {name!r}: {next(iter(sorts))} scans nothing")
    return _once(found, notes), notes


def _once(found: dict[str, BackboneConfig], notes: list[str]) -> dict[str, BackboneConfig]:
    """Return the networks that differ, controls first to stay, and note what others are."""
    known: dict[str, str] = {}
    for name in sorted(found, key=lambda n: n not in CONTROLS):
        first = known.setdefault(found[name].fingerprint(), name)
        if first != name:
            notes.append(f"{name} is the same network as {first}")
    return {name: config for name, config in found.items() if name in known.values()}


def _single(subject: str, task: ProbeTask, mixer: dict[str, Any]) -> BackboneConfig:
    try:
        return network(task, mixer)
    except ValueError as error:
        raise StudyError(f"{subject!r} cannot stand in a probe: {error}") from None


def _replaced(base: BackboneConfig, mixer: dict[str, Any], scans: bool) -> BackboneConfig | None:
    """Return a backbone with its mixers, or its scans' routes, replaced; None without any."""
    raw = base.to_dict()
    changed = False
    for block in raw["blocks"].values():
        own = block["mixer"]
        if not scans:
            block["mixer"], changed = mixer, True
        elif own.get("kind") == "ssm":
            own |= {"order": mixer, "shift": None, "cascade": False, "split": False}
            changed = True
    for stage in raw["stages"]:
        stage.pop("routes", None)
    return BackboneConfig.model_validate(raw) if changed else None


def _compared(
    name: str, task: ProbeTask, config: BackboneConfig, how: Recipe, *, control: bool
) -> Compared:
    """Return a network as it is compared; an order that cannot act on the map is an error."""
    try:
        as_it_is(config, how, 0, 3)
    except (ConfigError, SpaceError) as error:
        raise StudyError(f"{name!r} on {task}: {error}") from None
    cost = backbones.cost(config, how.image_size)
    return Compared(
        name=f"{name}, {task}",
        role="control" if control else "candidate",
        group=task,
        fingerprint=config.fingerprint(),
        config=config.to_dict(),
        flops=cost.flops,
        params=cost.params,
    )


def _space(base: BackboneConfig) -> SearchSpace:
    """Return a space around a probe's first network: a study has one, here unsearched."""
    depth = base.stages[0].depth
    text = yaml.safe_dump(
        {
            "schema": 1,
            "name": "probe",
            "version": 1,
            "description": "A probe's first network; nothing of it is searched.",
            "base": base.to_dict(),
            "choices": {
                "depth": {
                    "range": [depth, depth + 1],
                    "sets": "stages.0.depth",
                    "about": "blocks of stage 1",
                }
            },
        },
        sort_keys=False,
    )
    return SearchSpace.from_text(text, "space of a probe")
