"""Designs that a user wants trained next, whatever the strategy would propose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from backbones.catalog import load_config
from backbones.config import BackboneConfig
from nas.driver.access import Access
from nas.driver.progress import silent
from nas.driver.proposing import Proposing
from nas.driver.studies import Study
from nas.errors import StudyError
from nas.planning.proposals import Planner
from nas.store import confirmations, runs
from nas.store.runs import Refusal
from nas.store.tables import Run
from nas.study.attempts import WAITING
from nas.study.proposals import NewProposal
from nas.study.settings import Settings


@dataclass(frozen=True)
class Enqueued:
    """What became of a wish. new: it waits for a driver. refitted: to the budget, by its widths."""

    source: str
    trial: int
    state: str
    score: float | None
    new: bool
    refitted: bool


@dataclass(frozen=True)
class Wish:
    """A design, and where it was found."""

    source: str
    config: BackboneConfig


def wishes(sources: Iterable[str], settings: Settings) -> list[Wish]:
    """Read designs: presets, config files, exported files, and tables of `show --format json`.

    A table gives all its designs that have a score, the best first.
    Raises: ConfigError, SpaceError, BudgetError or StudyError for the first that cannot be
        trained under these settings.
    """
    found = [wish for source in sources for wish in _read(source, settings)]
    planner = Planner("wishes", settings, None)
    for wish in found:
        planner.wished(wish.config)
    return found


def _read(source: str, settings: Settings) -> list[Wish]:
    if not (source.endswith(".json") and Path(source).is_file()):
        return [Wish(source, load_config(source))]
    try:
        table = json.loads(Path(source).read_text())
        rows = [r for r in table if r["score"] is not None and r["choices"]]
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{source!r} is no table of designs ({error}); make one with `show STUDY --format json`"
        ) from None
    if not rows:
        raise StudyError(f"{source!r} holds no design with a score")
    rows.sort(key=lambda row: -row["score"])
    space = settings.space
    return [Wish(f"{source} trial {r['trial']}", space.build(r["choices"])) for r in rows]


def enqueue(study: Study, wanted: Sequence[Wish]) -> list[Enqueued]:
    """Queue designs ahead of what the strategy proposes; those that were tried are left alone.

    A study that has all its candidates wants one more for each.
    Raises: SpaceError or BudgetError, as `wishes`.
    """
    proposing = Proposing(Access(study, silent), lambda *_: {})
    return [_one(study, proposing, wish) for wish in wanted]


def _one(study: Study, proposing: Proposing, wish: Wish) -> Enqueued:
    while True:
        proposing.sync()
        proposal = proposing.planner.wished(wish.config)
        proposing.measuring.keep()
        answer = study.store.write(partial(_write, proposing=proposing, new=proposal))
        if not isinstance(answer, Refusal):
            run, new = answer
            assert run.trial_number is not None
            refitted = proposal.fingerprint != wish.config.fingerprint()
            return Enqueued(wish.source, run.trial_number, run.state, run.score, new, refitted)
        # A driver proposed at this moment: learn of it, and try again.


def _write(session: Session, proposing: Proposing, new: NewProposal) -> tuple[Run, bool] | Refusal:
    access = proposing.access
    known = runs.training_of(session, access.study_id, new)
    if known is not None:
        return known, known.lease_owner == access.owner and known.state == WAITING
    wanted = runs.wanted(session, access.study_id)
    stamp = access.clock.stamp()
    answer = runs.propose(session, access.study_id, new, access.owner, stamp, {}, queued=True)
    if isinstance(answer, Refusal):
        return answer
    proposing.measuring.note(session, answer.architecture_id, new)
    if runs.wanted(session, access.study_id) != wanted:
        confirmations.ask_again(session, access.study_id)
    return answer, True
