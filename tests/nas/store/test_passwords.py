"""No output shows a password, wherever in the URL it stands."""

import sys
import time

import pytest
from doubles import FakeProxy, new_study, settings
from sqlalchemy.engine import make_url

from nas.driver.optuna_copy import open_optuna
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StoreError, StudyError
from nas.executors.inline import InlineExecutor
from nas.store.maintenance import backup_database
from nas.store.session import open_store
from nas.store.urls import parse_url, shown

PASSWORD, ENCODED = "hu/s@h", "hu%2Fs%40h"


@pytest.fixture(params=["before the host", "as a parameter"])
def hushed_url(request, password_server, postgres_url):
    """A database whose server really asks for the password."""
    name, host = make_url(postgres_url).database, f"host={make_url(postgres_url).query['host']}"
    if request.param == "before the host":
        return f"postgresql://hushed:{ENCODED}@/{name}?{host}"
    return f"postgresql://hushed@/{name}?{host}&password={ENCODED}"


def is_clean(said):
    return not any(part in said for part in (PASSWORD, ENCODED, "hu/s", "s@h", "s%40h"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:hush@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql://u@h/d?password=hush", "postgresql+psycopg://u@h/d?password=***"),
        (
            "postgresql://u:hush@h/d?sslpassword=hush&sslmode=require",
            "postgresql+psycopg://u:***@h/d?sslmode=require&sslpassword=***",
        ),
        ("postgresql://u:hu%40sh@h/d", "postgresql+psycopg://u:***@h/d"),
        ("sqlite:///runs/nas.db", "sqlite:///runs/nas.db"),
    ],
)
def test_url_is_shown_without_passwords(url, says):
    assert shown(parse_url(url)) == says


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:hu@sh@host/d", r"'postgresql://\*\*\*@host/d'.*more than one '@'.*%40"),
        ("postgresql://u:hu@sh:1@h/d", "is no database URL"),
        ("postgresql://u:hush@h:port/d", "is no database URL"),
        ("post gres://u:hush@host", "is no database URL"),
        ("nonsense?password=hush", "is no database URL"),
        ("mysql://u:hush@h/d?password=hush", "mysql is not supported"),
    ],
)
def test_refused_url_is_shown_without_passwords(url, says):
    with pytest.raises(StoreError, match=says) as caught:
        open_store(url)
    said = str(caught.value)
    assert "hu@" not in said and "sh:" not in said and "sh@" not in said and "hush" not in said


def test_wrong_password_is_said_at_once(hushed_url):
    """By a server that really asks: one line, no second try, the password not in it."""
    started = time.monotonic()
    with pytest.raises(StoreError, match="check user and password of --storage") as caught:
        open_store(hushed_url.replace("hu%2F", "ha%2F"), create=True)
    assert time.monotonic() - started < 30
    assert "password authentication failed" in str(caught.value)
    assert "\n" not in str(caught.value) and is_clean(str(caught.value))


def test_missing_database_is_said_without_the_password(hushed_url):
    with pytest.raises(StoreError, match="does not exist") as caught:
        open_store(hushed_url.replace("@/t", "@/ghost"), create=True)
    assert is_clean(str(caught.value))


def test_backup_names_pg_dump_without_the_password(hushed_url, tmp_path):
    open_store(hushed_url, create=True).close()
    with pytest.raises(StoreError, match="pg_dump --format=custom") as caught:
        backup_database(hushed_url, tmp_path / "my dump")
    said = str(caught.value)
    assert is_clean(said) and "password" not in said and "***" not in said
    assert "postgresql://hushed@/t" in said and f"'--file={tmp_path}/my dump'" in said


def test_no_command_shows_the_password(hushed_url, tmp_path, monkeypatch, capfd):
    """A study from its start to its export, by whoever prints a URL."""
    from nas.commands import main as front

    monkeypatch.setenv("SCANNAS_STORAGE", hushed_url)
    monkeypatch.chdir(tmp_path)
    study = new_study(hushed_url, settings(trials=2))
    events = []
    run(study, InlineExecutor(FakeProxy()), events.append)
    with open_optuna(study.store):
        pass
    study.close()
    said = [repr(event) for event in events]
    with pytest.raises(StudyError) as caught:
        open_study("ghost", hushed_url)
    said.append(str(caught.value))
    for args in (
        ["studies", "--json"],
        ["status", "s"],
        ["status", "s", "--json"],
        ["show", "s"],
        ["show", "s", "--json"],
        ["show", "s", "--trial", "1"],
        ["show", "ghost"],
        ["db", "check"],
        ["db", "upgrade"],
        ["db", "backup", "x"],
        ["search", "--help"],
    ):
        monkeypatch.setattr(sys, "argv", ["scannas", *args])
        try:
            front.main()
        except SystemExit as stop:
            assert stop.code in (0, 2)
        out, err = capfd.readouterr()
        assert out or err, args
        said.append(out + err)
    assert any("***" in one for one in said)
    assert all(is_clean(one) for one in said)
