"""What a worker process runs: it knows nothing of the database, nor of the strategies."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from nas.executors.attempt import Brake, Proxy, carry_out, free_memory, trouble_here
from nas.executors.deaths import last_word, oom_kills
from nas.executors.wire import FINAL, PROGRESS, REFUSED, WHERE, attempt_from, result_to
from nas.study.outcomes import Outcome

_ERRORS = frozenset((Outcome.OOM, Outcome.NAN, Outcome.ERROR))
# How often a training says how many batches it has made, at most.
PROGRESS_EVERY_S = 5.0
# How long a machine where a known design fails holds an attempt before it hands it back.
_REFUSAL_S = 5.0


def train(config: dict[str, Any], proxy: Any = None) -> None:
    """Train the attempt that Ray Tune was given as a trial's config."""
    from ray import get_runtime_context, tune

    node = get_runtime_context().get_node_id()
    carry_out_in_worker(config["attempt"], tune.report, proxy, node)


def carry_out_in_worker(
    data: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
    proxy: Proxy | None,
    node: str = "",
) -> None:
    """Train an attempt in a worker, reporting where, each epoch, and then the result.

    node: as Ray calls it. Raises: RuntimeError after an error, so that Ray replaces this process.
    """
    attempt = attempt_from(data)
    host = socket.gethostname()
    if host in attempt.avoid:
        time.sleep(_REFUSAL_S)
        report({REFUSED: host})
        return
    where = {"host": host, "node": node, "oom_kills": oom_kills()}
    report({PROGRESS: 0, WHERE: where})
    brake = _Reporting(report, PROGRESS_EVERY_S if attempt.stall_s is None else attempt.stall_s / 4)
    with last_word(attempt.checkpoint, where):
        result = carry_out(attempt, lambda metrics: report(asdict(metrics)), brake, proxy)
    free_memory()
    report({FINAL: result_to(result)})
    if result.outcome in _ERRORS:
        raise RuntimeError(f"worker is replaced after outcome {result.outcome}")


class _Reporting(Brake):
    """A brake that says now and then how many batches have been made."""

    def __init__(self, report: Callable[[dict[str, Any]], None], every: float) -> None:
        super().__init__()
        self._report, self._every = report, min(every, PROGRESS_EVERY_S)
        self._next = time.monotonic() + self._every

    def should_stop(self) -> bool:
        """Whether to stop now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self._report({PROGRESS: self.batches})
        return super().should_stop()


def canary(data: dict[str, Any], proxy: Proxy | None) -> str | None:
    """Return of what a known design fails here, where a worker has just died."""
    return trouble_here(attempt_from(data), Brake(), proxy)


def look_for_kills(before: int) -> bool:
    """Whether the kernel has killed anything here for lack of memory since."""
    return oom_kills() > before
