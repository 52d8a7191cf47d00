"""What a strategy is told of a proposal: a trial as Optuna's samplers read it.

A failure that is the design's own teaches as a measured score does: it is told as a little worse
than all that was measured, in every objective, so that it never stands on a front and nobody
goes back there. How bad that is follows from all that is known, not from what was known then:
the same rows tell the same in whatever order they came.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.planning.strategies.encoding import ROLE, distributions
from nas.study.outcomes import UNCLEAR, Outcome
from nas.study.proposals import SEARCH, Entry

if TYPE_CHECKING:
    from nas.planning.strategies.history import History
    from search_spaces import SearchSpace

# How far beyond the worst that was measured a failure is told, as a share of what was measured.
BEYOND, LEAST_BEYOND = 0.1, 1e-6
# Outcomes that are a property of the design.
_OWN = frozenset(o.value for o in (Outcome.NAN, Outcome.OOM, Outcome.TIMEOUT))
_UNCLEAR = frozenset(o.value for o in UNCLEAR)
_MEASURED = (Outcome.COMPLETE.value, Outcome.PRUNED.value)
_STATES = {"running": TrialState.RUNNING, "waiting": TrialState.RUNNING} | {
    o.value: TrialState.FAIL for o in Outcome
}
_STATES |= {Outcome.COMPLETE.value: TrialState.COMPLETE, Outcome.PRUNED.value: TrialState.PRUNED}
# Samplers never look at times; Optuna only insists that they exist.
SOME_TIME = datetime(2000, 1, 1)


class Teller:
    """Puts proposals and their outcomes into a history."""

    def __init__(self, history: History, space: SearchSpace) -> None:
        self.distributions = distributions(space)
        self._history = history
        self._shared: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}
        self._failed: dict[int, Entry] = {}
        # Of each objective the worst and the best that was measured.
        self._range: list[tuple[float, float]] = []
        self._told: list[float] = []

    def tell(self, entries: list[Entry]) -> None:
        """Take over what is new or has moved on."""
        for entry in entries:
            if entry.stage == SEARCH and _own_failure(entry):
                self._failed[entry.index] = entry
            elif entry.stage == SEARCH and entry.state in _MEASURED and entry.objectives:
                self._measure(entry.objectives)
            self._history.put(self._trial(entry))
        worst = self._beyond()
        if worst != self._told:
            self._told = worst
            for entry in self._failed.values():
                self._history.put(self._trial(entry))

    def _measure(self, objectives: list[float]) -> None:
        signs = self._signs()
        known = self._range or [(v, v) for v in objectives]
        self._range = [
            (min(worst, v, key=lambda x: s * x), max(best, v, key=lambda x: s * x))
            for (worst, best), v, s in zip(known, objectives, signs)
        ]

    def _signs(self) -> list[int]:
        return [1 if d == StudyDirection.MAXIMIZE else -1 for d in self._history.directions]

    def _beyond(self) -> list[float]:
        """Return what a failure is told as; zeros while nothing is measured."""
        if not self._range:
            return [0.0] * len(self._history.directions)
        return [
            worst - s * (BEYOND * abs(best - worst) + LEAST_BEYOND * max(1.0, abs(worst)))
            for (worst, best), s in zip(self._range, self._signs())
        ]

    def _trial(self, entry: Entry) -> FrozenTrial:
        if entry.stage != SEARCH:
            # What another stage trained keeps its index, and tells a strategy nothing.
            state, values, params, attached = TrialState.FAIL, None, {}, {}
        elif entry.index in self._failed:
            state, values = TrialState.COMPLETE, self._told or self._beyond()
            params, attached = entry.params, entry.sampler
        else:
            state, params, attached = _STATES[entry.state], entry.params, entry.sampler
            values = entry.objectives if entry.state in _MEASURED else None
        # Of several objectives a pruned trial has none that would compare.
        if state is TrialState.PRUNED and values and len(values) > 1:
            values = None
        steps = {entry.epochs: values[0]} if state is TrialState.PRUNED and values else {}
        return FrozenTrial(
            number=entry.index,
            trial_id=entry.index,
            state=state,
            value=None,
            values=values,
            datetime_start=SOME_TIME,
            datetime_complete=None if state is TrialState.RUNNING else SOME_TIME,
            params=params,
            distributions=self._distributions(tuple(params)),
            user_attrs={ROLE: entry.role},
            system_attrs=attached,
            intermediate_values=steps,
        )

    def _distributions(self, names: tuple[str, ...]) -> dict[str, BaseDistribution]:
        """Return one shared mapping for all trials with the same active choices."""
        if names not in self._shared:
            self._shared[names] = {n: self.distributions[n] for n in names}
        return self._shared[names]


def _own_failure(entry: Entry) -> bool:
    """Whether a proposal failed because of its design: a known one trained in its place."""
    return entry.state in _OWN or (entry.state in _UNCLEAR and entry.canary is True)
