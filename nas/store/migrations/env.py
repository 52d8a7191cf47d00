"""What Alembic runs for each command: our tables only, on the connection it was handed."""

from __future__ import annotations

from alembic import context

from nas.store.migrations.filters import is_ours
from nas.store.tables import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_name=is_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
