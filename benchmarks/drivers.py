"""Many drivers on one study in PostgreSQL: how long asks take, how many connections there are.

    python benchmarks/drivers.py [--drivers 64] [--trials 20] [--seconds 20]

Each driver is a process as any, but for its trainings, which wait (`--seconds`, as long as the
default proxy on a CPU trains). It ends when the study is whole: after about `--trials` times
`--seconds`, and what the asks take. They are timed one by one, proposals and their rows together;
connections are counted on the server twice a second. Figures go
to benchmarks/results/drivers_<date>.json; exit code 1 says that a bar is missed: asks under 0.5 s
at the 95th percentile, two connections a driver and two for the copy for Optuna, every driver told
the same best trial, no design trained twice.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import queue
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from orchestration import no_training, settings  # noqa: E402
from sqlalchemy import create_engine, select, text  # noqa: E402

from nas.driver.access import Done, Wait  # noqa: E402
from nas.driver.coordinator import Coordinator  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import create_study, open_study  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.store.tables import Run  # noqa: E402
from nas.study.attempts import Attempt  # noqa: E402

NAME = "many"
ASK_S, OWN_CONNECTIONS, COPYING = 0.5, 2, 2


def drive(url: str, seconds: float, ready: Any, answers: Any) -> None:
    """Be a driver; put the seconds of each ask, and the best trial at the end, on a queue."""
    asks: list[float] = []
    plain = Coordinator.next

    def timed(driver: Coordinator) -> Attempt | Wait | Done:
        started = time.monotonic()
        work = plain(driver)
        if isinstance(work, Attempt):
            asks.append(time.monotonic() - started)
        return work

    def waits(config: Any, recipe: Any, *, report: Any, **_: Any) -> Any:
        def slow(metrics: Any) -> None:
            time.sleep(seconds * random.uniform(0.7, 1.3) / recipe.epochs)
            report(metrics)

        return no_training(config, recipe, report=slow)

    Coordinator.next = timed  # type: ignore[method-assign]
    study = open_study(NAME, url)
    ready.wait()
    time.sleep(random.random() * seconds)  # drivers of a cluster do not march in step
    last = run(study, InlineExecutor(waits))
    study.close()
    answers.put((asks, last.best_trial))


@contextmanager
def roomy_server() -> Iterator[Any]:
    """Give a server that takes 300 connections."""
    import pgserver

    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    server = pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    try:
        server.psql("ALTER SYSTEM SET max_connections = 300;")
        process = psutil.Process(server.get_pid())  # reads that at its start alone
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        server.ensure_postgres_running()
        yield server
    finally:
        server.cleanup()


def watch(server: Any, started: list[Any], answers: Any) -> tuple[list[Any], int]:
    """Wait for the drivers; return their answers, and the most connections they had.

    Raises: RuntimeError where one has died.
    """
    count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scannas'")
    engine = create_engine(server.get_uri().replace("postgresql:", "postgresql+psycopg:"))
    most, found = 0, []
    with engine.connect() as connection:
        while len(found) < len(started):
            most = max(most, connection.execute(count).scalar_one())
            connection.rollback()
            if dead := [process.exitcode for process in started if process.exitcode]:
                raise RuntimeError(f"{len(dead)} drivers ended with {dead}")
            with suppress(queue.Empty):
                found.append(answers.get(timeout=0.5))
    engine.dispose()
    return found, most


def measure(drivers: int, trials: int, seconds: float) -> dict[str, Any]:
    """Let drivers train a study; return the figures."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drivers"])
    ready, answers = context.Event(), context.Queue()
    with roomy_server() as server:
        url = server.get_uri()
        made = settings(trials=drivers * trials)
        create_study(made, url, name=NAME, check_data=False).close()
        started = [
            context.Process(target=drive, args=(url, seconds, ready, answers), daemon=True)
            for _ in range(drivers)
        ]
        for process in started:
            process.start()
        ready.set()
        found, most = watch(server, started, answers)
        for process in started:
            process.join()
        study = open_study(NAME, url)
        rows = study.store.read(lambda s: s.execute(select(Run.fingerprint, Run.role)).all())
        study.close()
    trained = [r.fingerprint for r in rows if r.role != "replay"]
    # A driver's first ask reads the study and loads libraries; it is told apart.
    first = [own[0] for own, _ in found if own]
    asks = np.concatenate([np.asarray(own[1:] or own) for own, _ in found if own])
    return {
        "drivers": drivers,
        "trials": len(trained),
        "seconds_a_trial": seconds,
        "asks": len(asks),
        "first_ask_s": {"p50": round(float(np.median(first)), 4), "p100": round(max(first), 4)},
        "ask_s": {f"p{q}": round(float(np.percentile(asks, q)), 4) for q in (50, 95, 99, 100)},
        "most_connections": most,
        "best_told": sorted({best for _, best in found}),
        "trained_twice": len(trained) - len(set(trained)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=20, help="a driver, on average")
    parser.add_argument("--seconds", type=float, default=20.0, help="a trial takes")
    given = parser.parse_args()
    record = measure(given.drivers, given.trials, given.seconds)
    now = datetime.now(timezone.utc)
    record |= {"at": now.isoformat(timespec="seconds"), "cores": os.cpu_count()}
    record |= {"processor": platform.processor() or platform.machine()}
    missed = [
        name
        for name, kept in (
            ("asks", record["ask_s"]["p95"] < ASK_S),
            (
                "connections",
                record["most_connections"] <= OWN_CONNECTIONS * given.drivers + COPYING,
            ),
            ("best", len(record["best_told"]) == 1),
            ("once", record["trained_twice"] == 0),
        )
        if not kept
    ]
    record["missed"] = missed
    print(json.dumps(record, indent=2))
    out = ROOT / "benchmarks" / "results" / f"drivers_{now:%Y-%m-%d}.json"
    so_far = json.loads(out.read_text()) if out.exists() else []
    out.write_text(json.dumps([*so_far, record], indent=1) + "\n")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
