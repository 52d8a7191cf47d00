"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "nas_architecture",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("config", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("flops", sa.BigInteger(), nullable=False),
        sa.Column("params", sa.BigInteger(), nullable=False),
        sa.Column("convention", sa.String(length=20), nullable=False),
        sa.Column("image_size", sa.Integer(), nullable=False),
        sa.Column("space_name", sa.String(length=200), nullable=False),
        sa.Column("space_version", sa.String(length=50), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_architecture")),
        sa.UniqueConstraint(
            "fingerprint",
            "convention",
            "image_size",
            "space_id",
            name=op.f("uq_nas_architecture_fingerprint_convention_image_size_space_id"),
        ),
    )
    op.create_index(
        op.f("ix_nas_architecture_fingerprint"), "nas_architecture", ["fingerprint"], unique=False
    )
    op.create_table(
        "nas_environment",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_environment")),
    )
    op.create_table(
        "nas_study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("space_name", sa.String(length=200), nullable=False),
        sa.Column("space_version", sa.String(length=50), nullable=False),
        sa.Column("space_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("space_text", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("planner", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_study")),
        sa.UniqueConstraint("name", name=op.f("uq_nas_study_name")),
    )
    op.create_table(
        "nas_measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("architecture_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("setup_id", sa.String(length=64), nullable=False),
        sa.Column("setup", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("environment_id", sa.String(length=16), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["architecture_id"],
            ["nas_architecture.id"],
            name=op.f("fk_nas_measurement_architecture_id"),
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["nas_environment.id"],
            name=op.f("fk_nas_measurement_environment_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_measurement")),
        sa.UniqueConstraint(
            "architecture_id",
            "metric",
            "device",
            "setup_id",
            name=op.f("uq_nas_measurement_architecture_id_metric_device_setup_id"),
        ),
    )
    op.create_table(
        "nas_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trial_number", sa.Integer(), nullable=True),
        sa.Column("proposal", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=True),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("architecture_id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("choices", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sampler", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("space_version", sa.String(length=50), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("halvings", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("objectives", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("replay_of", sa.Integer(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_expires", sa.Double(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("backend", sa.String(length=40), nullable=True),
        sa.Column("device", sa.String(length=40), nullable=True),
        sa.Column("dtype", sa.String(length=20), nullable=True),
        sa.Column("environment_id", sa.String(length=16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["architecture_id"], ["nas_architecture.id"], name=op.f("fk_nas_run_architecture_id")
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["nas_environment.id"], name=op.f("fk_nas_run_environment_id")
        ),
        sa.ForeignKeyConstraint(["replay_of"], ["nas_run.id"], name=op.f("fk_nas_run_replay_of")),
        sa.ForeignKeyConstraint(["study_id"], ["nas_study.id"], name=op.f("fk_nas_run_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_run")),
        sa.UniqueConstraint(
            "study_id", "proposal", "attempt", name=op.f("uq_nas_run_study_id_proposal_attempt")
        ),
        sa.UniqueConstraint(
            "study_id",
            "trial_number",
            "attempt",
            name=op.f("uq_nas_run_study_id_trial_number_attempt"),
        ),
    )
    op.create_index(
        "nas_run_by_role", "nas_run", ["study_id", "newest", "role", "state"], unique=False
    )
    op.create_index(
        "nas_run_by_state", "nas_run", ["study_id", "newest", "state", "score"], unique=False
    )
    op.create_index(
        "nas_run_trained_once",
        "nas_run",
        ["study_id", "fingerprint"],
        unique=True,
        sqlite_where=sa.text("newest AND role <> 'replay'"),
        postgresql_where=sa.text("newest AND role <> 'replay'"),
    )
    op.create_index(
        "nas_run_untold",
        "nas_run",
        ["study_id"],
        unique=False,
        sqlite_where=sa.text("NOT told"),
        postgresql_where=sa.text("NOT told"),
    )
    op.create_table(
        "nas_epoch",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["nas_run.id"], name=op.f("fk_nas_epoch_run_id")),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_nas_epoch")),
    )
    op.create_table(
        "nas_export",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["nas_run.id"], name=op.f("fk_nas_export_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nas_export")),
    )
    op.create_index(op.f("ix_nas_export_run_id"), "nas_export", ["run_id"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index(op.f("ix_nas_export_run_id"), table_name="nas_export")
    op.drop_table("nas_export")
    op.drop_table("nas_epoch")
    op.drop_index(
        "nas_run_untold",
        table_name="nas_run",
        sqlite_where=sa.text("NOT told"),
        postgresql_where=sa.text("NOT told"),
    )
    op.drop_index(
        "nas_run_trained_once",
        table_name="nas_run",
        sqlite_where=sa.text("newest AND role <> 'replay'"),
        postgresql_where=sa.text("newest AND role <> 'replay'"),
    )
    op.drop_index("nas_run_by_state", table_name="nas_run")
    op.drop_index("nas_run_by_role", table_name="nas_run")
    op.drop_table("nas_run")
    op.drop_table("nas_measurement")
    op.drop_table("nas_study")
    op.drop_table("nas_environment")
    op.drop_index(op.f("ix_nas_architecture_fingerprint"), table_name="nas_architecture")
    op.drop_table("nas_architecture")
