"""Why a worker process died: the kernel's word for it, Ray's, and its own last one.

A worker writes a fault log as it dies of a signal like SIGSEGV, and tells at its start how many
processes the kernel has killed for lack of memory on its machine; afterwards one looks again.
"""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.study.outcomes import Outcome

_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


@dataclass(frozen=True)
class Death:
    """How a worker died. outcome: of its trial; None where it says nothing of the design.

    preempted: its machine was taken away, which costs the trial no attempt.
    """

    reason: str
    outcome: Outcome | None = None
    preempted: bool = False
    traceback: str | None = None


def oom_kills(counters: tuple[Path, ...] = _COUNTERS) -> int:
    """Return how many processes the kernel has killed here for lack of memory, as it counts."""
    kills = 0
    for path in counters:
        try:
            lines = path.read_text().splitlines()
        except OSError:  # another kernel, or no group of one's own
            continue
        kills += sum(int(n) for name, n in (line.split() for line in lines) if name == "oom_kill")
    return kills


def fault_log(checkpoint: str | None) -> Path | None:
    """Return where a worker leaves its last word: beside the checkpoint, which both sides see."""
    return None if checkpoint is None else Path(f"{checkpoint}.fault")


@contextmanager
def last_word(checkpoint: str | None, where: dict[str, Any] | None = None) -> Iterator[None]:
    """Within the block, a deadly signal writes its name and the stacks to the fault log.

    where: the machine, on the first line: a report of it may not get away in time.
    """
    path = fault_log(checkpoint)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write(json.dumps(where) + "\n")
        file.flush()
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            path.unlink(missing_ok=True)


def has_begun(checkpoint: str | None) -> bool:
    """Whether a worker has begun its attempt, as far as its machine's folder says."""
    path = fault_log(checkpoint)
    return path is not None and path.exists()


def last_word_of(checkpoint: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return where a worker was that has died, and what it wrote as it died; take both away."""
    path = fault_log(checkpoint)
    if path is None or not path.exists():
        return None, ""
    first, _, word = path.read_text().partition("\n")
    path.unlink()
    return json.loads(first or "null"), word


def death_of(error: Exception | None, word: str, kernel_killed: bool) -> Death:
    """Return how a worker died.

    error: what Ray raised for it. word: what it wrote as it died. kernel_killed: whether the kernel
    has killed something for lack of memory on that machine since.
    """
    said = _first_line(error)
    if word.strip():
        fatal = word.splitlines()[0].removeprefix("Fatal Python error: ")
        return Death(f"its worker process died: {fatal}", Outcome.ERROR, traceback=word)
    if type(error).__name__ == "OutOfMemoryError" or "running low on memory" in str(error):
        return Death(f"Ray ended its worker process for lack of memory: {said}", Outcome.OOM)
    if getattr(error, "preempted", False):
        return Death(f"its machine was taken away: {said}", preempted=True)
    if kernel_killed:
        return Death("the kernel killed its worker process for lack of memory", Outcome.OOM)
    return Death("its worker process died")


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
