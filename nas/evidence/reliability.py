"""What recipes can rank, as measured by `benchmarks/proxy_reliability.py`.

The measurements ship with the package, one for each space, task and recipe, so that a leaderboard
can warn about choices between which its scores do not tell, or tell the wrong way round.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_FILE = "reliability.json"

Share = Annotated[float, Field(ge=0, le=1)]
Word = Literal["agrees", "reversed", "not resolved"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChoiceReliability(_Frozen):
    """Whether the proxy sees one kind of choice.

    levels: the designs compared, which differ in this choice alone, run with the same seeds;
    means: their scores, None where they were not kept. runs: trainings.
    eta_squared: share of the score's variance between them; epsilon_squared: the same, corrected
    for what chance alone would give. p_value: of the F test; p_holm: corrected for all kinds.
    seen: p_holm below `alpha`. spread: between the best and the worst level's mean score;
    detectable: spread of two levels that would have been seen with 80 % power, None where it was
    not worked out.
    """

    kind: str
    levels: tuple[str, ...]
    means: tuple[float, ...] | None = None
    runs: int
    eta_squared: Share
    epsilon_squared: float
    p_value: Share
    p_holm: Share
    spread: float
    detectable: float | None = None
    seen: bool


class Direction(_Frozen):
    """Whether the proxy puts two levels of a choice in the published order.

    better, worse: levels, as published. estimate: score of the first minus the second, with its
    interval (all directions together 95 %). detectable: difference that would have been seen with
    80 % power. proxy: in agreement or reversed where the interval leaves out 0.
    """

    kind: str
    better: str
    worse: str
    source: str
    binding: bool
    estimate: float
    low: float
    high: float
    detectable: float
    proxy: Word


class Reliability(_Frozen):
    """Result of the reliability benchmark for one recipe, and the choices that one space has.

    icc: intraclass correlation of single runs, ICC(1), over `designs` x `seeds`, with its 95 %
    interval: designs compared by runs of unlike seeds. icc_same_seed: the same for designs that
    are compared by runs of one seed, ICC(C,1). noise, noise_same_seed: standard deviation of a
    run's score in either comparison. recipe_fingerprint: of the recipe that was measured.
    cpu_seconds: of a run, median. median_seconds, longest_seconds: wall time of a run that has
    the machine to itself, None where it was not taken. left_out: designs that did not take part,
    or not like the others, and why.
    """

    space: str
    task: str
    date: str
    device: str
    versions: dict[str, str]
    recipe_fingerprint: str
    score: str
    designs: int
    seeds: int
    icc: float
    icc_low: float
    icc_high: float
    icc_same_seed: float
    icc_same_seed_low: float
    icc_same_seed_high: float
    cpu_seconds: float
    median_seconds: float | None
    longest_seconds: float | None
    noise: float
    noise_same_seed: float
    alpha: float
    choices: tuple[ChoiceReliability, ...]
    directions: tuple[Direction, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def unseen(self) -> tuple[str, ...]:
        """Return the kinds of choice that the proxy does not see."""
        return tuple(c.kind for c in self.choices if not c.seen)

    def reversed(self) -> tuple[Direction, ...]:
        """Return the published directions that the proxy sees the wrong way round."""
        return tuple(d for d in self.directions if d.proxy == "reversed")


class Measurements(_Frozen):
    """All that ships: at most one for each space and recipe."""

    schema_: Literal[2] = Field(2, alias="schema")
    measured: tuple[Reliability, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def of(self, recipe_fingerprint: str) -> tuple[Reliability, ...]:
        """Return what was measured of a recipe, in every space."""
        return tuple(m for m in self.measured if m.recipe_fingerprint == recipe_fingerprint)

    def with_(self, new: Reliability) -> Measurements:
        """Return the measurements with one more, in place of an older one of the same."""
        same = (new.space, new.recipe_fingerprint)
        kept = tuple(m for m in self.measured if (m.space, m.recipe_fingerprint) != same)
        return self.model_copy(update={"measured": (*kept, new)})


@functools.cache
def load_measurements() -> Measurements:
    """Return the measurements that ship with the package.

    Source: benchmarks/proxy_reliability.py, which writes the file.
    """
    file = resources.files("nas.evidence").joinpath(_FILE)
    return Measurements.model_validate(json.loads(file.read_text(encoding="utf-8")))


def measured_for(recipe_fingerprint: str, space: str | None = None) -> Reliability | None:
    """Return what was measured of a recipe in a space; None where nothing was.

    space: None takes any, for what does not depend on the choices (the noise of a run).
    """
    own = load_measurements().of(recipe_fingerprint)
    return next((m for m in own if space in (None, m.space)), None)
