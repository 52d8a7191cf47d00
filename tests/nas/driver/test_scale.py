"""Many trials, many workers, much memory: what must stay small stays small."""

import json
import multiprocessing
import re
import resource
import sqlite3
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from doubles import CONDITIONAL, FakeProxy, driver, new_study, proposal, settings
from sqlalchemy import func, insert, select

from nas.driver.running import run
from nas.driver.status import status
from nas.executors.inline import InlineExecutor
from nas.store import leases, queries, runs
from nas.store.session import open_store
from nas.store.tables import Architecture, Epoch, Run
from nas.study.attempts import Result
from nas.study.outcomes import Outcome

ROOT = Path(__file__).resolve().parents[3]
GROWTH_MIB = 200


def memory_mib():
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_hundred_trials_do_not_fill_the_memory(sqlite_url, clock):
    """R9: the driver's memory grows by less than 200 MiB over 100 short trials."""
    study = new_study(sqlite_url, settings(CONDITIONAL, trials=10), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    before = memory_mib()
    ballast = FakeProxy(raises=lambda n, *_: None if n % 5 else MemoryError("no room"))

    def proxy(*args, **options):
        model = bytearray(20 << 20)  # what a leaked model would add, a hundred times
        model.append(model is not model)
        return ballast(*args, **options)

    run(study, InlineExecutor(proxy), trials=110)
    assert memory_mib() - before < GROWTH_MIB
    study.close()


def fill(store, study_id, number, params=30):
    """Write finished trials straight into our tables."""
    config = {"name": "x" * 1000}
    choices = {f"choice_{i}": i % 4 for i in range(params)}

    def add(session):
        for start in range(0, number, 5000):
            indices = range(start, min(start + 5000, number))
            session.execute(
                insert(Architecture),
                [
                    {
                        "id": i + 1,
                        "fingerprint": f"{i:064d}",
                        "config": config,
                        "flops": 4_000_000_000 + i * 7919 % 500_000_000,
                        "params": 20_000_000 + i * 104729 % 10_000_000,
                        "convention": "fvcore",
                        "image_size": 224,
                        "space_name": "grid",
                        "space_version": "1",
                        "space_id": "f" * 64,
                        "created_at": 0.0,
                    }
                    for i in indices
                ],
            )
            session.execute(
                insert(Run),
                [
                    {
                        "study_id": study_id,
                        "trial_number": i,
                        "proposal": i,
                        "attempt": 1,
                        "newest": True,
                        "role": "candidate",
                        "kind": "mutation",
                        "architecture_id": i + 1,
                        "fingerprint": f"{i:064d}",
                        "params": choices,
                        "choices": choices,
                        "sampler": {},
                        "space_version": "1",
                        "seed": i,
                        "state": "complete",
                        "halvings": 0,
                        "score": (i * 2654435761 % 2**32) / 2**32,
                        "objectives": [0.5],
                        "metrics": {"epochs": 3},
                        "told": True,
                        "lease_token": 1,
                        "created_at": 0.0,
                        "started_at": 0.0,
                        "finished_at": 1.0,
                    }
                    for i in indices
                ],
            )

    store.write(add)


def test_reading_makes_as_many_queries_for_any_size(sqlite_url, clock):
    """R8: the number of queries of a page does not grow with the study."""
    from sqlalchemy import Engine, event

    study = new_study(sqlite_url, settings(trials=2000), clock=clock)
    counts = []
    for number in (10, 1000):
        study.store.write(lambda s: s.execute(Run.__table__.delete()))
        study.store.write(lambda s: s.execute(Architecture.__table__.delete()))
        fill(study.store, study.id, number)
        asked = []

        def count(connection, cursor, statement, *rest, into=asked):
            into.append(statement)

        event.listen(Engine, "before_cursor_execute", count)
        queries.summary("s", sqlite_url, top=20)
        status("s", sqlite_url)
        queries.studies(sqlite_url)
        event.remove(Engine, "before_cursor_execute", count)
        counts.append(len(asked))
    assert counts[0] == counts[1]
    study.close()


def test_no_query_of_a_trial_reads_the_whole_study(sqlite_url, clock):
    """R8: proposing and finishing look rows up; counting reads an index alone."""
    from sqlalchemy import Engine, event

    study = new_study(sqlite_url, settings(CONDITIONAL, trials=20), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    study.store.write(lambda s: runs.change_study(s, study.id, trials=30))
    work = driver(study, trials=30)
    asked = {}

    def note(connection, cursor, statement, parameters, *rest):
        # The largest index is the last entry of its index: SQLite reads no other.
        if "FROM nas_run" in statement and "max(nas_run.proposal)" not in statement:
            asked[statement] = parameters

    work.next()  # reads the whole study, once
    event.listen(Engine, "before_cursor_execute", note)
    task = work.next()
    work.finish(task, Result(Outcome.COMPLETE, score=0.5, objectives=(0.5,), metrics={}))
    work.next()
    event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) > 3  # the listener hears: a proposal and an end each read rows
    partial = ("nas_run_untold", "nas_run_queued")  # hold a few rows only
    with sqlite3.connect(study.store.path) as connection:
        for statement, parameters in asked.items():
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
                whole = re.search(r"SCAN nas_run|\(study_id=\?( AND newest=\?)?\)$", row[3])
                assert whole is None or any(name in row[3] for name in partial), (row[3], statement)
    work.close()
    study.close()


def test_summary_of_twenty_thousand_trials_is_right(sqlite_url, clock):
    """R8: `show --top 20` on 20,000 trials; how fast is benchmarks/orchestration.py's to say."""
    study = new_study(sqlite_url, settings(trials=20_000), clock=clock)
    fill(study.store, study.id, 20_000)
    found = queries.summary("s", sqlite_url, top=20)
    scores = [row["score"] for row in found["leaderboard"]]
    assert len(scores) == 20 and scores == sorted(scores, reverse=True)
    best = study.store.read(lambda s: s.scalar(select(func.max(Run.score))))
    assert scores[0] == best == found["pareto"]["flops"][0]["score"]
    for front in found["pareto"].values():
        assert all(a["score"] > b["score"] for a, b in pairwise(front))
    assert found["study"]["counts"] == {"complete": 20_000}
    study.close()


def test_reading_imports_nothing_heavy(sqlite_url, clock):
    study = new_study(sqlite_url, settings(trials=2), clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    study.close()
    code = (
        "import sys, json\n"
        "from nas.driver.status import status\nfrom nas.store import queries\n"
        f"url = {sqlite_url!r}\n"
        "queries.studies(url), queries.summary('s', url), status('s', url)\n"
        "queries.trial('s', url, 0)\n"
        "heavy = ('torch', 'optuna', 'ray', 'alembic', 'numba', 'timm', 'scipy')\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


# --- R3 ----------------------------------------------------------------------------------------


def report_metrics(url, study_id, worker, seconds, rate, failures):
    """A worker: proposes one design, then reports metrics at a rate; puts errors on a queue."""
    store = open_store(url)
    try:
        while True:
            index = store.read(lambda s: runs.next_index(s, study_id))
            new = proposal(index, fingerprint=f"{worker:064d}")
            answer = store.write(
                lambda s, n=new: runs.propose(s, study_id, n, f"w{worker}", time.time(), {})
            )
            if isinstance(answer, Run):
                break
        lease = runs.lease_of(answer)
        started = time.monotonic()
        for epoch in range(int(seconds * rate)):
            store.write(
                lambda s, e=epoch: leases.record_epoch(s, lease, e, {"loss": 1.0}, time.time())
            )
            time.sleep(max(0.0, started + epoch / rate - time.monotonic()))
    except Exception as error:
        failures.put(repr(error))
    finally:
        store.close()


def storm(url, workers, seconds, rate):
    """Let workers report at once while a reader reads; returns (errors, reads)."""
    study = new_study(url, settings(trials=10**6))
    store, study_id = study.store, study.id
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    args = [(url, study_id, i, seconds, rate, failures) for i in range(workers)]
    processes = [context.Process(target=report_metrics, args=a) for a in args]
    for process in processes:
        process.start()
    reads = 0
    while any(p.is_alive() for p in processes):
        status("s", url)
        reads += 1
        time.sleep(0.1)
    for process in processes:
        process.join()
    found = []
    while not failures.empty():
        found.append(failures.get())
    written = store.read(lambda s: s.scalar(select(func.count()).select_from(Epoch)))
    assert written == workers * int(seconds * rate)
    store.close()
    return found, reads


def test_four_workers_report_without_a_lock_error(sqlite_url):
    """R3 in short: concurrent writers and a reader never see a locked database."""
    errors, reads = storm(sqlite_url, workers=4, seconds=3, rate=10)
    assert errors == [] and reads > 0


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_sixteen_workers_report_for_a_minute(url):
    """R3: 16 concurrent workers reporting 10 metrics/s for 60 s produce no lock errors."""
    errors, reads = storm(url, workers=16, seconds=60, rate=10)
    assert errors == [] and reads > 0


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_lock_held_for_thirty_seconds_is_outlasted(sqlite_url, tmp_path, clock):
    """Another program takes SQLite's lock for 30 s in the middle of a study: nothing fails."""
    import threading

    study = new_study(sqlite_url, settings(trials=5), clock=clock)
    path = tmp_path / "nas.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)

    held = []

    def hold(n, *_):
        if n == 2 and not held:
            held.append(n)
            holder.execute("BEGIN IMMEDIATE")
            threading.Timer(30, lambda: holder.execute("COMMIT")).start()

    started = time.monotonic()
    last = run(study, InlineExecutor(FakeProxy(raises=hold)))
    assert last.done == 5
    assert time.monotonic() - started > 29
    assert all(
        r.state == "complete" for r in study.store.read(lambda s: list(s.scalars(select(Run))))
    )
    holder.close()
    study.close()
