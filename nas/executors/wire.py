"""Attempts and results on their way between a driver and the worker processes that train."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from nas.study.attempts import Attempt, Lease, Result, finite
from nas.study.outcomes import Outcome

# What a worker reports beside epochs: its result; how many batches it has made; where it is; that
# it hands its attempt back.
FINAL, PROGRESS, WHERE, REFUSED = "final", "progress", "where", "refused"


def attempt_to(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt as plain data."""
    return asdict(attempt)


def attempt_from(data: dict[str, Any]) -> Attempt:
    """Return the attempt that `attempt_to` gave `data` for."""
    return Attempt(
        **{
            **data,
            "lease": Lease(**data["lease"]),
            "costs": tuple(data["costs"]),
            "avoid": tuple(data.get("avoid", ())),
        }
    )


def result_to(result: Result) -> str:
    """Return a result as text, so that Tune does not take its fields for metrics."""
    data = asdict(result)
    data["outcome"] = result.outcome.value
    for key in ("metrics", "scores"):
        data[key] = None if data[key] is None else finite(data[key])
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

    known = EpochMetrics.__dataclass_fields__
    return EpochMetrics(**{name: report[name] for name in known if name in report})
