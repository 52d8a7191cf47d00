"""A driver with the Ray executor, run by the tests in a network namespace of its own.

    python ray_driver.py URL STUDY TRIALS LOG [OPTION=VALUE ...]

Options: seconds (of an epoch), workers, gpus_per_trial, die_after (epochs until SIGKILL), failing
(a JSON file: fingerprint -> outcome), real (trains for real), patience (for a lost database).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "nas"
sys.path[:0] = [str(ROOT), str(TESTS)]
# Workers import the same modules.
os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(TESTS)))

from doubles import FakeProxy  # noqa: E402

from nas.driver.progress import EpochDone, Notice, TrialFinished, TrialStarted  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import open_study  # noqa: E402
from nas.executors.ray_tune import RayExecutor  # noqa: E402
from nas.study.outcomes import NanLoss  # noqa: E402


class Failing(FakeProxy):
    """Ends designs as a table says."""

    outcomes: ClassVar[dict[str, str]] = {}

    def __call__(self, config, recipe, **options):
        wanted = self.outcomes.get(config.fingerprint())
        if wanted == "segfault":
            ctypes.string_at(0)
        if wanted == "hang":
            time.sleep(1e6)
        if wanted == "hungry" and recipe.accumulate == 1:
            take_memory()
        errors = {"oom": MemoryError("no room"), "nan": NanLoss("nan")}
        self.raises = lambda *_: errors.get(wanted)
        return super().__call__(config, recipe, **options)


def take_memory() -> None:
    """Take memory in the group of MEMORY_GROUP until the kernel minds."""
    (Path(os.environ["MEMORY_GROUP"]) / "cgroup.procs").write_text(str(os.getpid()))
    held = []
    for _ in range(200):
        held.append(b"x" * (32 << 20))
        time.sleep(0.02)
    raise AssertionError("nobody minded")


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    url, name, trials, log = sys.argv[1:5]
    options = dict(text.split("=") for text in sys.argv[5:])
    proxy = FakeProxy(log=Path(log), seconds=float(options.get("seconds", 0)))
    if "failing" in options:
        proxy = Failing(log=Path(log))
        proxy.outcomes = json.loads(Path(options["failing"]).read_text())
    memory: list[float] = []
    left = int(options.get("die_after", -1))

    def progress(event):
        nonlocal left
        if isinstance(event, (TrialStarted, TrialFinished)):
            memory.append(resident_mib())
        if isinstance(event, (TrialStarted, EpochDone, TrialFinished)):
            print(type(event).__name__, event.trial, flush=True)
        if isinstance(event, Notice):
            print("NOTICE", event.text, flush=True)
        if isinstance(event, EpochDone):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    executor = RayExecutor(
        workers=int(options.get("workers", 4)),
        gpus_per_trial=float(options.get("gpus_per_trial", 0.25)),
        gpus=2,
        proxy=None if "real" in options else proxy,
    )
    study = open_study(name, url)
    study.store.patience_s = float(options.get("patience", study.store.patience_s))
    finished = run(study, executor, progress, trials=int(trials))
    # Since the tenth event: Ray's own libraries are loaded by then.
    print("MEMORY", max(memory) - memory[min(10, len(memory) - 1)], flush=True)
    print("END", finished.reason, flush=True)


if __name__ == "__main__":
    main()
