"""When a training that makes no batch any more counts as stalled, by its own pace."""

from __future__ import annotations

# Without a limit of the user's: as many times the longest silence so far, but never less than
# loading data, compiling kernels or a scoring may take.
TIMES, LEAST_S = 20.0, 300.0
_MOST_LOOKS_MISSED = 2


class Pace:
    """Watches a count of batches, looked at about every `every` seconds.

    limit_s: how long it may stand still; by its own pace where None. A process that was paused as
    a whole has not stalled: of the time between two looks no more than twice `every` counts.
    """

    def __init__(self, limit_s: float | None, every: float, now: float) -> None:
        self._stated, self._now, self._count = limit_s, now, -1
        self.every = every if limit_s is None else min(every, limit_s / 4)
        self._silent = self._longest = 0.0

    @property
    def limit_s(self) -> float:
        """How long it may make no batch."""
        return self._stated or max(LEAST_S, TIMES * self._longest)

    @property
    def left_s(self) -> float:
        """How much of that is left."""
        return self.limit_s - self._silent

    def pass_over(self, now: float) -> None:
        """Let the time since the last look count for nothing: nobody could have seen a batch."""
        self._now = now

    def look(self, count: int, now: float) -> str | None:
        """Take in how many batches there are; return why the training has stalled, if it has."""
        step = min(now - self._now, _MOST_LOOKS_MISSED * self.every)
        self._now = now
        if count != self._count:
            self._longest = max(self._longest, self._silent)
            self._count, self._silent = count, 0.0
            return None
        self._silent += step
        if self._silent < self.limit_s:
            return None
        return f"no batch for {self._silent:.0f} s (limit {self.limit_s:.0f} s, --stall)"
