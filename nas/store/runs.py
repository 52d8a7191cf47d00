"""Writing proposals and attempts: which designs are tried, each at most once, in what order.

Every function runs inside a transaction of `Store.write`; those that add proposals hold the
study's row, so that proposals of several drivers are numbered one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, bindparam, func, select, update
from sqlalchemy.orm import Session

from nas.store.leases import LEASE_S
from nas.store.now import Time
from nas.store.session import insert_if_new, lock_study
from nas.store.tables import (
    NEWEST,
    QUEUED,
    TRAINED_ONCE,
    UNTOLD,
    Architecture,
    Environment,
    Run,
    Study,
)
from nas.study.attempts import ENDED, RUNNING, WAITING, Lease
from nas.study.outcomes import Outcome
from nas.study.proposals import CANDIDATE, REPLAY, SEARCHED, NewProposal

MAX_ATTEMPTS = 3
# With the design, what tells one training of a study from another.
_TRAINING = ("stage", "seed_index", "repeat", "split", "recipe_id")
# What all attempts at a trial share.
_OF_TRIAL = (
    *("study_id", "trial_number", "proposal", "role", "label", "kind", "architecture_id"),
    *("fingerprint", "params", "choices", "sampler", "space_version", "seed", "recipe", *_TRAINING),
)
# What a replay takes over from the training that it stands for.
_REPLAYED = ("state", "score", "scores", "objectives", "metrics", "error", "halvings")
_STUDY = Run.study_id == bindparam("study")
_CANDIDATES = (_STUDY, Run.newest, Run.role == CANDIDATE)
_BEST = (
    select(Run.score, Run.trial_number)
    .where(_STUDY, Run.newest, Run.state == Outcome.COMPLETE.value, Run.role.in_(SEARCHED))
    .order_by(Run.score.desc(), Run.proposal)
    .limit(1)
)


def _one(query: Select[Any], name: str) -> Any:
    """Return a query of one value as a column of another, of the same table or not."""
    return query.correlate(None).scalar_subquery().label(name)


_SAME = select(Run.id).where(
    _STUDY,
    *(getattr(Run, key) == bindparam(key) for key in ("fingerprint", *_TRAINING)),
    TRAINED_ONCE,
)
# Statements that every trial makes are put together once: that takes longer than to run them.
_THERE = select(
    _one(select(func.max(Run.proposal)).where(_STUDY), "proposal"),
    _one(select(func.max(Run.trial_number)).where(_STUDY), "number"),
    _one(select(func.count()).where(*_CANDIDATES), "candidates"),
    _one(_SAME, "known"),
)
_FINISHED = select(
    Run.started_at,
    Run.created_at,
    Run.finished_at,
    Run.environment_id,
    Run.proposal,
    _one(select(func.count()).where(*_CANDIDATES, Run.state.in_(ENDED)), "done"),
    _one(_BEST.with_only_columns(Run.trial_number), "best"),
).where(Run.id == bindparam("run"))
_QUEUE = select(Run).where(_STUDY, QUEUED).order_by(Run.proposal).limit(1)


class Refusal(str, Enum):
    """Why a proposal was not written. No row exists then."""

    STALE = "stale"  # another driver proposed first: learn of it and propose again
    IN_FLIGHT = "in flight"  # this design is being trained: propose another
    FULL = "full"  # all wanted candidates exist


def propose(
    session: Session,
    study_id: int,
    new: NewProposal,
    owner: str,
    now: Time,
    place: Mapping[str, Any],
    *,
    queued: bool = False,
) -> Run | Refusal:
    """Write a proposal: as a running run of `owner`, or as a replay of what is known of it.

    place: columns that say where it will run (device, environment_id, checkpoint).
    queued: it waits for somebody, and is no replay; a full study wants one candidate more.
    """
    study = lock_study(session, study_id)
    there = session.execute(
        _THERE, {"study": study_id, "fingerprint": new.fingerprint, **_training(new)}
    ).one()
    index, number = _after(there.proposal, there.number)
    if new.index != index:
        return _written_before(session, study_id, new, owner) or Refusal.STALE
    if new.role == CANDIDATE and there.candidates >= study.trials:
        if not queued:
            return Refusal.FULL
        change_study(session, study_id, trials=study.trials + 1)
    known = None if there.known is None else session.get_one(Run, there.known)
    if known is not None and known.state not in ENDED:
        return Refusal.IN_FLIGHT
    run = _row(new, study_id, study.space_version, number, owner, now)
    run.design = _architecture(session, study, new, now)
    if known is None and queued:
        run.state, run.lease_token = WAITING, 0
    elif known is None:
        run.lease_expires, run.started_at = now + LEASE_S, now
        for column, value in place.items():
            setattr(run, column, value)
    else:
        run.role, run.replay_of, run.finished_at = REPLAY, known.id, now
        for column in _REPLAYED:
            setattr(run, column, getattr(known, column))
    session.add(run)
    session.flush()
    return run


def training_of(session: Session, study_id: int, new: NewProposal) -> Run | None:
    """Return the run that is or was the very training that is proposed."""
    values = {"study": study_id, "fingerprint": new.fingerprint, **_training(new)}
    return session.scalars(_SAME.with_only_columns(Run), values).one_or_none()


def _row(
    new: NewProposal, study_id: int, space_version: str, number: int, owner: str, now: Time
) -> Run:
    """Return the first attempt at a proposal, as it is written."""
    return Run(
        study_id=study_id,
        trial_number=number,
        proposal=new.index,
        attempt=1,
        newest=True,
        role=new.role,
        label=new.label,
        kind=new.kind,
        fingerprint=new.fingerprint,
        params=dict(new.params),
        choices=dict(new.choices),
        sampler=dict(new.sampler),
        space_version=space_version,
        seed=new.seed,
        **_training(new),
        recipe=None if new.recipe is None else dict(new.recipe),
        state=RUNNING,
        halvings=0,
        told=False,
        lease_owner=owner,
        lease_token=1,
        created_at=now,
    )


def _training(new: NewProposal) -> dict[str, Any]:
    return {key: getattr(new, key) for key in _TRAINING}


def retry(session: Session, run: Run, *, halvings: int | None = None, now: Time) -> Run:
    """Add a waiting attempt of the same trial, same design and seed, after `run` ended."""
    session.execute(update(Run).where(Run.id == run.id).values(newest=False, told=True))
    session.flush()
    again = Run(
        **{column: getattr(run, column) for column in _OF_TRIAL},
        attempt=run.attempt + 1,
        newest=True,
        state=WAITING,
        halvings=run.halvings if halvings is None else halvings,
        told=False,
        lease_token=0,
        # A batch of another size is another training; its checkpoint would be refused.
        checkpoint=run.checkpoint if halvings is None else None,
        created_at=now,
    )
    session.add(again)
    session.flush()
    return again


def put_back(session: Session, study_id: int, states: Collection[str], now: Time) -> int:
    """Add waiting attempts of trials that ended in one of `states`; return how many."""
    query = select(Run).where(
        Run.study_id == study_id, NEWEST, Run.state.in_(states), Run.role != REPLAY
    )
    ended = list(session.scalars(query.order_by(Run.proposal)))
    for run in ended:
        retry(session, run, now=now)
    return len(ended)


def count_states(session: Session, study_id: int, states: Collection[str]) -> int:
    """Return how many trials that were trained are in one of `states`."""
    query = select(func.count()).where(
        Run.study_id == study_id, Run.newest, Run.state.in_(states), Run.role != REPLAY
    )
    return session.scalar(query) or 0


def attempts_lost(session: Session, run: Run) -> int:
    """Return how many attempts of a trial ended because their owner vanished."""
    ends = select(func.count()).where(
        Run.study_id == run.study_id,
        Run.proposal == run.proposal,
        Run.state == Outcome.LOST.value,
    )
    return session.scalar(ends) or 0


def running(session: Session, study_id: int, now: Time) -> list[tuple[Run, bool]]:
    """Return the runs that somebody owns, and whether their leases have run out."""
    silent = func.coalesce(Run.lease_expires, 0.0) <= now
    query = select(Run, silent).where(Run.study_id == study_id, Run.state == RUNNING, Run.newest)
    return [(run, bool(gone)) for run, gone in session.execute(query.order_by(Run.proposal))]


def first_waiting(session: Session, study_id: int, but: Collection[int] = ()) -> Run | None:
    """Return the waiting run that was proposed first. but: proposals to pass over."""
    query = _QUEUE.where(Run.proposal.not_in(but)) if but else _QUEUE
    return session.scalars(query, {"study": study_id}).one_or_none()


def best(session: Session, study_id: int) -> tuple[float, int] | None:
    """Return score and trial number of the best completed run, baselines included."""
    row = session.execute(_BEST, {"study": study_id}).first()
    if row is None or row.score is None or row.trial_number is None:
        return None
    return row.score, row.trial_number


def finished(session: Session, study_id: int, run_id: int) -> Row[Any]:
    """Return what is told of a run that has ended, and of its study as it is now.

    Of the run started_at, created_at, finished_at, environment_id, proposal; of the study done,
    how many candidates have ended, and best, the trial with the best score.
    """
    return session.execute(_FINISHED, {"study": study_id, "run": run_id}).one()


def live_checkpoints(session: Session, study_id: int) -> set[str]:
    """Return the checkpoint folders of runs that have not ended."""
    query = select(Run.checkpoint).where(
        Run.study_id == study_id, Run.newest, Run.state.in_((RUNNING, WAITING))
    )
    return {path for path in session.scalars(query) if path is not None}


class Shown(NamedTuple):
    """A run and what its design costs, as Optuna's copy shows them."""

    run: Run
    flops: int
    params: int


def uncopied(session: Session, study_id: int, *, everything: bool = False) -> list[Shown]:
    """Return the trials that Optuna's copy lacks or shows in another state, by number.

    everything: all trials, because the copy is to be made anew.
    """
    query = (
        select(Run, Architecture.flops, Architecture.params)
        .join(Architecture, Run.architecture_id == Architecture.id)
        .where(Run.study_id == study_id, NEWEST, *(() if everything else (UNTOLD,)))
    )
    found = [Shown(*row) for row in session.execute(query)]
    return sorted(found, key=lambda shown: shown.run.trial_number or 0)


def last_copied(session: Session, study_id: int) -> int | None:
    """Return the highest trial number that Optuna's copy has."""
    query = select(Run.trial_number).where(Run.study_id == study_id, Run.told, Run.newest)
    return session.scalar(query.order_by(Run.trial_number.desc()).limit(1))


def mark_copied(session: Session, copied: Iterable[Run]) -> None:
    """Remember that Optuna's copy shows these runs as they were when they were read."""
    for state, found in groupby(sorted(copied, key=lambda run: run.state), lambda run: run.state):
        session.execute(
            update(Run)
            .where(Run.id.in_([run.id for run in found]), Run.state == state)
            .values(told=True)
        )


def count(session: Session, study_id: int, role: str, *, ended: bool = False) -> int:
    """Return how many trials of a role exist, or have ended."""
    query = select(func.count()).where(Run.study_id == study_id, Run.newest, Run.role == role)
    if ended:
        query = query.where(Run.state.in_(ENDED))
    return session.scalar(query) or 0


def wanted(session: Session, study_id: int) -> int:
    """Return how many candidates a study shall have."""
    return session.scalars(select(Study.trials).where(Study.id == study_id)).one()


def next_index(session: Session, study_id: int) -> int:
    """Return the index of the next proposal."""
    last = session.scalar(select(func.max(Run.proposal)).where(Run.study_id == study_id))
    return 0 if last is None else last + 1


def _after(proposal: int | None, number: int | None) -> tuple[int, int]:
    """Return the next index and trial number after the last; the same but in studies of old."""
    index, number = (0 if last is None else last + 1 for last in (proposal, number))
    return index, max(index, number)


def change_study(session: Session, study_id: int, **columns: Any) -> None:
    """Write columns of a study: trials wanted, planner, or blocked."""
    session.execute(update(Study).where(Study.id == study_id).values(**columns))


def environment_id(facts: Mapping[str, Any]) -> str:
    """Return the id under which an environment is recorded: a hash of its facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def add_environment(session: Session, facts: Mapping[str, Any], now: Time) -> str:
    """Record an environment unless it is known; return its id."""
    key = environment_id(facts)
    insert_if_new(session, Environment, Environment.id, id=key, facts=dict(facts), created_at=now)
    return key


def _written_before(session: Session, study_id: int, new: NewProposal, owner: str) -> Run | None:
    """Find the same proposal of the same owner: a commit that went through unseen."""
    return session.scalars(
        select(Run).where(
            Run.study_id == study_id,
            Run.proposal == new.index,
            Run.attempt == 1,
            Run.fingerprint == new.fingerprint,
            Run.lease_owner == owner,
        )
    ).one_or_none()


def _architecture(session: Session, study: Row[Any], new: NewProposal, now: Time) -> Architecture:
    # Another study of the same space may write the same design at this moment.
    made: Architecture | None = insert_if_new(
        session,
        Architecture,
        Architecture,
        fingerprint=new.fingerprint,
        config=dict(new.config),
        flops=new.flops,
        params=new.params_count,
        convention=new.convention,
        image_size=new.image_size,
        space_name=study.space_name,
        space_version=study.space_version,
        space_id=study.space_fingerprint,
        created_at=now,
    )
    if made is not None:
        return made
    known = select(Architecture).where(
        Architecture.fingerprint == new.fingerprint,
        Architecture.convention == new.convention,
        Architecture.image_size == new.image_size,
        Architecture.space_id == study.space_fingerprint,
    )
    return session.scalars(known).one()


def lease_of(run: Run) -> Lease:
    """Return the lease under which a run was just proposed or claimed."""
    assert run.lease_owner is not None
    return Lease(run.id, run.lease_owner, run.lease_token)


def count_waiting(session: Session, study_id: int) -> int:
    """Return how many runs wait for a driver."""
    query = select(func.count()).where(Run.study_id == study_id, Run.newest, Run.state == WAITING)
    return session.scalar(query) or 0
