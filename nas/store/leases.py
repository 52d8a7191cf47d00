"""Who may write a run: leases that expire, and tokens that make a late write harmless.

A running run belongs to one owner until its lease expires; the owner renews it. Every claim
raises the run's token, and every write names owner and token, so a former owner that wakes up
changes nothing: it is told that its lease is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Double, bindparam, select, update
from sqlalchemy.orm import Session

from nas.store.now import Now, Time
from nas.store.session import INSERTS
from nas.store.tables import Epoch, Run
from nas.study.attempts import RUNNING, WAITING, Lease, LeaseLost, Result
from nas.study.outcomes import Outcome

# A driver that stops renewing is believed dead after LEASE_S. Longer than a lock on the database
# may delay a renewal; a result that comes later still is refused, not mixed up.
LEASE_S = 45.0
RENEW_EVERY_S = 10.0


def claim(
    session: Session, run: Run, owner: str, now: Time, place: Mapping[str, Any]
) -> Lease | None:
    """Take a waiting run; None when another driver was faster.

    place: columns that say where it will run (device, environment_id, checkpoint).
    """
    token = run.lease_token
    taken = _change(
        session,
        update(Run)
        .where(Run.id == run.id, Run.state == WAITING, Run.lease_token == token, Run.newest)
        .values(
            state=RUNNING,
            lease_owner=owner,
            lease_token=token + 1,
            lease_expires=now + LEASE_S,
            started_at=now,
            **place,
        ),
    )
    if taken:
        return Lease(run.id, owner, token + 1)
    # A commit that went through although its answer was lost.
    mine = select(Run.id).where(
        Run.id == run.id,
        Run.state == RUNNING,
        Run.lease_owner == owner,
        Run.lease_token == token + 1,
    )
    return Lease(run.id, owner, token + 1) if session.scalar(mine) is not None else None


def renew(
    session: Session, lease: Lease, now: Time, batch: int | None = None, *, begins: bool = False
) -> None:
    """Extend a lease.

    batch: how many updates the training has made, where it has made more since the last time.
    begins: whether it begins only now, after it had waited for room.
    Raises: LeaseLost when the run is no longer the owner's.
    """
    moved = {} if batch is None else {"progress_at": now, "progress_batch": batch}
    moved |= {"started_at": now} if begins else {}
    _held(session, lease, lease_expires=now + LEASE_S, **moved)


def record_epoch(
    session: Session, lease: Lease, epoch: int, metrics: Mapping[str, Any], now: Time
) -> None:
    """Write the metrics of an epoch, replacing those of an interrupted attempt at it.

    Raises: LeaseLost, as `renew`, whose work it does in the same transaction.
    """
    mine = {"run": lease.run_id, "owner": lease.owner, "token": lease.token}
    stamp = {} if isinstance(now, Now) else {"now": now}
    kept, written = _epoch_statements(session.get_bind().dialect.name, *stamp)
    if not _change(session, kept, mine | stamp):
        raise _lost(lease)
    session.execute(written, {"run": lease.run_id, "number": epoch, "data": dict(metrics), **stamp})


@cache
def _epoch_statements(dialect: str, *stamp: str) -> tuple[Any, Any]:
    """Return what an epoch writes, put together once. stamp: "now" where the time is a number."""
    now = bindparam("now", type_=Double()) if stamp else Now()
    kept = update(Run).where(
        Run.id == bindparam("run"),
        Run.state == RUNNING,
        Run.lease_owner == bindparam("owner"),
        Run.lease_token == bindparam("token"),
    )
    insert = INSERTS[dialect](Epoch).values(
        run_id=bindparam("run"), epoch=bindparam("number"), metrics=bindparam("data"), at=now
    )
    new = {"metrics": insert.excluded.metrics, "at": insert.excluded.at}
    return (
        kept.values(lease_expires=now + LEASE_S, progress_at=now),
        insert.on_conflict_do_update(index_elements=("run_id", "epoch"), set_=new),
    )


def finish(session: Session, lease: Lease, result: Result, now: Time, **where: str | None) -> None:
    """Write how a run ended.

    where: columns that say where it ran (environment_id, node), if that is known better now.

    Raises: LeaseLost when the run is no longer the owner's; then nothing was written.
    """
    written = _change(
        session,
        update(Run)
        .where(*_is_mine(lease))
        .values(
            state=result.outcome.value,
            score=result.score,
            scores=None if result.scores is None else dict(result.scores),
            objectives=None if result.objectives is None else list(result.objectives),
            metrics=None if result.metrics is None else dict(result.metrics),
            backend=result.backend,
            dtype=result.dtype,
            error=result.error,
            traceback=result.traceback,
            lease_expires=None,
            finished_at=now,
            told=False,
            **where,
        ),
    )
    if not written and not _ended_by(session, lease, result.outcome.value):
        raise _lost(lease)


def release(session: Session, lease: Lease) -> None:
    """Put a run back into the queue, to be continued from its checkpoint as the same attempt.

    Raises: LeaseLost when the run is no longer the owner's.
    """
    back = _change(
        session,
        update(Run).where(*_is_mine(lease)).values(state=WAITING, lease_expires=None),
    )
    if not back and not _ended_by(session, lease, WAITING):
        raise _lost(lease)


def revoke(session: Session, run: Run, outcome: Outcome, reason: str, now: Time) -> bool:
    """End a run whose owner is gone; False when it moved in the meantime.

    The token is part of the condition: a renewal leaves it, so the expiry is compared too.
    """
    return _change(
        session,
        update(Run)
        .where(
            Run.id == run.id,
            Run.state == RUNNING,
            Run.lease_token == run.lease_token,
            Run.lease_expires == run.lease_expires,
        )
        .values(
            state=outcome.value,
            error=reason,
            finished_at=now,
            lease_expires=None,
            lease_token=run.lease_token + 1,
            told=False,
        ),
    )


def _is_mine(lease: Lease) -> tuple[Any, ...]:
    return (
        Run.id == lease.run_id,
        Run.state == RUNNING,
        Run.lease_owner == lease.owner,
        Run.lease_token == lease.token,
    )


def _held(session: Session, lease: Lease, **values: Any) -> None:
    if not _change(session, update(Run).where(*_is_mine(lease)).values(**values)):
        raise _lost(lease)


def _ended_by(session: Session, lease: Lease, state: str) -> bool:
    """Whether this owner wrote `state` already, in a commit whose answer was lost."""
    found = select(Run.id).where(
        Run.id == lease.run_id,
        Run.state == state,
        Run.lease_owner == lease.owner,
        Run.lease_token == lease.token,
    )
    return session.scalar(found) is not None


def _change(session: Session, statement: Any, values: Mapping[str, Any] | None = None) -> bool:
    done = session.execute(statement, values, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", done).rowcount == 1


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"run {lease.run_id} no longer belongs to {lease.owner} (token {lease.token}): its lease "
        "expired and another driver has it; this result was not written"
    )
