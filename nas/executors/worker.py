"""What a worker process runs: it knows nothing of the database, nor of the strategies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nas.executors.attempt import Brake, Proxy, carry_out, free_memory
from nas.executors.wire import FINAL, attempt_from, result_to
from nas.study.outcomes import Outcome

_ERRORS = frozenset((Outcome.OOM, Outcome.NAN, Outcome.ERROR))


def train(config: dict[str, Any], proxy: Any = None) -> None:
    """Train the attempt that Ray Tune was given as a trial's config."""
    from ray import tune

    carry_out_in_worker(config["attempt"], tune.report, proxy)


def carry_out_in_worker(data: dict[str, Any], report: Any, proxy: Proxy | None) -> None:
    """Train an attempt in a worker, reporting each epoch and then the result.

    Raises: RuntimeError after an error, so that Ray replaces this process.
    """
    attempt = attempt_from(data)
    result = carry_out(attempt, lambda metrics: report(asdict(metrics)), Brake(), proxy)
    free_memory()
    report({FINAL: result_to(result)})
    if result.outcome in _ERRORS:
        raise RuntimeError(f"worker is replaced after outcome {result.outcome}")
