"""The schema and its steps agree, and Optuna's tables are nobody's business."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from nas.store.session import open_store
from nas.store.tables import REVISION, VERSION_TABLE, Base
from nas.store.upgrade import alembic_config


@pytest.fixture
def store(url):
    store = open_store(url, create=True)
    yield store
    store.close()


def test_newest_step_is_the_revision_of_the_tables(store):
    with store.engine.connect() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
    assert script.get_current_head() == REVISION


def test_steps_lead_to_the_tables(store):
    from nas.driver.optuna_copy import open_optuna

    with open_optuna(store):
        pass
    from nas.store.migrations import filters

    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "include_name": filters.is_ours},
        )
        assert compare_metadata(context, Base.metadata) == []


def test_optuna_keeps_its_own_version(store):
    from nas.driver.optuna_copy import open_optuna

    with open_optuna(store) as storage:
        assert storage.get_current_version() == storage.get_head_version()
    with store.engine.connect() as connection:
        names = inspect(connection).get_table_names()
        ours = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    assert {"trials", "studies", "alembic_version", "nas_run"} <= set(names)
    assert ours == REVISION


def test_no_table_refers_to_optunas():
    for table in Base.metadata.tables.values():
        for key in table.foreign_keys:
            assert key.column.table.name.startswith("nas_")
