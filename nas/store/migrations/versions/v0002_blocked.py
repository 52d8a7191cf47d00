"""Why a study's drivers cannot start trials."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("nas_study", sa.Column("blocked", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("nas_study", "blocked")
