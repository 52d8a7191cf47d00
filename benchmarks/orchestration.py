"""What orchestration costs: overhead per trial, proposals, readers, many workers, 512 workers.

    python benchmarks/orchestration.py [overhead] [ray] [asks] [reads] [workers] [simulate]

Without arguments everything but `ray` and `simulate`. Every figure is measured on this machine,
while it runs what it runs; medians and 95th percentiles are over single calls. `ray` starts a
local Ray: run it where only loopback exists, e.g.

    unshare --net sh -c 'ip link set lo up; python benchmarks/orchestration.py ray'

PostgreSQL is measured where pgserver can start a server. The figures go to
benchmarks/results/orchestration_<date>.json, each part replacing its former figures there.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import insert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nas.driver.access import Done, Wait  # noqa: E402
from nas.driver.coordinator import Coordinator  # noqa: E402
from nas.driver.optuna_copy import sync  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import Study, create_study  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.planning.strategies import list_strategies  # noqa: E402
from nas.planning.strategies.encoding import encode  # noqa: E402
from nas.store import leases, runs  # noqa: E402
from nas.store.session import open_store  # noqa: E402
from nas.store.tables import Architecture, Run  # noqa: E402
from nas.study.attempts import Attempt, Result  # noqa: E402
from nas.study.budget import parse_budget  # noqa: E402
from nas.study.outcomes import Outcome  # noqa: E402
from nas.study.proposals import NewProposal  # noqa: E402
from nas.study.recipe import Recipe  # noqa: E402
from nas.study.settings import Settings  # noqa: E402
from search_spaces import SearchSpace  # noqa: E402

EPOCHS = 3
RECORDED = ROOT / "benchmarks" / "results" / "proxy_runs_6c82a683.jsonl"


_NUMBERS = itertools.count()
_shown: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Metrics:
    """An epoch of a training that takes no time."""

    epoch: int
    epochs: int
    train_loss: float = 1.0
    val_loss: float = 1.0
    val_top1: float = 0.5
    seconds: float = 0.0
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """The end of a training that takes no time."""

    score: float
    top1: float
    val_loss: float = 1.0
    chance: float = 0.0
    epochs: int = EPOCHS
    seconds: float = 0.0
    backend: str = "none"
    device: str = "cpu"
    dtype: str = "float32"
    proxy_params: int = 0
    proxy_flops: int = 0
    notes: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)


def no_training(config: Any, recipe: Recipe, *, report: Any, **_: Any) -> Any:
    """Report every epoch at once."""
    for epoch in range(1, recipe.epochs + 1):
        report(Metrics(epoch, recipe.epochs))
    value = score_of(config.fingerprint())
    return Score(value, value)


def score_of(fingerprint: str) -> float:
    """Return a number that looks random."""
    return int(fingerprint[:8], 16) / 16**8


def settings(strategy: str = "evolution", trials: int = 10**6) -> Settings:
    """Return the settings of `make search`, without baselines."""
    return Settings(
        space=SearchSpace.load("quadtree"),
        budget=parse_budget(["4.5GFLOPs"]),
        recipe=Recipe(epochs=EPOCHS),
        trials=trials,
        strategy=strategy,
        warm_start="none",
    )


@contextmanager
def study(made: Settings, url: str | None = None) -> Iterator[Study]:
    """Make a study in a database that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        opened = create_study(
            made,
            url or f"sqlite:///{folder}/nas.db",
            name=f"bench{next(_NUMBERS)}",
            check_data=False,
        )
        yield opened
        opened.close()


def driver(opened: Study) -> Coordinator:
    """Return a driver of a study."""
    return Coordinator(opened, environment={"host": "bench"}, progress=lambda event: None)


def ended(task: Attempt) -> Result:
    """Return a result for a task."""
    value = score_of(task.fingerprint)
    return Result(Outcome.COMPLETE, score=value, objectives=(value,), metrics={"epochs": EPOCHS})


def show(name: str, **figures: Any) -> None:
    """Print a line of figures, and keep it."""
    _shown[name] = figures
    print(f"{name:<34}" + "  ".join(f"{k} {v}" for k, v in figures.items()), flush=True)


def ms(seconds: float) -> str:
    """Format seconds as milliseconds."""
    return f"{1e3 * seconds:.1f} ms"


def spread(times: list[float]) -> dict[str, str]:
    """Return median and 95th percentile."""
    return {"median": ms(median(times)), "p95": ms(float(np.quantile(times, 0.95)))}


# --- overhead ------------------------------------------------------------------------------------


def overhead(trials: int = 60, rounds: int = 5) -> None:
    """Time whole trials that train nothing: proposal, rows, epochs, result; then Optuna's copy.

    The copy is made now and then, and at the end of a run, so its time is no trial's. Databases
    take turns, so that what else the machine does falls on both.
    """
    whole: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    copy: dict[str, list[float]] = {}
    with ExitStack() as held:
        opened = {
            name: held.enter_context(study(settings(trials=10), url))
            for name, url in databases(held)
        }
        for one in opened.values():
            run(one, InlineExecutor(no_training))
        for turn in range(rounds):
            for name, one in opened.items():
                wanted = 10 + (turn + 1) * trials
                one.want(wanted)
                work = driver(one)
                cpu, wall = time.process_time(), time.perf_counter()
                InlineExecutor(no_training).execute(work)
                whole.setdefault(name, []).append((time.perf_counter() - wall) / trials)
                busy.setdefault(name, []).append((time.process_time() - cpu) / trials)
                wall = time.perf_counter()
                copied = sync(one.store, one.id, one.name, one.settings)
                copy.setdefault(name, []).append((time.perf_counter() - wall) / copied)
                work.close()
    for name in opened:
        show(
            f"inline, {name}",
            wall=ms(median(whole[name])),
            least=ms(min(whole[name])),
            cpu=ms(median(busy[name])),
            copy_a_trial=ms(median(copy[name])),
        )


def ray_overhead(trials: int = 60) -> None:
    """Time trials that train nothing through Ray Tune, start and stop of Ray aside."""
    from nas.driver.progress import TrialFinished
    from nas.executors.ray_tune import RayExecutor

    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    at: list[float] = []

    def note(event: Any) -> None:
        if isinstance(event, TrialFinished):
            at.append(time.perf_counter())

    with study(settings(trials=trials)) as opened:
        started = time.perf_counter()
        run(opened, RayExecutor(workers=4, proxy=no_training), note)
        show(
            "ray, sqlite, 4 workers",
            per_trial=ms((at[-1] - at[7]) / (len(at) - 8)),
            first_result=f"{at[0] - started:.1f} s",
        )


# --- proposals -----------------------------------------------------------------------------------


def asks(sizes: tuple[int, ...] = (100, 5_000, 20_000), repeats: int = 20) -> None:
    """Time proposal and insertion with a history of trials, and the first one after a restart."""
    for strategy in list_strategies():
        if strategy == "grid":
            continue  # for spaces of up to 10,000 points only
        for size in sizes:
            with study(settings(strategy)) as opened:
                fill(opened, size)
                started = time.perf_counter()
                work = driver(opened)
                task = work.next()
                first = time.perf_counter() - started
                times = []
                for _ in range(repeats):
                    assert isinstance(task, Attempt)
                    work.finish(task, ended(task))
                    started = time.perf_counter()
                    task = work.next()
                    times.append(time.perf_counter() - started)
                work.close()
                show(
                    f"{strategy}, {size:,} trials",
                    **spread(times),
                    first_after_restart=f"{first:.2f} s",
                )


def fill(opened: Study, number: int) -> None:
    """Write finished trials straight into our tables."""
    space, rng = opened.settings.space, np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(min(number, 2_000))]

    def add(session: Any) -> None:
        for start in range(0, number, 5_000):
            indices = range(start, min(start + 5_000, number))
            session.execute(insert(Architecture), [_architecture(i) for i in indices])
            session.execute(insert(Run), [_run(opened, i, points[i % 2_000]) for i in indices])

    opened.store.write(add)


def _architecture(i: int) -> dict[str, Any]:
    return {
        "id": i + 1,
        "fingerprint": f"{i:064d}",
        "config": {"name": "x" * 1000},
        "flops": 4_275_000_000 + i * 7919 % 225_000_000,
        "params": 20_000_000 + i * 104729 % 10_000_000,
        "convention": "fvcore",
        "image_size": 224,
        "space_name": "quadtree",
        "space_version": "1",
        "space_id": "f" * 64,
        "created_at": 0.0,
    }


def _run(opened: Study, i: int, point: dict[str, Any]) -> dict[str, Any]:
    value = (i * 2654435761 % 2**32) / 2**32
    return {
        "study_id": opened.id,
        "trial_number": i,
        "proposal": i,
        "attempt": 1,
        "newest": True,
        "role": "candidate",
        "kind": "mutation",
        "architecture_id": i + 1,
        "fingerprint": f"{i:064d}",
        "params": encode(opened.settings.space, point),
        "choices": point,
        "sampler": {},
        "space_version": "1",
        "seed": i,
        "state": "complete",
        "halvings": 0,
        "score": value,
        "objectives": [value],
        "metrics": {"epochs": EPOCHS},
        "told": True,
        "lease_token": 1,
        "created_at": 0.0,
        "started_at": 0.0,
        "finished_at": 1.0,
    }


# --- readers -------------------------------------------------------------------------------------


def reads(size: int = 20_000) -> None:
    """Time what `show` and `status` ask, in this process, and as a command from its start."""
    from nas.driver.status import status
    from nas.store import queries

    with study(settings()) as opened:
        fill(opened, size)
        url = opened.store.shown
        calls = {
            "show --top 20": lambda: queries.summary(opened.name, url, top=20),
            "status": lambda: status(opened.name, url),
            "studies": lambda: queries.studies(url),
        }
        for name, call in calls.items():
            times = []
            for _ in range(5):
                started = time.perf_counter()
                call()
                times.append(time.perf_counter() - started)
            show(f"{name}, {size:,} trials", **spread(times))
        for command in (("show", opened.name, "--top", "20"), ("status", opened.name)):
            times = []
            for _ in range(3):
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, str(ROOT / "cli.py"), *command, "--storage", url, "--json"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                times.append(time.perf_counter() - started)
            show(f"cli.py {command[0]}, whole process", **spread(times))


# --- workers -------------------------------------------------------------------------------------


def workers(seconds: float = 10.0, rate: float = 10.0) -> None:
    """Let 16 and 64 processes report 10 metrics a second each straight to the database."""
    with ExitStack() as held:
        for name, url in databases(held):
            for number in (16, 64):
                with study(settings(), url) as opened:
                    storage = opened.store.url.render_as_string(hide_password=False)
                    context = multiprocessing.get_context("spawn")
                    answers = context.Queue()
                    args = (storage, opened.id, seconds, rate, answers)
                    processes = [
                        context.Process(target=_report, args=(i, *args)) for i in range(number)
                    ]
                    for process in processes:
                        process.start()
                    found = [answers.get() for _ in processes]
                    for process in processes:
                        process.join()
                    times = [t for part in found for t in part["times"]]
                    late = [part["lasted"] / seconds for part in found]
                    show(
                        f"{number} workers, {name}",
                        errors=sum(part["errors"] for part in found),
                        **spread(times),
                        longest=ms(max(times)),
                        reached=f"{rate * number / max(1.0, median(late)):.0f}/s",
                    )


def _report(worker: int, url: str, study_id: int, seconds: float, rate: float, out: Any) -> None:
    store = open_store(url)
    answer: Any = None
    while not isinstance(answer, Run):
        index = store.read(lambda s: runs.next_index(s, study_id))
        new = NewProposal(
            index=index,
            role="candidate",
            kind="bench",
            fingerprint=f"{worker:064d}",
            config={},
            flops=1,
            params_count=1,
            convention="fvcore",
            image_size=224,
        )
        answer = store.write(
            lambda s, n=new: runs.propose(s, study_id, n, f"w{worker}", time.time(), {})
        )
    lease, times, errors = runs.lease_of(answer), [], 0
    started = time.monotonic()
    for epoch in range(int(seconds * rate)):
        before = time.perf_counter()
        try:
            store.write(
                lambda s, e=epoch: leases.record_epoch(s, lease, e, {"loss": 1.0}, time.time())
            )
        except Exception:  # counted: the number of errors is what is measured
            errors += 1
        times.append(time.perf_counter() - before)
        time.sleep(max(0.0, started + (epoch + 1) / rate - time.monotonic()))
    out.put({"times": times, "errors": errors, "lasted": time.monotonic() - started})


# --- 512 workers, simulated ----------------------------------------------------------------------


def simulate(trials: int = 10_000, number: int = 512) -> None:
    """Run a real coordinator against simulated workers: their time is virtual, its own is real.

    A worker trains for a time drawn from recorded runs of the default proxy, then stands in line:
    the coordinator serves one at a time, and each service (result, next proposal) takes as long
    as it really takes here. A GPU's proxy takes minutes, so more workers fit one coordinator.
    """
    recorded = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    seconds = [run["seconds"] for run in recorded if run["timing"]]
    draw = random.Random(0)
    with study(settings(trials=trials)) as opened:
        work = driver(opened)
        free_at = busy = waited = 0.0
        served = 0
        queue: list[tuple[float, int, Attempt | None]] = [(0.0, i, None) for i in range(number)]
        last_line = time.monotonic()
        while queue:
            ready, worker, task = heapq.heappop(queue)
            start = max(ready, free_at)
            waited += start - ready
            before = time.perf_counter()
            if task is not None:
                work.finish(task, ended(task))
            answer = work.next()
            service = time.perf_counter() - before
            free_at, busy, served = start + service, busy + service, served + 1
            if isinstance(answer, Attempt):
                heapq.heappush(queue, (free_at + draw.choice(seconds), worker, answer))
            elif isinstance(answer, Wait) and task is not None:
                heapq.heappush(queue, (free_at + answer.seconds, worker, None))
            elif isinstance(answer, Done):
                break
            if time.monotonic() - last_line > 30:
                last_line = time.monotonic()
                show(f"  after {served:,} requests", service=ms(busy / served))
        work.close()
        mean = sum(seconds) / len(seconds)
        show(
            f"{number} workers, {trials:,} trials",
            service=ms(busy / served),
            busy=f"{100 * busy / free_at:.0f} %",
            waited=ms(waited / served),
            saturates_at=", ".join(
                f"{trial / (busy / served):.0f} workers of {trial:.0f} s trials"
                for trial in (mean, 180.0)
            ),
        )


@contextmanager
def _postgres() -> Iterator[str | None]:
    try:
        import pgserver

        server = pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    except Exception as error:  # whatever keeps a server from starting here
        print(f"PostgreSQL is not measured: {error}")
        yield None
        return
    yield server.get_uri()
    server.cleanup()


def databases(held: ExitStack) -> Iterator[tuple[str, str | None]]:
    """Yield SQLite (a file of its own), and a PostgreSQL that runs as long as `held`, if any."""
    yield "sqlite", None
    if (url := held.enter_context(_postgres())) is not None:
        yield "postgresql", url


PARTS = {
    "overhead": overhead,
    "ray": ray_overhead,
    "asks": asks,
    "reads": reads,
    "workers": workers,
    "simulate": simulate,
}
DEFAULT = ("overhead", "asks", "reads", "workers")


def main() -> None:
    """Measure the parts that were named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=list(PARTS), default=list(DEFAULT))
    for part in parser.parse_args().parts:
        load = round(os.getloadavg()[0], 1)
        print(f"\n{part}: {os.cpu_count()} cores, load {load}")
        _shown.clear()
        PARTS[part]()
        keep(part, load)


def keep(part: str, load: float) -> None:
    """Write the figures of a part into today's file of results."""
    now = datetime.now(timezone.utc)
    path = ROOT / "benchmarks" / "results" / f"orchestration_{now:%Y-%m-%d}.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    report[part] = {
        "date": now.isoformat(timespec="seconds"),
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": load,
        "load_after": round(os.getloadavg()[0], 1),
        "shared": load > 0.5,  # others used the machine as well: times are upper bounds
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("optuna", "sqlalchemy", "ray")},
        },
        "figures": dict(_shown),
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
