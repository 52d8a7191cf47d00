"""Who is to blame when a training ends badly: the design, or the place where it ran.

The design's: no finite loss, no memory at half the batch, too slow for its time limit. An error
is the place's when a small known design, the canary, fails there as well: the trial goes back and
costs its design nothing, and a driver to which that happens BREAKER times in a row stops asking.
So it is with a training that stalls. An error where the canary trains is tried once more,
elsewhere if anybody else is there to take it; the second one ends the design, unless it came from
the same machine while others work.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.driver.clock import Clock
from nas.store.tables import Run
from nas.study.attempts import CANARY, RUNNING, Result
from nas.study.outcomes import UNCLEAR

BREAKER = 3
_FIRST_PAUSE_S = 2.0


class Breaker:
    """Counts how often in a row the place of a driver has failed."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._failures, self._until = clock, 0, 0.0
        self.reason = ""

    def note(self, result: Result) -> None:
        """Take in how a training ended."""
        if result.place is None:
            self._failures = 0
            return
        self._failures += 1
        self._until = self._clock.now() + _FIRST_PAUSE_S * 2 ** (self._failures - 1)
        where = (result.environment or {}).get("host", "this machine")
        self.reason = f"a known design fails on {where} as well: {result.place}"

    @property
    def tripped(self) -> str | None:
        """Why this driver stops; None while it goes on."""
        if self._failures < BREAKER:
            return None
        return f"{self._failures} trials in a row failed, and {self.reason}"

    @property
    def pause_s(self) -> float:
        """How long to start nothing."""
        return max(0.0, self._until - self._clock.now()) if self._failures else 0.0


def goes_back(session: Session, run: Run, result: Result) -> bool:
    """Whether a run that has just ended is to be tried again as it is."""
    if result.outcome not in UNCLEAR:
        return False
    if result.place is not None:
        return True
    earlier = select(Run.node, Run.metrics).where(
        Run.study_id == run.study_id,
        Run.proposal == run.proposal,
        Run.state.in_([outcome.value for outcome in UNCLEAR]),
        Run.id != run.id,
    )
    before = [node for node, metrics in session.execute(earlier) if (metrics or {}).get(CANARY)]
    if not before:
        return True
    return {*before} == {run.node} and _others_work(session, run)


def _others_work(session: Session, run: Run) -> bool:
    """Whether drivers on other machines train trials of the same study."""
    mine = (run.lease_owner or "").partition("/")[0]
    owners = select(Run.lease_owner).where(Run.study_id == run.study_id, Run.state == RUNNING)
    return any((owner or mine).partition("/")[0] != mine for owner in session.scalars(owners))
