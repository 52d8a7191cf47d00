"""What a study measures, between the tables of this process and the database."""

from __future__ import annotations

from sqlalchemy.orm import Session

from nas.driver.access import Access
from nas.planning.meters import times_on
from nas.store import measurements
from nas.study.proposals import NewProposal


class Measuring:
    """Shares the times of parts with the other drivers of a database."""

    def __init__(self, access: Access) -> None:
        self.access, on = access, access.settings.latency
        self.times = None if on is None else times_on(on)
        if on is not None and self.times is not None:
            self.times.take(access.store.read(lambda s: measurements.times(s, on)))

    def keep(self) -> None:
        """Write down the parts that were timed here, before a design that they decided on."""
        if self.times is None or not self.times.fresh:
            return
        times, now = self.times, self.access.clock.stamp()
        fresh = {key: (piece, times.known[key]) for key, piece in times.fresh.items()}
        times.take(
            self.access.store.write(
                lambda s: measurements.add_times(s, times.device, fresh, now), durable=True
            )
        )

    def note(self, session: Session, architecture_id: int, new: NewProposal) -> None:
        """Write down what was measured of a design that is being proposed."""
        settings, now = self.access.settings, self.access.clock.stamp()
        measurements.add(session, architecture_id, new.measured, settings, now)
