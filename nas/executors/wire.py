"""Tasks and results on their way between a driver and the worker processes that train."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from nas.driver.coordinator import finite
from nas.executors.attempt import Brake, Proxy, carry_out, free_memory
from nas.study.attempts import Attempt, Lease, Result
from nas.study.outcomes import Outcome

FINAL = "final"
_ERRORS = frozenset((Outcome.OOM, Outcome.NAN, Outcome.ERROR))


def task_to(task: Attempt) -> dict[str, Any]:
    """Return a task as plain data."""
    return asdict(task)


def task_from(data: dict[str, Any]) -> Attempt:
    """Return the task that `task_to` gave `data` for."""
    return Attempt(**{**data, "lease": Lease(**data["lease"]), "costs": tuple(data["costs"])})


def result_to(result: Result) -> str:
    """Return a result as text, so that Tune does not take its fields for metrics."""
    data = asdict(result)
    data["outcome"] = result.outcome.value
    data["metrics"] = None if result.metrics is None else finite(result.metrics)
    return json.dumps(data)


def result_from(text: str) -> Result:
    """Return the result that `result_to` gave `text` for."""
    data = json.loads(text)
    objectives = data["objectives"]
    data["objectives"] = None if objectives is None else tuple(objectives)
    return Result(**{**data, "outcome": Outcome(data["outcome"])})


def metrics_from(report: dict[str, Any]) -> Any:
    """Return the epoch's metrics in what Tune made of them."""
    from nas.training.loop import EpochMetrics

    return EpochMetrics(**{name: report[name] for name in EpochMetrics.__dataclass_fields__})


def carry_out_in_worker(data: dict[str, Any], report: Any, proxy: Proxy | None) -> None:
    """Train a task in a worker, reporting each epoch and then the result.

    Raises: RuntimeError after an error, so that Ray replaces this process.
    """
    task = task_from(data)
    result = carry_out(task, lambda metrics: report(asdict(metrics)), Brake(), proxy)
    free_memory()
    report({FINAL: result_to(result)})
    if result.outcome in _ERRORS:
        raise RuntimeError(f"worker is replaced after outcome {result.outcome}")
