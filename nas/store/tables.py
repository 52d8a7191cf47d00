"""The schema: what a study leaves behind, in ten tables beside Optuna's own.

Every table is named nas_*. Nothing refers to Optuna's tables by a foreign key, so that its own
tools may delete or migrate them. Times are seconds since 1970, UTC. A change here needs a new
file in migrations/versions and a new REVISION.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from backbones.image_size import ImageSize

REVISION = "0005"
VERSION_TABLE = "nas_alembic_version"
PREFIX = "nas_"
# Conditions of partial indexes. SQLite uses one only for a query that says the same, to the letter.
TRAINED_ONCE = text("newest AND role <> 'replay'")
QUEUED = text("newest AND state = 'waiting'")
UNTOLD = text("NOT told")
# For queries by proposal: `Run.newest` reads "newest = 1" in SQLite, which then prefers an index
# that begins with it, and reads the whole study.
NEWEST = text("newest")
_WIDTHS = 2**16  # more than any image is wide


class Base(DeclarativeBase):
    """Base of the tables; its metadata holds ours and nothing of Optuna's."""

    # SQLite can only change a constraint that has a name.
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        float: Double(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


class PixelSize(TypeDecorator[ImageSize]):
    """A size of images as one number: a side, or of rectangles height * 2**16 + width."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: ImageSize | None, dialect: Any) -> int | None:
        """Return what is stored."""
        return value if value is None or isinstance(value, int) else value[0] * _WIDTHS + value[1]

    def process_result_value(self, value: Any, dialect: Any) -> ImageSize | None:
        """Return what was meant."""
        if value is None or value < _WIDTHS:
            return None if value is None else int(value)
        return int(value) // _WIDTHS, int(value) % _WIDTHS


class Study(Base):
    """A search: what may vary, under which limits, trained how.

    space_text: the space file as it was, so that the study outlives the file.
    settings: everything else that decides what is proposed and how it is scored.
    place: where and for how long its first driver was to run it; the next one's default.
    trials: candidates wanted; raised when a study is continued.
    confirmation, verdict: what trains again when the search is over (nas.study.confirmation),
        and what came of it (nas.evidence.verdict).
    comparisons: what else is asked of its designs, by kind (nas.study.comparison.Held).
    planner: what a strategy remembers beside the runs (generations of a population).
    blocked: why a driver cannot start trials now (a full disk, no resources), None when it can.
    """

    __tablename__ = "nas_study"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    space_name: Mapped[str] = mapped_column(String(200))
    space_version: Mapped[str] = mapped_column(String(50))
    space_fingerprint: Mapped[str] = mapped_column(String(64))
    space_text: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, Any]]
    place: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    trials: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    planner: Mapped[dict[str, Any] | None]
    confirmation: Mapped[dict[str, Any] | None]
    verdict: Mapped[dict[str, Any] | None]
    comparisons: Mapped[dict[str, Any] | None]
    blocked: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]


class Architecture(Base):
    """A design, by the fingerprint of its config, with its cost as one convention counts it."""

    __tablename__ = "nas_architecture"
    __table_args__ = (UniqueConstraint("fingerprint", "convention", "image_size", "space_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    config: Mapped[dict[str, Any]]
    flops: Mapped[int] = mapped_column(BigInteger)
    params: Mapped[int] = mapped_column(BigInteger)
    convention: Mapped[str] = mapped_column(String(20))
    image_size: Mapped[ImageSize] = mapped_column(PixelSize)
    space_name: Mapped[str] = mapped_column(String(200))
    space_version: Mapped[str] = mapped_column(String(50))
    space_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]


class Environment(Base):
    """Where runs ran: host, devices, versions; the id is a hash of the facts."""

    __tablename__ = "nas_environment"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class Run(Base):
    """One attempt to train one proposal.

    trial_number: what users call the trial by, dense from 0; Optuna's copy has the same.
    proposal: the index of the proposal in its study, counted from 0, baselines first.
    attempt: from 1; newest: whether no later attempt exists. Only the newest counts.
    role: candidate, baseline or replay (a proposal that was trained before in this study), or
        what another stage calls its runs. stage: what the training is for (nas.study.proposals).
    seed_index: which of the study's seeds. repeat: counts trainings alike in all else.
    split: the data that was scored. recipe, recipe_id: another one than the study's, and its
        fingerprint.
    label: of a baseline, its preset. kind: how the strategy came by the proposal.
    params: choices as a tuner stores them; choices: as the space writes them.
    sampler: what the strategy attached to the proposal.
    state: waiting, running, or the class of the outcome (nas.study.outcomes).
    halvings: how often the batch was cut for lack of memory.
    scores: by name. score: the one that the study goes by.
    told: whether Optuna's copy of the trial shows the state, or need not.
    progress_at, progress_batch: when it last moved, and how many updates it had made then.
    environment_id, node: of the process that trains; of the driver until that has reported.
    lease_token: grows with every claim; a write with an older one is refused. Kept with the
        owner after the end, so that a write that was cut off can be recognized as done.
    """

    __tablename__ = "nas_run"
    __table_args__ = (
        UniqueConstraint("study_id", "trial_number", "attempt"),
        UniqueConstraint("study_id", "proposal", "attempt"),
        # What makes two drivers that propose one design at once train it once.
        Index(
            "nas_run_trained_once",
            "study_id",
            "fingerprint",
            "stage",
            "seed_index",
            "repeat",
            "split",
            "recipe_id",
            unique=True,
            sqlite_where=TRAINED_ONCE,
            postgresql_where=TRAINED_ONCE,
        ),
        Index(
            "nas_run_queued",
            "study_id",
            "proposal",
            sqlite_where=QUEUED,
            postgresql_where=QUEUED,
        ),
        Index("nas_run_by_state", "study_id", "newest", "state", "score"),
        Index("nas_run_by_role", "study_id", "newest", "role", "state"),
        Index(
            "nas_run_untold",
            "study_id",
            sqlite_where=UNTOLD,
            postgresql_where=UNTOLD,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("nas_study.id"))
    trial_number: Mapped[int | None]
    proposal: Mapped[int]
    attempt: Mapped[int]
    newest: Mapped[bool]
    role: Mapped[str] = mapped_column(String(20))
    label: Mapped[str | None] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))
    architecture_id: Mapped[int] = mapped_column(ForeignKey("nas_architecture.id"))
    fingerprint: Mapped[str] = mapped_column(String(64))
    params: Mapped[dict[str, Any]]
    choices: Mapped[dict[str, Any]]
    sampler: Mapped[dict[str, Any]]
    space_version: Mapped[str] = mapped_column(String(50))
    seed: Mapped[int] = mapped_column(BigInteger)
    stage: Mapped[str] = mapped_column(String(20), default="search", server_default="search")
    seed_index: Mapped[int] = mapped_column(default=0, server_default="0")
    repeat: Mapped[int] = mapped_column(default=0, server_default="0")
    split: Mapped[str] = mapped_column(String(20), default="val", server_default="val")
    recipe: Mapped[dict[str, Any] | None]
    recipe_id: Mapped[str] = mapped_column(String(64), default="", server_default="")
    state: Mapped[str] = mapped_column(String(20))
    halvings: Mapped[int]
    score: Mapped[float | None]
    scores: Mapped[dict[str, Any] | None]
    objectives: Mapped[list[Any] | None]
    metrics: Mapped[dict[str, Any] | None]
    replay_of: Mapped[int | None] = mapped_column(ForeignKey("nas_run.id"))
    told: Mapped[bool]
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int]
    lease_expires: Mapped[float | None]
    checkpoint: Mapped[str | None] = mapped_column(Text)
    backend: Mapped[str | None] = mapped_column(String(40))
    device: Mapped[str | None] = mapped_column(String(40))
    dtype: Mapped[str | None] = mapped_column(String(20))
    environment_id: Mapped[str | None] = mapped_column(ForeignKey("nas_environment.id"))
    node: Mapped[str | None] = mapped_column(String(200))
    progress_at: Mapped[float | None]
    progress_batch: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    design: Mapped[Architecture] = relationship()


class Epoch(Base):
    """What one epoch of a run showed."""

    __tablename__ = "nas_epoch"

    run_id: Mapped[int] = mapped_column(ForeignKey("nas_run.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    metrics: Mapped[dict[str, Any]]
    at: Mapped[float]


class Measurement(Base):
    """A measured property of a design on a device, e.g. latency; setup says exactly what ran."""

    __tablename__ = "nas_measurement"
    __table_args__ = (UniqueConstraint("architecture_id", "metric", "device", "setup_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    architecture_id: Mapped[int] = mapped_column(ForeignKey("nas_architecture.id"))
    metric: Mapped[str] = mapped_column(String(40))
    device: Mapped[str] = mapped_column(String(200))
    setup_id: Mapped[str] = mapped_column(String(64))
    setup: Mapped[dict[str, Any]]
    value: Mapped[float]
    environment_id: Mapped[str | None] = mapped_column(ForeignKey("nas_environment.id"))
    at: Mapped[float]


class Piece(Base):
    """The time of a part of networks on a device; any study of this database goes by it.

    piece, on: what was timed, on what (`backbones.pieces`, `nas.study.latency`); the ids are
    hashes of these. Units: ms, of one batch.
    """

    __tablename__ = "nas_piece"
    __table_args__ = (UniqueConstraint("on_id", "piece_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    on_id: Mapped[str] = mapped_column(String(64))
    piece_id: Mapped[str] = mapped_column(String(64))
    on: Mapped[dict[str, Any]]
    piece: Mapped[dict[str, Any]]
    ms: Mapped[float]
    at: Mapped[float]


class Export(Base):
    """A file written for a run; verified says that a fresh interpreter rebuilt it."""

    __tablename__ = "nas_export"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("nas_run.id"), index=True)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    verified: Mapped[bool]
    at: Mapped[float]
