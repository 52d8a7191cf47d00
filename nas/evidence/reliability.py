"""What the default proxy can rank, as measured by `benchmarks/proxy_reliability.py`.

The measurement ships with the package, so that a leaderboard can warn about choices between
which its scores do not tell.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_FILE = "reliability.json"

Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChoiceReliability(_Frozen):
    """Whether the proxy sees one kind of choice.

    levels: the designs compared, which differ in this choice alone, run with the same seeds.
    runs: trainings.
    eta_squared: share of the score's variance between them; epsilon_squared: the same, corrected
    for what chance alone would give. p_value: of the F test. seen: p_value below `alpha`.
    spread: between the best and the worst level's mean score.
    """

    kind: str
    levels: tuple[str, ...]
    runs: int
    eta_squared: Share
    epsilon_squared: float
    p_value: Share
    spread: float
    seen: bool


class Reliability(_Frozen):
    """Result of the reliability benchmark for one recipe.

    icc: intraclass correlation of single runs, ICC(1), over `designs` x `seeds`, with its 95 %
    interval: designs compared by runs of unlike seeds. icc_same_seed: the same for designs that
    are compared by runs of one seed, ICC(C,1). noise, noise_same_seed: standard deviation of a
    run's score in either comparison. recipe_fingerprint: of the recipe that was measured.
    cpu_seconds: of a run, median. median_seconds, longest_seconds: wall time of a run that has
    the machine to itself, None where it was not taken.
    """

    schema_: Literal[1] = Field(1, alias="schema")
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

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def unseen(self) -> tuple[str, ...]:
        """Return the kinds of choice that the proxy does not see."""
        return tuple(c.kind for c in self.choices if not c.seen)


@functools.cache
def load_reliability() -> Reliability | None:
    """Return the measurement that ships with the package, or None where none was made.

    Source: benchmarks/proxy_reliability.py, which writes the file.
    """
    file = resources.files("nas.evidence").joinpath(_FILE)
    if not file.is_file():
        return None
    return Reliability.model_validate(json.loads(file.read_text(encoding="utf-8")))
