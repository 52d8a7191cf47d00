"""Why a study's drivers cannot start trials, and a shorter way to the trials that wait."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_QUEUED = sa.text("newest AND state = 'waiting'")


def upgrade() -> None:
    """Add the column and the index."""
    op.add_column("nas_study", sa.Column("blocked", sa.Text(), nullable=True))
    op.create_index(
        "nas_run_queued",
        "nas_run",
        ["study_id", "proposal"],
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("nas_run_queued", table_name="nas_run")
    op.drop_column("nas_study", "blocked")
