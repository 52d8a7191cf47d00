"""Who is to blame when a training ends badly: the design, or the place where it ran.

The design's: no finite loss, no memory at half the batch, too slow for its time limit. An error
is the place's when a small known design, the canary, fails there as well: the trial goes back and
costs its design nothing, and a driver to which that happens BREAKER times in a row stops asking.
So it is with a training that stalls. An error where the canary trains is tried once more,
elsewhere if anybody else is there to take it; the second one ends the design, unless it came from
the same machine while others work.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select
from sqlalchemy.orm import Session

from nas.driver.clock import Clock
from nas.store.tables import Run
from nas.study.attempts import CANARY, RUNNING, Result
from nas.study.outcomes import UNCLEAR

BREAKER = 3
_FIRST_PAUSE_S = 2.0


class Breaker:
    """Counts how often in a row each machine of a driver has failed.

    places: how many machines there are. One that has failed BREAKER times is left out; when all
    are, the driver stops.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self._until = clock, 0.0
        self._failures: Counter[str] = Counter()
        self.places = 1
        self.reason = ""

    def note(self, result: Result) -> None:
        """Take in how a training ended."""
        where = (result.environment or {}).get("host", "this machine")
        if result.place is None:
            self._failures.pop(where, None)
            return
        self._failures[where] += 1
        if len(self._failures) >= self.places:  # no other machine is known to be well
            pause_s = _FIRST_PAUSE_S * 2 ** (self._failures[where] - 1)
            self._until = self._clock.now() + pause_s
        self.reason = f"a known design fails on {where} as well: {result.place}"

    @property
    def broken(self) -> tuple[str, ...]:
        """The machines that are left out."""
        return tuple(sorted(host for host, n in self._failures.items() if n >= BREAKER))

    @property
    def tripped(self) -> str | None:
        """Why this driver stops; None while it goes on."""
        if len(self.broken) < self.places:
            return None
        return f"{sum(self._failures.values())} trials in a row failed, and {self.reason}"

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
