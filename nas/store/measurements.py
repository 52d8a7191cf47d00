"""What was measured of designs and of their parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.store.now import Time
from nas.store.session import insert_if_new
from nas.store.tables import Measurement, Piece
from nas.study.latency import LatencyDevice
from nas.study.settings import Settings

UNITS = {"latency": "latency_ms", "memory": "memory_bytes"}
"""What a measurement of a design is called in the database."""
ANYWHERE = "any"


def times(session: Session, on: LatencyDevice) -> dict[str, float]:
    """Return the times of all parts that were timed on a device, in ms, by their keys."""
    query = select(Piece.piece_id, Piece.ms).where(Piece.on_id == on.key)
    return {key: ms for key, ms in session.execute(query)}


def add_times(
    session: Session,
    on: LatencyDevice,
    fresh: Mapping[str, tuple[Mapping[str, Any], float]],
    now: Time,
) -> dict[str, float]:
    """Add times of parts by their keys; return what counts: a time that was there first stays."""
    for key, (piece, ms) in fresh.items():
        values = {"on_id": on.key, "piece_id": key, "on": on.to_dict(), "piece": dict(piece)}
        insert_if_new(session, Piece, Piece.id, **values, ms=ms, at=now)
    query = select(Piece.piece_id, Piece.ms).where(Piece.on_id == on.key)
    return {k: ms for k, ms in session.execute(query.where(Piece.piece_id.in_(list(fresh))))}


def add(
    session: Session,
    architecture_id: int,
    measured: Mapping[str, float],
    settings: Settings,
    now: Time,
) -> None:
    """Write down what a study measured of a design."""
    for name, value in measured.items():
        on = settings.latency if name == "latency" else None
        insert_if_new(
            session,
            Measurement,
            Measurement.id,
            architecture_id=architecture_id,
            metric=UNITS[name],
            device=ANYWHERE if on is None else on.name,
            setup_id="" if on is None else on.key,
            setup={} if on is None else on.to_dict(),
            value=value,
            at=now,
        )


def of_design(session: Session, architecture_id: int, settings: Settings) -> dict[str, float]:
    """Return what `add` wrote."""
    names = {UNITS[name]: name for name in settings.measures}
    key = "" if settings.latency is None else settings.latency.key
    query = select(Measurement.metric, Measurement.value).where(
        Measurement.architecture_id == architecture_id,
        Measurement.metric.in_(names),
        Measurement.setup_id.in_(("", key)),
    )
    return {names[metric]: value for metric, value in session.execute(query)}
