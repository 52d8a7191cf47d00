"""Many drivers on one study in PostgreSQL: how long asks take, how many connections there are.

    python benchmarks/drivers.py [--drivers 64] [--trials 20] [--seconds 20]

Each driver is a process that asks for a trial, waits as if it trained (`--seconds`, as the default
proxy on a CPU), and reports its epochs and its score, `--trials` times. Asks are timed one by one,
proposals and their rows together; connections are counted on the server twice a second. Figures go
to benchmarks/results/drivers_<date>.json; exit code 1 says that a bar is missed: asks under 0.5 s
at the 95th percentile, two connections a driver and one that copies for Optuna, every driver told
the same best trial, no design trained twice.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
from orchestration import Metrics, score_of, settings  # noqa: E402
from sqlalchemy import create_engine, select, text  # noqa: E402

from nas.driver.access import Done, Wait  # noqa: E402
from nas.driver.coordinator import Coordinator  # noqa: E402
from nas.driver.studies import create_study, open_study  # noqa: E402
from nas.store import runs  # noqa: E402
from nas.store.tables import Run  # noqa: E402
from nas.study.attempts import Result  # noqa: E402
from nas.study.outcomes import Outcome  # noqa: E402

NAME, EPOCHS = "many", 3
ASK_S, OWN_CONNECTIONS, COPYING = 0.5, 2, 1


def drive(url: str, trials: int, seconds: float, ready: Any, answers: Any) -> None:
    """Be a driver; put the seconds of each ask, and the best trial at the end, on a queue."""
    study = open_study(NAME, url)
    driver = Coordinator(study, environment={"host": "bench"}, progress=lambda event: None)
    asks = []
    ready.wait()
    time.sleep(random.random() * seconds)  # drivers of a cluster do not march in step
    while True:
        started = time.monotonic()
        work = driver.next()
        took = time.monotonic() - started
        if isinstance(work, Done):
            break
        if isinstance(work, Wait):
            time.sleep(work.seconds)
            continue
        asks.append(took)
        for epoch in range(1, EPOCHS + 1):
            time.sleep(seconds * random.uniform(0.7, 1.3) / EPOCHS)
            driver.epoch(work, Metrics(epoch, EPOCHS))
        score = score_of(work.fingerprint)
        driver.finish(
            work, Result(Outcome.COMPLETE, score=score, objectives=(score,), metrics={"epochs": 3})
        )
    driver.close()
    best = study.store.read(lambda s: runs.best(s, study.id))
    answers.put((asks, None if best is None else best[1]))
    study.close()


def measure(drivers: int, trials: int, seconds: float) -> dict[str, Any]:
    """Let drivers train a study; return the figures."""
    import pgserver

    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    server = pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET max_connections = 300;")
    url = server.get_uri()
    study = create_study(settings(trials=drivers * trials), url, name=NAME, check_data=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drivers"])
    ready, answers = context.Event(), context.Queue()
    started = [
        context.Process(target=drive, args=(url, trials, seconds, ready, answers), daemon=True)
        for _ in range(drivers)
    ]
    for process in started:
        process.start()
    ready.set()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scannas'")
    most, found = 0, []
    with engine.connect() as connection:
        while len(found) < drivers:
            most = max(most, connection.execute(count).scalar_one())
            connection.rollback()
            time.sleep(0.5)
            while not answers.empty():
                found.append(answers.get())
    for process in started:
        process.join()
    rows = study.store.read(lambda s: s.execute(select(Run.fingerprint, Run.role)).all())
    study.close()
    engine.dispose()
    server.cleanup()
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
        "most_connections": most - 2,  # this process's own
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
