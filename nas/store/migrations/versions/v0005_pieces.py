"""The times of parts of networks, of which a design's latency is the sum."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


_STUDY = sa.table(
    "nas_study",
    sa.column("id", sa.Integer),
    sa.column("settings", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "nas_piece",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("on_id", sa.String(64), nullable=False),
        sa.Column("piece_id", sa.String(64), nullable=False),
        sa.Column("on", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("piece", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("ms", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_piece")),
        sa.UniqueConstraint("on_id", "piece_id", name=op.f("uq_nas_piece_on_id_piece_id")),
    )


def downgrade() -> None:
    """Drop the table, whose times can be measured again, and what settings say of them."""
    op.drop_table("nas_piece")
    connection = op.get_bind()
    for row in connection.execute(sa.select(_STUDY.c.id, _STUDY.c.settings)).all():
        settings = {k: v for k, v in row.settings.items() if k not in ("latency", "baselines")}
        connection.execute(
            _STUDY.update().where(_STUDY.c.id == row.id).values(settings=settings)
        )
