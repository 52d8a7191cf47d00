"""A driver with the Ray executor, run by the tests in a network namespace of its own.

    python ray_driver.py URL STUDY TRIALS LOG [OPTION=VALUE ...]

Options: seconds (of an epoch), workers, gpus_per_trial, die_after (epochs until SIGKILL).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "nas"
sys.path[:0] = [str(ROOT), str(TESTS)]
# Workers import the same modules.
os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(TESTS)))

from doubles import FakeProxy  # noqa: E402

from nas.executors.ray_tune import RayExecutor  # noqa: E402
from nas.progress import EpochDone, TrialFinished, TrialStarted  # noqa: E402
from nas.study import open_study, run  # noqa: E402


class Failing(FakeProxy):
    """Runs out of memory or meets a NaN where the fingerprint says so."""

    def __call__(self, config, recipe, **options):
        from nas.outcomes import NanLoss

        kind = int(config.fingerprint()[-1], 16)
        self.raises = lambda *_: (
            MemoryError("no room") if kind < 3 else NanLoss("nan") if kind == 3 else None
        )
        return super().__call__(config, recipe, **options)


def main() -> None:
    url, name, trials, log = sys.argv[1:5]
    options = dict(text.split("=") for text in sys.argv[5:])
    kind = Failing if "failing" in options else FakeProxy
    proxy = kind(log=Path(log), seconds=float(options.get("seconds", 0)))
    left = int(options.get("die_after", -1))

    def progress(event):
        nonlocal left
        if isinstance(event, (TrialStarted, TrialFinished)):
            print(type(event).__name__, event.trial, flush=True)
        if isinstance(event, EpochDone):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    executor = RayExecutor(
        workers=int(options.get("workers", 4)),
        gpus_per_trial=float(options.get("gpus_per_trial", 0.25)),
        gpus=2,
        proxy=proxy,
    )
    finished = run(open_study(name, url), progress, trials=int(trials), executor=executor)
    print("END", finished.reason, flush=True)


if __name__ == "__main__":
    main()
