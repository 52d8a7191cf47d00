"""What a comparison says: records that are stored and shown, and the sentences that show them.

Free of numpy and scipy, so that a stored verdict is printed at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.evidence.words import Unit, difference, join, number, plural

Word = Literal["better", "worse", "not distinguishable"]


class Frozen(BaseModel):
    """A record: frozen, without unknown fields, the same after a round through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(Frozen):
    """One design against another, by runs of common seeds.

    estimate: mean paired difference, design minus other. low, high: simultaneous 95 % interval.
    word: better or worse where the interval leaves out 0. detectable: true difference that these
    runs show with 80 % power. within: no difference larger than this is left (two one-sided
    tests, 5 %, for all comparisons together; Schuirmann 1987). more_seeds: how many seeds more,
    each for all designs, would show a difference as large as the estimate; None where it is
    decided, or where `MOST_SEEDS` would not do.
    """

    design: str
    other: str
    estimate: float
    low: float
    high: float
    word: Word
    detectable: float
    within: float
    more_seeds: Annotated[int, Field(ge=1)] | None = None

    def reversed(self) -> Comparison:
        """Return the same comparison from the other side."""
        words: dict[Word, Word] = {"better": "worse", "worse": "better"}
        return self.model_copy(
            update={
                "design": self.other,
                "other": self.design,
                "estimate": -self.estimate,
                "low": -self.high,
                "high": -self.low,
                "word": words.get(self.word, self.word),
            }
        )


class Contender(Frozen):
    """One design that was confirmed.

    mean: over the seeds, what a seed does to all taken out. gap_low, gap_high: 95 % interval of
    its lead over the best of all others (Hsu 1984), together for all contenders; None for a
    design that is out for another reason. may_be_best: gap_high is above 0, not dropped on the
    way, no run failed by its own fault. failed: how many did.
    """

    name: str
    role: Literal["candidate", "baseline", "control"]
    mean: float | None
    runs: int
    failed: int = 0
    dropped: bool = False
    latency_ms: float | None = None
    params: int | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    may_be_best: bool


class Verdict(Frozen):
    """What a confirmation found.

    leader: the candidate with the highest mean. comparisons: of it with each baseline, then with
    the runner-up. chosen: the cheapest design that may be the best, which is exported; it may be
    a baseline. chosen_comparisons: of it with each baseline, where it is not the leader.
    contenders: candidates and baselines, best mean first. noise: standard deviation of a run
    beside what its seed does to all. df: degrees of freedom of the intervals. not_represented:
    published designs that could not be trained here, and why.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    unit: Unit
    split: str
    seeds: int
    noise: float
    df: float
    level: float
    leader: str
    comparisons: tuple[Comparison, ...]
    chosen: str
    chosen_comparisons: tuple[Comparison, ...] = ()
    contenders: tuple[Contender, ...]
    not_represented: tuple[tuple[str, str], ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def contender(self, name: str) -> Contender:
        """Return one of the contenders."""
        return next(c for c in self.contenders if c.name == name)

    @property
    def may_be_best(self) -> tuple[str, ...]:
        """Return the designs that may be the best, cheapest first."""
        able = [c for c in self.contenders if c.may_be_best]
        first = [c.name for c in able if c.name == self.chosen]
        timed = all(c.latency_ms is not None for c in able)
        rest = sorted(
            (c for c in able if c.name != self.chosen),
            key=lambda c: (
                (c.latency_ms or 0.0) if timed else 0.0,
                float("inf") if c.params is None else c.params,
                c.name,
            ),
        )
        return (*first, *(c.name for c in rest))

    def against_baselines(self) -> tuple[Comparison, ...]:
        """Return the leader's comparisons with baselines."""
        names = {c.name for c in self.contenders if c.role == "baseline"}
        return tuple(c for c in self.comparisons if c.other in names)

    @property
    def more_seeds(self) -> int | None:
        """Return how many seeds more decide against all baselines; None: none, or too many."""
        undecided = [c for c in self.against_baselines() if c.word == "not distinguishable"]
        wanted = [c.more_seeds for c in undecided if c.more_seeds is not None]
        return max(wanted) if wanted and len(wanted) == len(undecided) else None

    @property
    def beats_all(self) -> bool:
        """Whether the leader is better than every baseline; False where there is none."""
        against = self.against_baselines()
        return bool(against) and all(c.word == "better" for c in against)


def compare_sentence(c: Comparison, unit: Unit, level: float = 0.95) -> str:
    """Say one comparison in one line."""
    said = (
        f"{c.design} against {c.other}: {c.word}, {difference(c.estimate, unit)} "
        f"({100 * level:.0f} % interval {difference(c.low, unit, bare=True)} to "
        f"{difference(c.high, unit, bare=True)})"
    )
    if c.word != "not distinguishable":
        return said
    said += f"; {difference(c.detectable, unit, sign=False)} would have been seen with 80 % power"
    if c.more_seeds is not None:
        return said + f"; about {plural(c.more_seeds, 'more seed')} would decide"
    return said + (
        f"; no affordable number of seeds decides so small a difference: at most "
        f"{difference(c.within, unit, sign=False)}"
    )


def sentences(v: Verdict) -> list[str]:
    """Say a verdict: one sentence or list a line, most important first, plain text."""
    leader = v.contender(v.leader)
    assert leader.mean is not None
    lines = [
        f"best candidate: {v.leader}, {number(leader.mean, v.unit)} on the {v.split} split, mean "
        f"of {plural(leader.runs, 'fresh seed')} (noise of one run "
        f"{difference(v.noise, v.unit, sign=False)})"
    ]
    lines += [compare_sentence(c, v.unit, v.level) for c in v.comparisons]
    lines.append(_best_of(v))
    lines += [compare_sentence(c, v.unit, v.level) for c in v.chosen_comparisons]
    lines += _set_aside(v.contenders)
    lines += [f"{name} was not compared: {why}" for name, why in v.not_represented]
    lines.append(_headline(v))
    return lines


def _best_of(v: Verdict) -> str:
    able = v.may_be_best
    if v.chosen not in able:
        return (
            f"the best of all compared ({100 * v.level:.0f} % sure) is from outside of the search, "
            f"at its own cost: {', '.join(able)}; of the search's designs {v.chosen} is exported"
        )
    if len(able) == 1:
        return f"the best of all compared ({100 * v.level:.0f} % sure): {able[0]}; it is exported"
    if any(name.startswith("timm:") for name in able):
        return (
            f"the best of all compared is one of ({100 * v.level:.0f} % sure): {', '.join(able)}; "
            f"{v.chosen}, the cheapest of those at the budget, is exported"
        )
    by = "latency" if all(v.contender(n).latency_ms is not None for n in able) else "parameters"
    return (
        f"the best of all compared is one of ({100 * v.level:.0f} % sure), cheapest by {by} first: "
        f"{', '.join(able)}; the cheapest, {v.chosen}, is exported"
    )


def _set_aside(contenders: Iterable[Contender]) -> list[str]:
    lines = [
        f"{c.name}: {c.failed} of {plural(c.failed + c.runs, 'run')} failed, so it is not called "
        "the best"
        for c in contenders
        if c.failed
    ]
    dropped = [c.name for c in contenders if c.dropped]
    if dropped:
        lines.append(f"clearly behind and dropped on the way: {', '.join(dropped)}")
    return lines


def _headline(v: Verdict) -> str:
    against = v.against_baselines()
    if not against:
        return "no published design could be compared"
    better = [c.other for c in against if c.word == "better"]
    worse = [c.other for c in against if c.word == "worse"]
    if len(better) == len(against):
        return f"the search found a design better than {join(better)}"
    said = "the search did not beat the published designs"
    if better:
        said += f": better than {join(better)}, but not than all"
    if worse:
        said += f"; {v.leader} is worse than {join(worse)}"
    return said
