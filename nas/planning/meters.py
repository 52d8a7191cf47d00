"""What designs cost that must be measured: latency on a device, and the memory of a training.

Both are sums over the pieces of a design (`backbones.pieces`). What this process has measured is
kept in a table for each device; a driver fills it from its database and writes back what is new,
so that every piece is measured once a study, and all drivers of one reckon with the same times.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import backbones
from backbones.config import BackboneConfig
from backbones.outside import TimmConfig
from backbones.pieces import Piece
from nas.errors import StudyError
from nas.study.latency import LatencyDevice
from nas.study.settings import Settings
from search_spaces.fit import MEASURED, Band, MeteredBand, spent_of
from search_spaces.meters import PieceMeter


class Times:
    """The times of pieces on one device, in ms, by their keys.

    fresh: those measured here that no database has, and what each is of.
    """

    def __init__(self, device: LatencyDevice) -> None:
        self.device = device
        self.known: dict[str, float] = {}
        self.fresh: dict[str, dict[str, Any]] = {}

    def take(self, stored: Mapping[str, float]) -> None:
        """Take over what a database has; its times go before those measured here."""
        self.known |= stored
        for key in stored:
            self.fresh.pop(key, None)

    def of(self, piece: Piece) -> float:
        """Return the time of a piece in ms, measured unless it is known.

        Raises: StudyError on another machine than the one whose times these are.
        """
        key = piece.key
        if key not in self.known:
            from nas.planning.timing import time_of

            self.check_here()
            self.known[key] = time_of(piece, self.device)
            self.fresh[key] = piece.describe()
        return self.known[key]

    def check_here(self) -> None:
        """Raise StudyError unless this machine is the one whose times these are."""
        from nas.planning.timing import this_device

        here = this_device(self.device.device, batch=self.device.batch, like=self.device)
        if (changed := self.device.difference(here)) is not None:
            raise StudyError(
                f"this design has a part that was not timed yet, and this machine is another one: "
                f"{changed}; run the driver where the study began, or begin a new one here"
            )


@cache
def times_on(device: LatencyDevice) -> Times:
    """Return what this process knows of a device."""
    return Times(device)


_memories: dict[str, float] = {}
"""What pieces keep in training, in bytes, by their keys: the same on every machine."""


def _memory(piece: Piece) -> float:
    key = piece.key
    if key not in _memories:
        from nas.planning.timing import memory_of

        _memories[key] = memory_of(piece)
    return _memories[key]


def bands_of(settings: Settings) -> tuple[Band, ...]:
    """Return a study's bands; those of what is measured can measure it."""
    return tuple(
        MeteredBand(b.metric, b.lo, b.hi, _meter(settings, b.metric)) if b.metric in MEASURED else b
        for b in settings.budget.bands
    )


def measured(config: BackboneConfig, settings: Settings) -> dict[str, float]:
    """Return what a study measures of a design: latency in ms, memory in bytes, or nothing."""
    names = settings.measures
    if not names:
        return {}
    bands = [MeteredBand(name, 0, 1, _meter(settings, name)) for name in names]
    spent = spent_of(config, bands, settings.image_size, settings.budget.convention)
    return dict(zip(names, spent))


def measured_whole(config: TimmConfig, settings: Settings) -> dict[str, float]:
    """Return the same of a network that cannot be taken apart, measured as one.

    Raises: StudyError on another machine than the one that the study's times are of.
    """
    if not settings.measures:
        return {}
    from nas.planning import timing

    found: dict[str, float] = {}
    if settings.latency is not None:
        times_on(settings.latency).check_here()
        found["latency"] = timing.whole_ms(config, settings.image_size, settings.latency)
    if "memory" in settings.measures:
        found["memory"] = float(timing.whole_bytes(config, settings.image_size))
    return {name: found[name] for name in settings.measures}


def costs_of(config: BackboneConfig, settings: Settings) -> dict[str, float]:
    """Return all costs that a study bounds, or has as an objective, and flops and params."""
    cost = backbones.cost(config, settings.image_size, settings.budget.convention)
    return {"flops": cost.flops, "params": cost.params, **measured(config, settings)}


def _meter(settings: Settings, metric: str) -> PieceMeter:
    if metric == "memory":
        return PieceMeter(_memory)
    assert settings.latency is not None, "checked by the settings"
    return PieceMeter(times_on(settings.latency).of)
