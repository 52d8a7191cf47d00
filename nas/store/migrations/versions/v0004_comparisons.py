"""What else is asked of a study's designs beside a confirmation, and what was found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "nas_study", sa.Column("comparisons", sa.JSON(none_as_null=True), nullable=True)
    )


def downgrade() -> None:
    """Drop the column; the runs stay."""
    op.drop_column("nas_study", "comparisons")
