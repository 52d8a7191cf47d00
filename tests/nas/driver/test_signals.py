"""Signals to a real driver: the first stops it cleanly, the second at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles import FakeProxy, new_study, settings
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.executors.inline import InlineExecutor
from nas.store.tables import Run

DRIVER = Path(__file__).with_name("crashing_driver.py")


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.id))))


def start_training(url, log, seconds):
    """Start a driver and wait until it trains."""
    study = new_study(url, settings(trials=2), clock=SystemClock())
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), url, "s", "", "0", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EPOCH_SECONDS": str(seconds)},
    )
    give_up = time.monotonic() + 60
    while not [r for r in rows(study) if r.state == "running" and r.trial_number is not None]:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return study, process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_first_signal_stops_after_the_epoch(sqlite_url, tmp_path, name):
    study, process = start_training(sqlite_url, tmp_path / "log", seconds=1.0)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == f"stopped by {name}"
    (row,) = rows(study)
    assert (row.state, row.attempt) == ("waiting", 1)
    run(open_study("s", sqlite_url), InlineExecutor(FakeProxy(log=tmp_path / "log")))
    epochs = [line.split()[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert epochs == ["1", "2", "3"] * 2  # no epoch twice
    assert [(r.state, r.attempt) for r in rows(study)] == [("complete", 1)] * 2
    study.close()


def test_second_signal_stops_at_once(sqlite_url, tmp_path):
    study, process = start_training(sqlite_url, tmp_path / "log", seconds=30.0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    (row,) = rows(study)
    assert (row.state, row.attempt) == ("waiting", 1)
    study.close()
