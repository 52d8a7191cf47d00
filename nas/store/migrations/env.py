"""What Alembic runs for each command: our tables only, on the connection it was handed."""

from __future__ import annotations

from typing import Any

from alembic import context

from nas.store.tables import PREFIX, VERSION_TABLE, Base


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Keep Optuna's tables, which live in the same database, out of sight."""
    return kind != "table" or (name is not None and name.startswith(PREFIX))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_name=is_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
