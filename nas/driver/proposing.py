"""What a driver starts when nothing waits: baselines first, then what the strategy proposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from backbones.errors import ConfigError
from nas.driver.access import Access, Done, Wait
from nas.driver.measuring import Measuring
from nas.driver.progress import Notice
from nas.evidence.plateau import settled
from nas.planning.proposals import Planner
from nas.store import history, runs
from nas.store.runs import Refusal
from nas.store.tables import Architecture, Run
from nas.study.proposals import NewProposal
from search_spaces.errors import SpaceError
from search_spaces.fit import said

T = TypeVar("T")


class Proposing:
    """Writes one driver's proposals, each a function of the rows that were there before it."""

    def __init__(self, access: Access, place: Callable[..., dict[str, Any]]) -> None:
        """Set out.

        place: fingerprint and proposal -> columns that say where a design will run.
        """
        self.access, self.place, self.measuring = access, place, Measuring(access)
        memory = access.store.read(
            lambda s: history.find_study(s, access.name, access.store.shown).planner
        )
        self.planner = Planner(access.name, access.settings, memory)
        self._labels_done: set[str] = set()

    def propose(self) -> tuple[Run, Architecture] | Wait | Done:
        """Write the next proposal after what `sync` has seen, or say why there is none.

        Raises: SpaceError or BudgetError when no design of the space fits the budget.
        """
        while True:
            new = self.next_baseline() or self._next_candidate()
            if not isinstance(new, NewProposal):
                return new
            answer = self.write(new)
            if isinstance(answer, tuple):
                return answer
            if answer is Refusal.FULL:
                self._ask_how_many()
            self.sync()  # another driver was faster: learn what it did, try again

    def write(self, new: NewProposal) -> tuple[Run, Architecture] | Refusal:
        """Write a proposal and take it on, or say why not."""
        access, now = self.access, self.access.clock.stamp()
        place = self.place(new.fingerprint, new.index)
        memory = dict(self.planner.history.memory)
        self.measuring.keep()

        def write(session: Session) -> tuple[Run, Architecture] | Refusal:
            answer = runs.propose(session, access.study_id, new, access.owner, now, place)
            if isinstance(answer, Refusal):
                return answer
            self.measuring.note(session, answer.architecture_id, new)
            if memory:
                runs.change_study(session, access.study_id, planner=memory)
            return answer, history.architecture(session, answer)

        return access.store.write(write)

    def sync(self) -> None:
        """Bring the planner's history up to the database."""
        self.sync_and(lambda _: None)

    def sync_and(self, ask: Callable[[Session], T]) -> T:
        """Bring the planner's history up to the database; return what else is asked of it."""
        after, also = self.planner.known - 1, self.planner.pending
        study_id = self.access.study_id
        news, answer = self.access.store.read(
            lambda s: (history.entries(s, study_id, after, also), ask(s))
        )
        self.planner.learn(news)
        return answer

    def next_baseline(self) -> NewProposal | None:
        """Return the next published design that has not been proposed."""
        access, settings = self.access, self.access.settings
        points = settings.space.points if settings.warm_start == "presets" else ()
        presets = [p for p in (*points, *settings.baselines) if p not in self._labels_done]
        if presets:
            self._labels_done |= access.store.read(
                lambda s: history.baseline_labels(s, access.study_id)
            )
        for preset in presets:
            if preset in self._labels_done:
                continue
            try:
                if preset in settings.baselines:
                    return self._outside(preset)
                return self.planner.baseline(preset)
            except (SpaceError, ConfigError) as error:
                self._labels_done.add(preset)
                access.progress(Notice(f"no baseline {preset}: {error}"))
        return None

    def _outside(self, label: str) -> NewProposal:
        """Return a network of timm; say what it costs, which is not the budget."""
        new = self.planner.outside(label)
        costs = {"flops": new.flops, "params": new.params_count, **new.measured}
        listed = ", ".join(said(value, name) for name, value in costs.items())
        self.access.progress(Notice(f"baseline {label}, at its own cost: {listed}"))
        return new

    def _ask_how_many(self) -> None:
        """Learn how many candidates are wanted, which any driver may have changed."""
        access = self.access
        access.trials = access.store.read(lambda s: runs.wanted(s, access.study_id))

    def _next_candidate(self) -> NewProposal | Wait | Done:
        access, made = self.access, len(self.planner.candidates)
        if made >= access.trials:
            self._ask_how_many()
        wanted = access.trials
        if made >= wanted:
            return self._end(f"{made} of {wanted} candidates are done")
        if (reason := self._settled()) is not None:
            return self._end(reason)
        answer = self.planner.candidate()
        if isinstance(answer, NewProposal):
            return answer
        return self._end(answer.reason) if answer.final else Wait(answer.reason)

    def _settled(self) -> str | None:
        """Return why further candidates would not pay, if anybody asks."""
        access, patience = self.access, self.access.place.patience
        if patience is None:
            return None
        scores = access.store.read(lambda s: history.scores_of_candidates(s, access.study_id))
        return settled(scores, patience, access.settings.recipe)

    def _end(self, reason: str) -> Wait | Done:
        """Stay until the last running trial has ended: its driver may die."""
        pending = len(self.planner.pending)
        if pending:
            return Wait(f"{pending} {'trial is' if pending == 1 else 'trials are'} still running")
        return Done(reason, complete=True)
