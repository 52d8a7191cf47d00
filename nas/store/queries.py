"""What a database holds, as plain data for tables and JSON.

Reading needs SQLAlchemy alone: no torch, no optuna. Every function makes a fixed number of
queries, whatever the size of the study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from nas.errors import StudyError
from nas.store.history import find_study
from nas.store.session import opened
from nas.store.tables import Architecture, Environment, Epoch, Measurement, Run, Study
from nas.study.attempts import ENDED, RUNNING
from nas.study.latency import LatencyDevice
from nas.study.outcomes import Outcome
from nas.study.proposals import BASELINE, CANDIDATE, REPLAY, SEARCHED
from nas.study.tasks import metric_of

COMPLETE = Outcome.COMPLETE.value
PARETO_COSTS = ("flops", "params")
LATENCY = "latency_ms"
# A network has begun to learn at so many times the top-1 of a guess; with few classes, where that
# is near or above 1, at so much of the room above a guess (the two agree for ten classes).
LEARNED = 3.0
LEARNED_ROOM = 2 / 9
# Of a score that is measured from the best constant answer on (a skill: its chance is 0).
LEARNED_SKILL = 0.02
_ROW = (
    Run.trial_number,
    Run.role,
    Run.label,
    Run.kind,
    Run.state,
    Run.score,
    Run.fingerprint,
    Run.attempt,
    Run.started_at,
    Run.finished_at,
    Run.backend,
    Run.device,
    Run.error,
    Run.metrics,
    Architecture.flops,
    Architecture.params,
)


_OF_TRIAL = (
    *("role", "label", "kind", "state", "score", "scores", "objectives", "metrics", "fingerprint"),
    *("choices", "space_version", "halvings", "seed", "seed_index", "split", "backend", "device"),
    *("dtype", "node", "error", "traceback"),
)
_OF_DESIGN = ("config", "flops", "params", "convention", "image_size")
_OF_ATTEMPT = ("attempt", "state", "started_at", "finished_at", "halvings", "error")


def studies(storage: str) -> list[dict[str, Any]]:
    """Return every study, newest first: name, space, budget, progress, best score.

    Raises: StoreError.
    """
    with opened(storage) as store:
        return store.read(_studies)


def summary(study: str, storage: str, *, top: int = 10) -> dict[str, Any]:
    """Return a study's best candidates, its baselines, and the Pareto fronts.

    The keys: study (settings and counts), leaderboard (rows by score), baselines, pareto (per
    cost, rows by falling score), best (a row or None), beats (baselines that have learned and
    that the best one beats), scored (of every candidate with a score: trial, score, params,
    latency_ms), confirmation and verdict (or None; nas.study.confirmation and
    nas.evidence.verdict), comparisons (nas.study.comparison.Held). learned, of a row: whether its
    top-1 is well above chance.
    Raises: StoreError; StudyError for an unknown study.
    """
    with opened(storage) as store:
        return store.read(lambda s: _summary(s, find_study(s, study, store.shown), top))


def trials(study: str, storage: str) -> list[dict[str, Any]]:
    """Return every candidate and baseline of a study with its choices, as proposed.

    latency_ms, of a row: on the study's device, None where it was not measured.
    Raises: StoreError; StudyError for an unknown study.
    """

    def read(session: Session, row: Study) -> list[dict[str, Any]]:
        query = _of(row, CANDIDATE, BASELINE).add_columns(Run.choices)
        return _rows(session, query.order_by(Run.proposal))

    with opened(storage) as store:
        return store.read(lambda s: read(s, find_study(s, study, store.shown)))


def designs(study: str, storage: str, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return the configs of trials, by their numbers.

    Raises: StoreError; StudyError for an unknown study.
    """
    wanted = list(numbers)

    def read(session: Session, row: Study) -> dict[int, dict[str, Any]]:
        query = select(Run.trial_number, Architecture.config).join(
            Architecture, Architecture.id == Run.architecture_id
        )
        query = query.where(Run.study_id == row.id, Run.newest, Run.trial_number.in_(wanted))
        return {number: config for number, config in session.execute(query)}

    with opened(storage) as store:
        return store.read(lambda s: read(s, find_study(s, study, store.shown)))


def trial(study: str, storage: str, number: int) -> dict[str, Any]:
    """Return one trial in full: config, choices, recipe, epochs, attempts, environment.

    rerun, of it: what to ask of this program to train it again, without the program's name.
    Raises: StoreError; StudyError for an unknown study or trial.
    """
    with opened(storage) as store:
        return store.read(
            lambda s: _trial(s, find_study(s, study, store.shown), number, store.shown)
        )


def _studies(session: Session) -> list[dict[str, Any]]:
    counted: dict[int, dict[str, int]] = {}
    query = select(Run.study_id, Run.role, Run.state, func.count()).where(Run.newest)
    for study_id, role, state, n in session.execute(
        query.group_by(Run.study_id, Run.role, Run.state)
    ):
        so_far = counted.setdefault(study_id, {"done": 0, "running": 0})
        if role == CANDIDATE and state in ENDED:
            so_far["done"] += n
        if state == RUNNING:
            so_far["running"] += n
    best: dict[int, float | None] = {}
    scores = select(Run.study_id, func.max(Run.score)).where(
        Run.newest, Run.state == COMPLETE, Run.role.in_(SEARCHED)
    )
    for study_id, score in session.execute(scores.group_by(Run.study_id)):
        best[study_id] = score
    return [
        {
            "study": row.name,
            "space": row.space_name,
            "budget": row.settings["budget"]["text"],
            "strategy": row.settings["strategy"],
            "trials": row.trials,
            **counted.get(row.id, {"done": 0, "running": 0}),
            "best_score": best.get(row.id),
            **metric_of(row.settings["recipe"])._asdict(),
            "created_at": row.created_at,
        }
        for row in session.scalars(select(Study).order_by(Study.created_at.desc(), Study.id))
    ]


def _about(study: Study) -> dict[str, Any]:
    return {
        "study": study.name,
        "space": study.space_name,
        "space_version": study.space_version,
        "trials": study.trials,
        "seed": study.seed,
        "created_at": study.created_at,
        **study.settings,
        **study.place,
        "budget": study.settings["budget"]["text"],
    }


def _rows(session: Session, query: Any) -> list[dict[str, Any]]:
    joined = query.join(Architecture, Architecture.id == Run.architecture_id)
    return [_row(row) for row in session.execute(joined)]


def _row(row: Row[Any]) -> dict[str, Any]:
    data = dict(row._mapping)
    started, finished = data.pop("started_at"), data["finished_at"]
    metrics = data.pop("metrics") or {}
    data["learned"] = learned(metrics)
    data["trial"] = data.pop("trial_number")
    data["seconds"] = None if started is None or finished is None else finished - started
    return data


def learned(metrics: Mapping[str, Any]) -> bool:
    """Whether the network of a run has begun to learn: its top-1 is well above a guess's.

    A score that no guess compares with, of a user's own evaluation, is taken as it is.
    """
    if (chance := metrics.get("chance", 0.0)) is None:
        return True
    least = min(LEARNED * chance, chance + LEARNED_ROOM * (1 - chance)) or LEARNED_SKILL
    return bool(metrics.get("top1", 1.0) >= least)


def _of(study: Study, *roles: str) -> Any:
    timed = _timed(study)
    query = select(*_ROW, timed.c.latency_ms).where(
        Run.study_id == study.id, Run.newest, Run.role.in_(roles)
    )
    return query.outerjoin(timed, timed.c.architecture_id == Run.architecture_id)


def _summary(session: Session, study: Study, top: int) -> dict[str, Any]:
    by_score = (Run.score.desc(), Run.proposal)
    done = _of(study, CANDIDATE).where(Run.state == COMPLETE)
    leaders = _rows(session, done.order_by(*by_score).limit(top))
    baselines = _rows(session, _of(study, BASELINE).order_by(*by_score))
    # PostgreSQL sorts missing scores first, SQLite last.
    baselines.sort(key=lambda r: (r["score"] is None, -(r["score"] or 0.0)))
    best = leaders[0] if leaders else None
    scored = [b for b in baselines if b["score"] is not None and b["learned"]]
    return {
        "study": _about(study) | {"counts": counts(session, study)},
        "leaderboard": leaders,
        "baselines": baselines,
        "pareto": _pareto(session, study),
        "best": best,
        "scored": _scored(session, study),
        "confirmation": study.confirmation,
        "verdict": study.verdict,
        "comparisons": list((study.comparisons or {}).values()),
        "beats": [b["label"] for b in scored if best is not None and b["score"] < best["score"]],
    }


def _scored(session: Session, study: Study) -> list[dict[str, Any]]:
    """Return what a choice among candidates needs; latency is of the study's first device."""
    timed = _timed(study)
    query = (
        select(Run.trial_number, Run.score, Architecture.params, timed.c.latency_ms)
        .join(Architecture, Architecture.id == Run.architecture_id)
        .outerjoin(timed, timed.c.architecture_id == Architecture.id)
        .where(Run.study_id == study.id, Run.newest, Run.role == CANDIDATE, Run.state == COMPLETE)
        .order_by(Run.proposal)
    )
    names = ("trial", "score", "params", "latency_ms")
    return [dict(zip(names, row, strict=True)) for row in session.execute(query)]


def _timed(study: Study) -> Any:
    on = study.settings.get("latency")
    here = Measurement.device == study.place.get("device")
    if on is not None:
        here = Measurement.setup_id == LatencyDevice.model_validate(on).key
    return (
        select(Measurement.architecture_id, func.min(Measurement.value).label(LATENCY))
        .where(Measurement.metric == LATENCY, here)
        .group_by(Measurement.architecture_id)
        .subquery()
    )


def counts(session: Session, study: Study) -> dict[str, int]:
    """Return how many trials there are by state, replays counted apart."""
    query = (
        select(Run.role, Run.state, func.count())
        .where(Run.study_id == study.id, Run.newest)
        .group_by(Run.role, Run.state)
    )
    found: dict[str, int] = {}
    for role, state, n in session.execute(query):
        key = REPLAY if role == REPLAY else state
        found[key] = found.get(key, 0) + n
    return found


def _pareto(session: Session, study: Study) -> dict[str, list[dict[str, Any]]]:
    """Return, per cost, the trials that no other one beats in score at no higher cost."""
    timed = _timed(study)
    query = (
        select(Run.id, Run.score, Architecture.flops, Architecture.params, timed.c.latency_ms)
        .join(Architecture, Architecture.id == Run.architecture_id)
        .outerjoin(timed, timed.c.architecture_id == Run.architecture_id)
        .where(
            Run.study_id == study.id,
            Run.newest,
            Run.state == COMPLETE,
            Run.role.in_(SEARCHED),
        )
    )
    points = session.execute(query).all()
    fronts = {
        cost: front([(p.id, p.score, getattr(p, cost)) for p in points]) for cost in PARETO_COSTS
    }
    if points and all(p.latency_ms is not None for p in points):
        fronts[LATENCY] = front([(p.id, p.score, p.latency_ms) for p in points])
    wanted = {run_id for ids in fronts.values() for run_id in ids}
    found: dict[int, dict[str, Any]] = {}
    shown = select(Run.id, *_ROW, timed.c.latency_ms).where(Run.id.in_(wanted))
    shown = shown.outerjoin(timed, timed.c.architecture_id == Run.architecture_id)
    for row in _rows(session, shown):
        found[row.pop("id")] = row
    return {cost: [found[i] for i in ids] for cost, ids in fronts.items()}


def front(points: Iterable[tuple[int, float, float]]) -> list[int]:
    """Return the ids of (id, score, cost) points on the Pareto front, best score first.

    Of equal points the first one stands for all.
    """
    kept: list[int] = []
    cheapest = float("inf")
    for run_id, _, cost in sorted(points, key=lambda p: (-p[1], p[2], p[0])):
        if cost < cheapest:
            kept.append(run_id)
            cheapest = cost
    return kept


def _trial(session: Session, study: Study, number: int, storage: str) -> dict[str, Any]:
    query = (
        select(Run)
        .where(Run.study_id == study.id, Run.trial_number == number)
        .order_by(Run.attempt.desc())
    )
    attempts = list(session.scalars(query))
    if not attempts:
        raise StudyError(
            f"study {study.name!r} has no trial {number}; `show {study.name}` lists them"
        )
    run = attempts[0]
    design = session.get_one(Architecture, run.architecture_id)
    again = f"run-trial {study.name} {number}"
    return {
        "study": study.name,
        "trial": number,
        **{name: getattr(run, name) for name in _OF_TRIAL},
        **{name: getattr(design, name) for name in _OF_DESIGN},
        "measured": _measured(session, design.id),
        "space": study.space_name,
        "recipe": run.recipe or study.settings["recipe"],
        "replay_of": _number_of(session, run.replay_of),
        "environment": _facts(session, run.environment_id),
        "epochs": _epochs(session, attempts),
        "attempts": [_attempt(a) for a in reversed(attempts)],
        "rerun": again if storage.endswith("runs/nas.db") else f"{again} --storage {storage}",
    }


def _measured(session: Session, architecture_id: int) -> list[dict[str, Any]]:
    query = select(Measurement.metric, Measurement.device, Measurement.value)
    rows = session.execute(query.where(Measurement.architecture_id == architecture_id))
    return [dict(row._mapping) for row in rows]


def _facts(session: Session, environment_id: str | None) -> dict[str, Any] | None:
    return None if environment_id is None else session.get_one(Environment, environment_id).facts


def _epochs(session: Session, attempts: list[Run]) -> list[dict[str, Any]]:
    """Return the metrics of each epoch; a later attempt has the last word."""
    rows = session.execute(
        select(Epoch.epoch, Epoch.metrics)
        .where(Epoch.run_id.in_([a.id for a in attempts]))
        .order_by(Epoch.epoch, Epoch.run_id)
    )
    return list({epoch: metrics for epoch, metrics in rows}.values())


def _number_of(session: Session, run_id: int | None) -> int | None:
    return None if run_id is None else session.get_one(Run, run_id).trial_number


def _attempt(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _OF_ATTEMPT} | {"owner": run.lease_owner}
