"""A study that eight drivers train while machines do their worst; ends with an audit of the rows.

    python benchmarks/soak.py [--minutes 60] [--database sqlite|postgresql|both] [--seed N]
                              [--every S] [--lease S]

Drivers are killed, stopped for longer than their lease, asked to end, cut off the database, and run
out of disk, at random moments; one is slow and two have clocks that are hours off. A driver that
is gone is replaced. Trainings train nothing but take time and write checkpoints; leases last 6 s
in place of 45, so that an hour holds what happens in a day (`--lease`: longer on a machine that is
busy otherwise, where a driver may get no processor for so long). PostgreSQL is pgserver's; the
disk is a small one of memory, which takes a user who may mount (without: no full disks, and said).

The audit knows the rows, and who was disturbed: no finished trial is lost, none trained twice under
valid leases, none runs, and every attempt that brought no score is explained. The figures and the
seed are added to benchmarks/results/soak_<date>.json; the exit code is 1 where anything is found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "nas"), str(ROOT / "benchmarks")]

from nas.store import leases  # noqa: E402


def _stated_lease() -> str:
    """Return what the command line says of it, which is read again below."""
    words = sys.argv
    return words[words.index("--lease") + 1] if "--lease" in words[:-1] else "6"


# Before any module takes them over. The drivers' server imports this module as well.
leases.LEASE_S = float(os.environ.setdefault("SOAK_LEASE_S", _stated_lease()))
leases.RENEW_EVERY_S = leases.LEASE_S / 4

import psutil  # noqa: E402
from doubles import FakeProxy, Skewed, score_of  # noqa: E402
from soak_audit import audit  # noqa: E402
from sqlalchemy import create_engine, select, text  # noqa: E402
from sqlalchemy.exc import DBAPIError  # noqa: E402

from nas.driver import coordinator  # noqa: E402
from nas.driver.disk import shortage  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import Study, create_study, open_study  # noqa: E402
from nas.errors import StoreError  # noqa: E402
from nas.executors import attempt as boundary  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.store.tables import Run  # noqa: E402
from nas.study.budget import parse_budget  # noqa: E402
from nas.study.place import Place  # noqa: E402
from nas.study.recipe import Recipe  # noqa: E402
from nas.study.settings import Settings  # noqa: E402
from search_spaces import SearchSpace  # noqa: E402

DRIVERS, NAME = 8, "soak"
DISK_MIB, LEAST_MIB = 96, 8
_NO_SERVER = "check that the database can be reached"
SKEWS_S = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7_200.0, -86_400.0)
SLOWNESS = (1.0, 1.0, 1.0, 1.0, 1.0, 6.0, 1.0, 1.0)


class Sleepy(FakeProxy):
    """Takes a random time an epoch."""

    slowness = 1.0

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Train nothing."""
        self.seconds = random.uniform(0.02, 0.5) * self.slowness
        return super().__call__(*args, **options)


def small_disk_counts() -> None:
    """Let a few MiB free be a full disk."""
    for module in (coordinator, boundary):
        module.shortage = partial(shortage, least=LEAST_MIB << 20)  # type: ignore[attr-defined]


def drive(url: str, folder: str, skew_s: float, slowness: float, log: str) -> None:
    """Be a driver of the study until somebody ends it."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    small_disk_counts()
    random.seed()
    proxy = Sleepy()
    proxy.slowness = slowness
    place = Place(checkpoints=Path(folder) / "checkpoints")
    study = open_study(NAME, url, place=place, clock=Skewed(skew_s))
    run(study, InlineExecutor(proxy))
    study.close()


class Fleet:
    """Drivers, each replaced when it is gone, and what was done to them."""

    def __init__(self, url: str, folder: str, logs: Path) -> None:
        self.url, self.folder = url, folder
        # Drivers begin where this process's imports end; their server finds modules this way only.
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["soak"])
        self._log = [logs / f"driver{i}" for i in range(DRIVERS)]
        self.drivers: list[Any] = [self._start(i) for i in range(DRIVERS)]
        self.disturbed: set[int] = set()
        self.paused: dict[int, float] = {}
        self.asked: set[int] = set()
        self.died: list[str] = []
        self.started, self.found_no_server = DRIVERS, 0

    def _start(self, i: int) -> Any:
        self._log[i].touch()
        arguments = (self.url, self.folder, SKEWS_S[i], SLOWNESS[i], str(self._log[i]))
        process = self._context.Process(target=drive, args=arguments, daemon=True)
        process.start()
        return process

    def tend(self) -> None:
        """Wake who has slept long enough, replace who is gone, note who died unasked."""
        for pid, until in list(self.paused.items()):
            if time.monotonic() >= until:
                self._signal(pid, signal.SIGCONT)
                del self.paused[pid]
        for i, process in enumerate(self.drivers):
            if process.is_alive():
                continue
            code = process.exitcode
            wanted = {-signal.SIGKILL}
            if process.pid in self.asked:
                wanted |= {0, -signal.SIGTERM}  # the latter before it listened
            said = self._log[i].read_text().strip().splitlines()[-3:]
            if code == 1 and said and said[-1].endswith(_NO_SERVER):
                self.found_no_server += 1  # and said so; whoever starts drivers starts another
            elif code not in wanted:
                self.died.append(f"driver {i} ended by itself with {code}: {' / '.join(said)}")
            self.drivers[i] = self._start(i)
            self.started += 1

    def _signal(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def kill(self, draw: random.Random) -> None:
        """Kill one at once."""
        pid = self._one(draw)
        self._signal(pid, signal.SIGKILL)

    def ask(self, draw: random.Random) -> None:
        """Ask one to end."""
        pid = self._one(draw)
        self.asked.add(pid)
        self._signal(pid, signal.SIGTERM)

    def pause(self, draw: random.Random) -> None:
        """Stop one for a while, beyond its lease half of the time."""
        pid = self._one(draw)
        self.paused[pid] = time.monotonic() + draw.uniform(0.5, 2 * leases.LEASE_S)
        self._signal(pid, signal.SIGSTOP)

    def _one(self, draw: random.Random) -> int:
        pid = int(draw.choice(self.drivers).pid)
        self.disturbed.add(pid)
        return pid

    def all_disturbed(self) -> None:
        """Take down that something has happened to everybody."""
        self.disturbed |= {int(process.pid) for process in self.drivers}

    def end(self) -> None:
        """Wake all, and end them at once."""
        self.all_disturbed()
        for process in self.drivers:
            self._signal(int(process.pid), signal.SIGCONT)
            self._signal(int(process.pid), signal.SIGKILL)
        for process in self.drivers:
            process.join()


@contextmanager
def small_disk() -> Iterator[tuple[str, bool]]:
    """Give a folder, on a disk of its own where that can be mounted."""
    folder = tempfile.mkdtemp(prefix="soak-")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(kind: str, folder: str) -> Iterator[tuple[str, Callable[[random.Random], None]]]:
    """Give a database's URL, and a function that cuts drivers off it for a moment."""
    if kind == "sqlite":
        url = f"sqlite:///{folder}/nas.db"

        def hold(draw: random.Random) -> None:
            engine = create_engine(url)
            with suppress(DBAPIError), engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                time.sleep(draw.uniform(0.5, 4.0))
            engine.dispose()

        yield url, hold
        return
    import pgserver

    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    server = pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    engine = create_engine(server.get_uri().replace("postgresql:", "postgresql+psycopg:"))

    def cut(draw: random.Random) -> None:
        if draw.random() < 0.1:  # the server itself
            psutil.Process(server.get_pid()).send_signal(signal.SIGQUIT)
            time.sleep(draw.uniform(0.5, 4.0))
            while True:
                with suppress(subprocess.TimeoutExpired):  # it comes up, but not within 10 s
                    server.ensure_postgres_running()
                    break
            engine.dispose()
            return
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'scannas' AND random() < :share"
        )
        with suppress(DBAPIError), engine.connect() as connection:
            connection.execute(text(end), {"share": draw.choice([0.2, 1.0])})

    try:
        yield server.get_uri(), cut
    finally:
        engine.dispose()
        server.cleanup()


def fill(folder: str, draw: random.Random) -> None:
    """Leave less room than a search wants, or none, for a moment."""
    ballast = Path(folder) / "ballast"
    left = draw.choice([0, LEAST_MIB // 2]) << 20
    with suppress(OSError):
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(folder).free - left))
        time.sleep(draw.uniform(0.5, 3.0))
    ballast.unlink(missing_ok=True)


def finished(study: Study) -> dict[int, float | None]:
    """Return the runs that have a score now."""
    query = select(Run.id, Run.score).where(Run.state == "complete")
    return {row.id: row.score for row in study.store.read(lambda s: s.execute(query).all())}


def torment(
    study: Study,
    fleet: Fleet,
    attacks: dict[str, tuple[float, Callable[[random.Random], None]]],
    draw: random.Random,
    minutes: float,
    every: float,
) -> tuple[Counter[str], dict[int, float | None]]:
    """Do something to a fleet every now and then; return what, and the scores seen meanwhile.

    attacks: by name, their weights and what they do.
    """
    events: Counter[str] = Counter()
    seen: dict[int, float | None] = {}
    stop_at = time.monotonic() + 60 * minutes
    while time.monotonic() < stop_at:
        time.sleep(min(draw.expovariate(1 / every), 5 * every))
        what = draw.choices(list(attacks), [weight for weight, _ in attacks.values()])[0]
        events[what] += 1
        attacks[what][1](draw)
        fleet.tend()
        if sum(events.values()) % 10 == 0:
            with suppress(StoreError):
                seen |= finished(study)
                print(f"  {sum(events.values())} events, {len(seen)} trials", flush=True)
    return events, seen


def soak(kind: str, minutes: float, seed: int, every: float) -> dict[str, Any]:
    """Run one soak; return its record, with what the audit has found."""
    print(f"soak: {kind}, {minutes:g} minutes, seed {seed}", flush=True)
    draw = random.Random(seed)
    logs = Path(tempfile.mkdtemp(prefix="soak-logs-"))
    with small_disk() as (folder, mounted), database(kind, folder) as (url, cut):
        made = Settings(
            space=SearchSpace.load("quadtree"),
            budget=parse_budget(["4.5GFLOPs"]),
            recipe=Recipe(epochs=3),
            trials=10**6,
            seed=seed,
            strategy="random",
            warm_start="none",
        )
        place = Place(checkpoints=Path(folder) / "checkpoints")
        study = create_study(made, url, name=NAME, place=place, check_data=False)
        fleet = Fleet(url, folder, logs)
        attacks = {
            "kill": (0.42, fleet.kill),
            "pause": (0.25, fleet.pause),
            "cut": (0.2, lambda d: (fleet.all_disturbed(), cut(d))),
            "ask": (0.06, fleet.ask),
        }
        if mounted:
            attacks["disk"] = (0.07, lambda d: (fleet.all_disturbed(), fill(folder, d)))
        try:
            events, seen = torment(study, fleet, attacks, draw, minutes, every)
        finally:
            fleet.end()
        small_disk_counts()
        candidates = {r for r in study.store.read(lambda s: s.scalars(select(Run.proposal)).all())}
        last = run(study, InlineExecutor(FakeProxy()), trials=max(1, len(candidates)))
        found = audit(study, last, seen, fleet.disturbed, score_of) + fleet.died
        rows = study.store.read(lambda s: s.execute(select(Run.state, Run.newest)).all())
        study.close()
    if not found:
        shutil.rmtree(logs)
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "database": kind,
        "seed": seed,
        "minutes": minutes,
        "drivers": DRIVERS,
        "lease_s": leases.LEASE_S,
        "drivers_started": fleet.started,
        "found_no_server_at_start": fleet.found_no_server,
        "events": dict(events) | {"all": sum(events.values())},
        "full_disks": "real" if mounted else "none: this user may not mount",
        "attempts": len(rows),
        "complete": sum(r.state == "complete" for r in rows),
        "lost_attempts": sum(r.state == "lost" for r in rows),
        "given_up": sum(r.state == "lost" and r.newest for r in rows),
        "findings": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of all databases together")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seed", type=int, default=None, help="random unless given")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between events, mean")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds")
    given = parser.parse_args()
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    out = ROOT / "benchmarks" / "results" / f"soak_{datetime.now(timezone.utc):%Y-%m-%d}.json"
    failed = False
    for kind in kinds:
        seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
        record = soak(kind, given.minutes / len(kinds), seed, given.every)
        print(json.dumps(record, indent=2), flush=True)
        so_far = json.loads(out.read_text()) if out.exists() else []
        out.write_text(json.dumps([*so_far, record], indent=1) + "\n")
        failed |= bool(record["findings"])
    sys.exit(failed)


if __name__ == "__main__":
    main()
