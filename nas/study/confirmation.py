"""What a study's confirmation is: which designs train again, with how many fresh seeds."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import StudyError

# What `auto` stands for: it fits, with the search before it, into twelve minutes on two cores.
AUTO = "3x3"
# A difference needs a noise, and a noise needs two seeds.
LEAST_SEEDS = 2
SPLIT = "test"
_TEXT = re.compile(r"(?P<finalists>[1-9]\d{0,2})x(?P<seeds>[1-9]\d{0,2})")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entrant(_Frozen):
    """One design that is confirmed; trial: the one of the search that it was trained in."""

    name: str
    role: Literal["candidate", "baseline"]
    trial: int
    fingerprint: str


class Confirmation(_Frozen):
    """The best candidates and the baselines, trained again with common fresh seeds.

    finalists: candidates, at most. seeds: how many for every entrant; the search has seed 0 of
    the study, these are 1 and up. Runs that a finalist does without, once it is clearly behind,
    go to the others with further seeds. entrants: chosen once, when the search is over.
    looks: how often a verdict has been asked for, each time with the runs of the last one; the
    errors of all looks share 5 %.
    not_represented: baselines that are left out, and why. left_out: candidates that may be as
    good as the finalists by their one run, for which there was no room.
    """

    finalists: Annotated[int, Field(ge=1)]
    seeds: Annotated[int, Field(ge=LEAST_SEEDS)]
    entrants: tuple[Entrant, ...] = ()
    not_represented: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    looks: Annotated[int, Field(ge=1)] = 1

    @property
    def seed_indices(self) -> range:
        """Which of the study's seeds may be used, in this order."""
        return range(1, 2 * self.seeds + 1)

    @property
    def level(self) -> float:
        """The level of the intervals."""
        return 1 - 0.05 / self.looks

    def asked(self) -> Confirmation:
        """Return what was asked for, without what came of it."""
        return Confirmation(finalists=self.finalists, seeds=self.seeds, looks=self.looks)


def parse_confirmation(text: str) -> Confirmation | None:
    """Read `auto`, `none` (which is None) or KxR, e.g. 5x5: five finalists, five seeds.

    Raises: StudyError for anything else, and for a single seed.
    """
    if text == "none":
        return None
    match = _TEXT.fullmatch(AUTO if text == "auto" else text)
    if match is None:
        raise StudyError(
            f"confirmation {text!r} is none of auto, none and FINALISTSxSEEDS, e.g. 5x5"
        )
    finalists, seeds = int(match["finalists"]), int(match["seeds"])
    if seeds < LEAST_SEEDS:
        raise StudyError(
            f"confirmation {text!r}: one seed tells nothing of noise; take {LEAST_SEEDS} or more, "
            f"e.g. {finalists}x3"
        )
    return Confirmation(finalists=finalists, seeds=seeds)
