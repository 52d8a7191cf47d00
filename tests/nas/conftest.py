"""Databases to test on: SQLite in a fresh folder, PostgreSQL in a fresh database of one server."""

import os
import signal
import tempfile
import uuid

import pytest
from doubles import FakeClock


@pytest.fixture(scope="session")
def postgres_server():
    """A real server on a socket file, or a skip that says why there is none."""
    pgserver = pytest.importorskip("pgserver")
    pytest.importorskip("psycopg")
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="pg")  # short: the path of a socket has a limit
    try:
        server = pgserver.get_server(folder, cleanup_mode="delete")
    except Exception as error:  # whatever keeps a server from starting here
        pytest.skip(f"pgserver cannot start a server: {error}")
    # What is tested are deaths of processes; the machine stays up.
    server.psql("ALTER SYSTEM SET fsync = off;")
    server.psql("SELECT pg_reload_conf();")
    yield server
    # At once: an orderly shutdown would first write all the databases to disk.
    os.kill(server.get_pid(), signal.SIGQUIT)
    server.cleanup()


@pytest.fixture
def own_server():
    """A server that may be killed."""
    pgserver = pytest.importorskip("pgserver")
    from pgserver.postgres_server import PostgresServer

    folder = tempfile.mkdtemp(prefix="pg")
    try:
        server = pgserver.get_server(folder, cleanup_mode="delete")
    except Exception as error:  # whatever keeps a server from starting here
        pytest.skip(f"pgserver cannot start a server: {error}")
    assert isinstance(server, PostgresServer)
    yield server
    server.cleanup()


@pytest.fixture
def postgres_url(postgres_server):
    """A URL of a database of its own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    return postgres_server.get_uri(name)


@pytest.fixture(scope="session")
def password_server(postgres_server):
    """The same server, which asks the role `hushed` for a password."""
    rules = postgres_server.pgdata / "pg_hba.conf"
    rules.write_text("local all hushed scram-sha-256\n" + rules.read_text())
    postgres_server.psql("CREATE ROLE hushed SUPERUSER LOGIN PASSWORD 'hu/s@h';")
    postgres_server.psql("SELECT pg_reload_conf();")
    return postgres_server


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/nas.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request):
    """Each supported database in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def clock():
    return FakeClock()
