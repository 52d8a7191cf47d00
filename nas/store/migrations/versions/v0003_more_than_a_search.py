"""Several trainings of a design in one study, what a run shows while it runs, and where it ran.

A study's settings lose what belongs to a run of a driver: that is its place from now on. Its
budget is stored as bands, so that the default width of a band may change later.
"""

import json
import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ONCE = sa.text("newest AND role <> 'replay'")
_KEY = ["study_id", "fingerprint", "stage", "seed_index", "repeat", "split", "recipe_id"]
_PLACE = ("device", "backend", "timeout_s", "trial_timeout_s")
_STUDY = sa.table(
    "nas_study",
    sa.column("id", sa.Integer),
    sa.column("settings", sa.JSON(none_as_null=True)),
    sa.column("place", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    """Add the columns, widen the key, and part settings from place."""
    for column in (
        sa.Column("stage", sa.String(20), nullable=False, server_default="search"),
        sa.Column("seed_index", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("repeat", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("split", sa.String(20), nullable=False, server_default="val"),
        sa.Column("recipe_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("recipe", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("scores", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress_at", sa.Double(), nullable=True),
        sa.Column("progress_batch", sa.Integer(), nullable=True),
        sa.Column("node", sa.String(200), nullable=True),
    ):
        op.add_column("nas_run", column)
    op.add_column(
        "nas_study",
        sa.Column("place", sa.JSON(none_as_null=True), nullable=False, server_default="{}"),
    )
    for name in ("confirmation", "verdict"):
        op.add_column("nas_study", sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    _index(_KEY)
    _number()
    for row in op.get_bind().execute(sa.select(_STUDY.c.id, _STUDY.c.settings)).all():
        settings = dict(row.settings)
        place = {key: settings.pop(key, None) for key in _PLACE}
        place = {key: value for key, value in place.items() if value is not None}
        if "budget" in settings:
            settings["budget"] = _bands(settings["budget"])
        settings["seeds"] = "per design"
        _update(row.id, settings, place)


def _number() -> None:
    """Number trials of drivers that died between their row and Optuna's, which gave numbers."""
    run = sa.table(
        "nas_run", *(sa.column(c) for c in ("id", "study_id", "proposal", "trial_number", "told"))
    )
    without = sa.select(run.c.id, run.c.study_id).where(run.c.trial_number.is_(None))
    for row in op.get_bind().execute(without.order_by(run.c.proposal)).all():
        last = sa.select(sa.func.max(run.c.trial_number)).where(run.c.study_id == row.study_id)
        number = op.get_bind().execute(last).scalar()
        changed = sa.update(run).where(run.c.id == row.id)
        number = 0 if number is None else number + 1
        op.get_bind().execute(changed.values(trial_number=number, told=sa.false()))


def downgrade() -> None:
    """Put the settings together again and drop the columns; refused with rows that need them."""
    _index(_KEY[:2])
    for row in op.get_bind().execute(sa.select(_STUDY)).all():
        settings = {**dict(row.settings), **{key: row.place.get(key) for key in _PLACE}}
        settings.pop("seeds", None)
        if "budget" in settings:
            settings["budget"] = settings["budget"]["text"]
        _update(row.id, settings, {})
    for name in ("place", "confirmation", "verdict"):
        op.drop_column("nas_study", name)
    for name in (*_KEY[2:], "recipe", "scores", "progress_at", "progress_batch", "node"):
        op.drop_column("nas_run", name)


def _index(columns: list[str]) -> None:
    op.drop_index("nas_run_trained_once", table_name="nas_run")
    op.create_index(
        "nas_run_trained_once",
        "nas_run",
        columns,
        unique=True,
        sqlite_where=_ONCE,
        postgresql_where=_ONCE,
    )


def _update(study: int, settings: dict[str, Any], place: dict[str, Any]) -> None:
    changed = sa.update(_STUDY).where(_STUDY.c.id == study)
    op.get_bind().execute(changed.values(settings=settings, place=place))


def _bands(texts: list[str]) -> dict[str, Any]:
    """Read budgets as the version did that stored them: without a low end, from 0.95 of it."""
    bands, convention = [], "fvcore"
    for text in texts:
        found = re.fullmatch(r"\s*(?:([\d.]+)\s*-\s*)?([\d.]+)\s*([kmgt]?)(flops|macs|params)\s*",
                             text.lower())
        if found is None:
            raise ValueError(f"cannot read the stored budget {json.dumps(text)}")
        low, high, prefix, unit = found.groups()
        scale = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[prefix]
        hi = float(high) * scale
        lo = float(low) * scale if low else 0.95 * hi
        bands.append({"metric": "params" if unit == "params" else "flops", "lo": lo, "hi": hi})
        convention = "macs" if unit == "macs" else convention
    return {"text": list(texts), "bands": bands, "convention": convention}
