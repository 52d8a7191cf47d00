"""What to try next: a strategy's wish, made feasible, as plain data.

A proposal is a function of the study's seed, its index and the history before it. The history
is read from the database, so any driver makes the same proposal at the same point, and one that
continues a study goes on as the one before would have.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from backbones.outside import TimmConfig
from nas.errors import BudgetError, StudyError
from nas.planning.meters import bands_of, costs_of, measured_whole
from nas.planning.strategies import check_strategy, make_sampler
from nas.planning.strategies.encoding import encode
from nas.planning.strategies.history import History
from nas.planning.telling import SOME_TIME, Teller
from nas.study.proposals import (
    BASELINE,
    CANDIDATE,
    ENQUEUED,
    REPLAY,
    SEARCH,
    Entry,
    NewProposal,
)
from nas.study.settings import OBJECTIVES, Settings
from search_spaces import Band, fit_widths
from search_spaces.errors import SpaceError, UnreachableError
from search_spaces.fit import said

if TYPE_CHECKING:
    from backbones.config import BackboneConfig
    from search_spaces.choices import Choice

# Wishes that come to nothing (out of the band, being trained) before the strategy is overruled
# by uniform draws, and before giving up.
OWN_TRIES, ALL_TRIES = 20, 40
# Where widths are not solved for: draws that miss the budget before one is repaired into it.
# What a strategy makes of known designs is repaired at once.
DRAWS = 8
DRAWN = ("random", "uniform", "grid")
# Repairs, each a search of its own, that end outside of the budget before it counts as empty.
REPAIRS = 3
# After so many replays in a row the strategy goes in circles: a uniform draw is mixed in.
CIRCLING = 8
# After so many, there is nothing left to find.
EXHAUSTED = 200

# Of what a proposal's kind may be called: the database keeps no more.
LONGEST_KIND = 40

_PENDING, _TRIES, _SEED = "scannas:pending", "scannas:tries", "scannas:seed"


@dataclass(frozen=True)
class Nothing:
    """There is no proposal to make. final: whether there never will be one."""

    reason: str
    final: bool


class Planner:
    """Keeps the history of a study in memory and proposes what comes next."""

    def __init__(self, name: str, settings: Settings, memory: dict[str, Any] | None) -> None:
        check_strategy(settings.strategy)
        self.settings = settings
        directions = [
            StudyDirection.MAXIMIZE if OBJECTIVES[o] else StudyDirection.MINIMIZE
            for o in settings.objectives
        ]
        self.history = History(name, directions)
        self.history.memory = dict(memory or {})
        self._teller = Teller(self.history, settings.space)
        self.pending: set[int] = set()
        self.in_flight: set[str] = set()
        self.candidates: set[str] = set()
        self.replays_in_a_row = 0
        self._unended: dict[int, str] = {}
        # What the sampler has attached to the latest wish.
        self._attached: dict[str, Any] = {}

    @property
    def bands(self) -> tuple[Band, ...]:
        """What a design may cost, and what measures it."""
        return bands_of(self.settings)

    @property
    def known(self) -> int:
        """How many proposals the history holds."""
        return len(self.history.trials)

    def learn(self, entries: list[Entry]) -> None:
        """Take over new proposals and those that have moved on, in the order of their index."""
        known = self.known
        self._teller.tell(entries)
        for entry in entries:
            new = entry.index >= known
            if entry.ended:
                self._unended.pop(entry.index, None)
            else:
                self._unended[entry.index] = entry.fingerprint if entry.stage == SEARCH else ""
            if entry.stage != SEARCH:
                continue
            if entry.role == CANDIDATE:
                self.candidates.add(entry.fingerprint)
            if new and entry.role != BASELINE:
                circled = entry.role == REPLAY
                self.replays_in_a_row = self.replays_in_a_row + 1 if circled else 0
        self.pending = set(self._unended)
        self.in_flight = set(self._unended.values()) - {""}

    def candidate(self) -> NewProposal | Nothing:
        """Return the next design of the strategy.

        Raises: SpaceError or BudgetError when no design of the space fits the budget.
        """
        space = self.settings.space
        if self.replays_in_a_row >= EXHAUSTED or len(self.candidates) >= space.size:
            return Nothing(
                f"space {space.name!r} holds no further design: all proposals have been trained",
                final=True,
            )
        band = self.bands[0]
        why: Exception | None = None
        blocked = False
        failed = 0
        for tries in range(ALL_TRIES):
            if failed == REPAIRS:
                break
            circling = self.replays_in_a_row >= CIRCLING and self.replays_in_a_row % 2 == 0
            own = tries < OWN_TRIES and not circling
            strategy = self.settings.strategy if own else "random"
            # The first tries follow from seed and history; where they fail, those after a resume
            # must be others.
            seed = proposal_seed(self.settings.seed, self.known, tries)
            seed = seed if tries < OWN_TRIES else secrets.randbits(32)
            try:
                choices, kind = self._ask(strategy, tries, seed)
                proposal = self._feasible(choices, kind if own else "uniform", tries, seed)
            except (SpaceError, BudgetError) as error:
                failed += tries >= DRAWS and not space.fits_widths
                if why is None or _miss(error, band) < _miss(why, band):
                    why = error
                continue
            if proposal.fingerprint not in self.in_flight:
                return proposal
            blocked = True
        if blocked:
            return Nothing("every design that is proposed is being trained already", final=False)
        assert why is not None
        raise why

    def baseline(self, preset: str) -> NewProposal:
        """Return a published design with its widths refitted to the budget.

        Raises: SpaceError when no width of it lies in the budget.
        """
        s = self.settings
        config = fit_widths(
            s.space.point(preset),
            self.bands,
            image_size=s.image_size,
            convention=s.budget.convention,
        )
        try:
            choices = s.space.choices_of(config)
        except SpaceError:
            choices = {}  # trained for comparison, but no parent to a strategy
        return self._proposal(config, choices, role=BASELINE, kind="preset", label=preset)

    def outside(self, label: str) -> NewProposal:
        """Return a network of timm, at its own cost and outside of every band."""
        s, config = self.settings, TimmConfig.load(label)
        cost = config.cost(s.image_size, s.budget.convention)
        return NewProposal(
            index=self.known,
            role=BASELINE,
            kind="timm",
            label=label,
            fingerprint=config.fingerprint(),
            seed=s.training_seed(config.fingerprint()),
            config=config.to_dict(),
            flops=cost.flops,
            params_count=cost.params,
            measured=measured_whole(config, s),
            convention=s.budget.convention,
            image_size=s.image_size,
            sampler={_PENDING: sorted(self.pending), _TRIES: 0},
        )

    def wished(self, config: BackboneConfig, label: str | None = None) -> NewProposal:
        """Return a design that a user asks for: as it is, or refitted where the budget wants it.

        Raises: SpaceError or BudgetError for one outside of the space, or of every budget.
        """
        s = self.settings
        choices = s.space.choices_of(config)
        if s.space.fits_widths and not s.budget.admits(**costs_of(config, s)):
            config = s.space.build(
                choices, self.bands, image_size=s.image_size, convention=s.budget.convention
            )
        return self._proposal(config, choices, role=CANDIDATE, kind=ENQUEUED, label=label)

    def _ask(self, strategy: str, tries: int, seed: int) -> tuple[dict[str, Any], str]:
        """Let a strategy make a point of the space."""
        space = self.settings.space
        sampler = make_sampler(strategy, space, seed)
        if hasattr(sampler, "skip"):
            sampler.skip = tries
        # A study object caches trials for the length of one proposal.
        study = OptunaStudy(self.history.name, self.history, sampler=sampler)
        draft = FrozenTrial(
            number=self.known,
            trial_id=self.known,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=SOME_TIME,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self.history.draft = draft
        try:
            sampler.before_trial(study, draft)
            wanted = sampler.infer_relative_search_space(study, draft)
            relative = sampler.sample_relative(study, draft, wanted)
        except (ValueError, ImportError) as error:
            if ":" not in strategy:
                raise
            # What Optuna's samplers say of objectives or choices that they cannot handle.
            said = str(error).rstrip(".")
            raise StudyError(f"strategy {strategy!r} refuses: {said}; use another one") from error

        def decide(name: str, choice: Choice) -> Any:
            value, drawn_from = relative.get(name), self._teller.distributions[name]
            if name not in relative:
                value = sampler.sample_independent(study, draft, name, drawn_from)
            draft.params[name], draft.distributions[name] = value, drawn_from
            return choice.decode(value)

        choices = space.from_decider(decide)
        self.history.draft = None
        self._attached = draft.system_attrs
        return choices, str(getattr(sampler, "kind", strategy.rpartition(":")[2]))[:LONGEST_KIND]

    def _feasible(self, choices: dict[str, Any], kind: str, tries: int, seed: int) -> NewProposal:
        s = self.settings
        if not s.space.fits_widths and (kind not in DRAWN or tries >= DRAWS):
            choices = s.space.repair(
                choices,
                self.bands,
                np.random.default_rng(seed),
                image_size=s.image_size,
                convention=s.budget.convention,
            )
        config = s.space.build(
            choices, self.bands, image_size=s.image_size, convention=s.budget.convention
        )
        return self._proposal(config, choices, role=CANDIDATE, kind=kind, tries=tries, seed=seed)

    def _proposal(
        self,
        config: BackboneConfig,
        choices: dict[str, Any],
        *,
        role: str,
        kind: str,
        label: str | None = None,
        tries: int = 0,
        seed: int | None = None,
    ) -> NewProposal:
        s = self.settings
        costs = costs_of(config, s)
        fingerprint = config.fingerprint()
        if not s.budget.admits(**costs):
            listed = ", ".join(said(value, name) for name, value in costs.items())
            raise BudgetError(
                f"a design of space {s.space.name!r} costs {listed}, outside of "
                f"{' and '.join(s.budget.text)}"
            )
        # With the trials that were unfinished then, the proposal can be made again from the rows.
        attached = {} if kind in ("preset", ENQUEUED) else dict(self._attached)
        attached |= {_PENDING: sorted(self.pending), _TRIES: tries}
        attached |= {_SEED: seed} if tries >= OWN_TRIES else {}
        return NewProposal(
            index=self.known,
            role=role,
            kind=kind,
            label=label,
            fingerprint=fingerprint,
            seed=s.training_seed(fingerprint),
            config=config.to_dict(),
            flops=int(costs.pop("flops")),
            params_count=int(costs.pop("params")),
            measured=costs,
            convention=s.budget.convention,
            image_size=s.image_size,
            params=encode(s.space, choices),
            choices=choices,
            sampler=attached,
        )


def _miss(error: Exception | None, band: Band) -> float:
    """Return how far out of the band a design was, as the logarithm of a factor."""
    if not isinstance(error, UnreachableError):
        return math.inf
    return abs(math.log(max(error.spent, 1e-9) / band.hi))


def proposal_seed(study_seed: int, index: int, tries: int) -> int:
    """Return the seed of one try at one proposal; below 2**32, as numpy's old generators want."""
    text = f"proposal/{study_seed}/{index}/{tries}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
