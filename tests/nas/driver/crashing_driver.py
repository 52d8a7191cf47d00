"""A driver that kills itself at a chosen point of a trial's life; run by the crash tests.

    python crashing_driver.py URL STUDY POINT NTH LOG

Kills this process with SIGKILL the NTH time that POINT is passed; without a point it runs on.
From the environment: EPOCH_SECONDS, SKEW_SECONDS of the clock, LEASE_SECONDS in place of 45.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parents[1])]

from nas.store import leases  # noqa: E402

# Before any module takes them over.
leases.LEASE_S = float(os.environ.get("LEASE_SECONDS", leases.LEASE_S))
leases.RENEW_EVERY_S = min(leases.RENEW_EVERY_S, leases.LEASE_S / 4)

from doubles import FakeProxy, Skewed  # noqa: E402
from optuna.storages import RDBStorage  # noqa: E402

from nas.driver import optuna_copy  # noqa: E402
from nas.driver.coordinator import Coordinator  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import open_study  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.store import runs  # noqa: E402

passed = 0


def kill_at(nth: int):
    """Return a function that kills this process when it is called for the nth time."""

    def die() -> None:
        global passed
        passed += 1
        if passed == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def before(owner, name, die):
    plain = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: (die(), plain(*a, **k))[1])


def after(owner, name, die):
    plain = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: (plain(*a, **k), die())[0])


class Proxy(FakeProxy):
    """Calls `hook` in the middle of every epoch, `late` between checkpoint and report."""

    hook = staticmethod(lambda: None)
    late = staticmethod(lambda: None)

    def __call__(self, *args, report, should_stop=lambda: False, **kwargs):
        def reporting(metrics):
            self.late()
            report(metrics)

        def asked():
            self.hook()
            return should_stop()

        return super().__call__(*args, report=reporting, should_stop=asked, **kwargs)


# Where a driver may die, in the order in which a trial passes them. A name "in ..." is inside of
# a transaction that was not committed.
POINTS = {
    "in insert": lambda die, proxy: after(runs, "propose", die),
    "after insert": lambda die, proxy: before(Coordinator, "_started", die),
    "mid-epoch": lambda die, proxy: setattr(proxy, "hook", die),
    "between checkpoint and metric": lambda die, proxy: setattr(proxy, "late", die),
    "in metric": lambda die, proxy: after(leases, "record_epoch", die),
    "in result": lambda die, proxy: after(leases, "finish", die),
    "after result": lambda die, proxy: before(optuna_copy, "sync", die),
    "before copy": lambda die, proxy: before(RDBStorage, "create_new_trial", die),
    "after copy": lambda die, proxy: before(runs, "mark_copied", die),
}


def main() -> None:
    url, study, point, nth, log = sys.argv[1:6]
    optuna_copy.EVERY_S = 0.0  # a pass for every trial, so that there are many to die in
    seconds = float(os.environ.get("EPOCH_SECONDS", "0"))
    proxy = Proxy(log=Path(log), seconds=seconds)
    if point:
        POINTS[point](kill_at(int(nth)), proxy)
    clock = Skewed(float(os.environ.get("SKEW_SECONDS", "0")))
    finished = run(open_study(study, url, clock=clock), InlineExecutor(proxy))
    print(finished.reason, f"best {finished.best_trial}", sep="\n", flush=True)


if __name__ == "__main__":
    main()
