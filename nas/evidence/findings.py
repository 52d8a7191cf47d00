"""What `ablate`, `fidelity` and `analyze` found: records that are stored, and their sentences.

Free of numpy and scipy, as `verdict` is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from nas.evidence.verdict import Comparison, Frozen, compare_sentence
from nas.evidence.words import Unit, difference, join, plural

Share = Annotated[float, Field(ge=0, le=1)]


class _Finding(Frozen):
    schema_: Literal[1] = Field(1, alias="schema")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Ablation(_Finding):
    """Whether one choice matters, by designs that differ in it alone.

    margin: difference that would be too small to care for. outcome: `matters` where two levels
    differ; `does not matter` where all differ by less than the margin; else `not resolved`. Each
    of the first two is said falsely in at most 5 %, all looks together. best: the level with the
    highest mean. comparisons: of it with each other level, largest difference last. within: no
    two levels differ by more (5 %). chosen: the level to take, the cheapest of those that may be
    the best, or of all where it does not matter. controls: the best level against designs that
    ought to be worse; where none is, the task cannot see such a choice. more_seeds: how many
    would resolve it. failed: levels with a run that failed, and are left out.
    """

    choice: str
    unit: Unit
    outcome: Literal["matters", "does not matter", "not resolved"]
    margin: float
    seeds: int
    noise: float
    best: str
    comparisons: tuple[Comparison, ...]
    within: float
    chosen: str
    may_be_best: tuple[str, ...]
    controls: tuple[Comparison, ...] = ()
    more_seeds: int | None = None
    failed: tuple[str, ...] = ()

    @property
    def sees(self) -> bool | None:
        """Whether the task tells a level from a control; None without controls."""
        return any(c.word == "better" for c in self.controls) if self.controls else None


def ablation_sentences(a: Ablation) -> list[str]:
    """Say what an ablation found, most important first, plain text."""
    largest = a.comparisons[-1]
    if a.outcome == "matters":
        head = (
            f"{a.choice} matters here: {a.best} is better than "
            f"{', '.join(c.other for c in a.comparisons if c.word == 'better')}"
        )
    elif a.outcome == "does not matter":
        head = (
            f"{a.choice} does not matter beyond {difference(a.margin, a.unit, sign=False)} here; "
            f"take the cheapest, {a.chosen}"
        )
    else:
        more = (
            f"about {plural(a.more_seeds, 'more seed')} would resolve it"
            if a.more_seeds is not None
            else "no affordable number of seeds would resolve it"
        )
        head = (
            f"{a.choice}: not resolved by {plural(a.seeds, 'seed')}; the levels differ by at most "
            f"{difference(a.within, a.unit, sign=False)}; {more}"
        )
    lines = [head, *(compare_sentence(c, a.unit) for c in reversed(a.comparisons))]
    if a.outcome == "matters" and len(a.may_be_best) > 1:
        lines.append(f"the best is one of {', '.join(a.may_be_best)}; the cheapest is {a.chosen}")
    if a.outcome == "does not matter" and largest.word == "better":
        lines.append(f"there is a difference, but it is smaller than the margin of {a.margin:g}")
    lines += [compare_sentence(c, a.unit) for c in a.controls]
    if a.sees is False:
        lines.append("no control is worse: this task does not show what such a choice does")
    lines += [f"{name}: a run failed, so it is left out" for name in a.failed]
    return lines


Agreement = Literal["same sign", "not resolved", "opposite"]


class Beside(Frozen):
    """One difference of a paper's table, and ours.

    comparison: ours, of the level that the paper finds best with another one; its interval holds
    together with those of its group. published: the paper's difference by metric, in points.
    agreement: by metric; none where the paper's difference is 0.
    """

    group: str
    comparison: Comparison
    published: tuple[tuple[str, float], ...]
    agreement: tuple[tuple[str, Agreement], ...]


class PublishedTable(_Finding):
    """A paper's ablation table, trained here, beside its own numbers.

    rows: by group, the level that the paper finds best against each other one. best: by group, the
    level with the highest mean here. failed: designs with a run that failed, and are left out.
    """

    table: str
    source: str
    unit: Unit
    seeds: int
    noise: float
    rows: tuple[Beside, ...]
    best: tuple[tuple[str, str], ...]
    failed: tuple[str, ...] = ()

    @property
    def agreements(self) -> list[Agreement]:
        """How each difference that the paper gives came out, for each of its metrics."""
        return [word for row in self.rows for _, word in row.agreement]


def table_sentences(t: PublishedTable) -> list[str]:
    """Say how far the table holds here, plain text."""
    count = t.agreements.count
    lines = [
        f"{count('same sign')} of {plural(len(t.agreements), 'difference')} have the paper's sign, "
        f"{count('opposite')} the opposite, {count('not resolved')} are not resolved by "
        f"{plural(t.seeds, 'seed')} (noise of one run {difference(t.noise, t.unit, sign=False)})"
    ]
    lines += [
        f"against the paper: {compare_sentence(r.comparison, t.unit)}"
        for r in t.rows
        if ("opposite" in dict(r.agreement).values())
    ]
    return lines + [f"{name}: a run failed, so it is left out" for name in t.failed]


class Estimate(Frozen):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Fidelity(_Finding):
    """How well a proxy's ranking foretells that of a longer training.

    tau: Kendall's tau-b of the two rankings; regret: how far the best of the proxy's top_k lies
    below the best of all, in the longer training's score; both with bootstrap intervals over
    designs. settled: first epoch from which the proxy's ranking keeps a tau of `SETTLED` to its
    last; None where it never does before the last.
    """

    unit: Unit
    designs: int
    times_longer: float
    tau: Estimate
    regret: Estimate
    top_k: int
    settled: int | None
    epochs: int
    tau_by_epoch: tuple[float, ...]

    @property
    def low(self) -> bool:
        """Whether a ranking like this should be warned about."""
        return self.tau.low < 0.3


class Fidelities(_Finding):
    """What several longer recipes say of one search's ranking."""

    longer: tuple[Fidelity, ...]
    failed: tuple[str, ...] = ()


def fidelity_sentences(f: Fidelity) -> list[str]:
    """Say how far to trust the proxy's ranking."""
    settled = (
        f"its ranking had settled by epoch {f.settled} of {f.epochs}"
        if f.settled is not None
        else f"its ranking was still changing at the last of {f.epochs} epochs"
    )
    lines = [
        f"Kendall tau {f.tau.value:.2f} (95 % {f.tau.low:.2f} to {f.tau.high:.2f}) between the "
        f"proxy and trainings {f.times_longer:g} times longer, over {plural(f.designs, 'design')}",
        f"the best of the proxy's top {f.top_k} lies "
        f"{difference(f.regret.value, f.unit, sign=False)} below the best of all (95 % "
        f"{difference(f.regret.low, f.unit, sign=False, bare=True)} to "
        f"{difference(f.regret.high, f.unit, sign=False, bare=True)}); {settled}",
    ]
    if f.low:
        lines.append("the proxy may hardly rank at all: its interval reaches below 0.30")
    return lines


class Probed(Frozen):
    """What one subject or control carries in a probe.

    mean: score, 0 the best constant answer, 1 perfect, what a seed does to all taken out. lead:
    over the control that knows nothing of other tokens; None for itself. parts: mean of each part
    of the task. may_be_best: no other subject is seen to carry more; of subjects.
    """

    name: str
    control: bool
    mean: float
    params: int | None
    lead: Comparison | None
    parts: dict[str, float]
    may_be_best: bool


class Probe(_Finding):
    """What orders, mixers or backbones can carry on one task; capability, no accuracy.

    against: the control that leads are over. icc: of single runs with one seed, over the subjects.
    rows: best mean first. failed: designs with a run that failed, and are left out.
    """

    task: str
    against: str
    seeds: int
    noise: float
    icc: Estimate | None
    rows: tuple[Probed, ...]
    failed: tuple[str, ...] = ()


class Probes(_Finding):
    """A probe's tasks."""

    probes: tuple[Probe, ...]


def probe_sentences(p: Probe) -> list[str]:
    """Say what a probe found, plain text."""
    subjects = [r for r in p.rows if not r.control]
    able = [r.name for r in subjects if r.may_be_best]
    lines = [f"{p.task}: {join(able)} may carry most, 95 % sure"] if len(subjects) > 1 else []
    for r in subjects:
        above = [c.name for c in p.rows if c.control and c.mean >= r.mean]
        if above:
            lines.append(f"{p.task}: {r.name} carries no more than the control {join(above)}")
    if p.icc is not None:
        lines.append(
            f"{p.task}: intraclass correlation of single runs {p.icc.value:.2f} (95 % "
            f"{p.icc.low:.2f} to {p.icc.high:.2f}), {plural(p.seeds, 'seed')}"
        )
    return lines + [f"{name}: a run failed, so it is left out" for name in p.failed]


class LevelEffect(Frozen):
    """What one level does to the score, against the reference level of its factor.

    estimate: at equal cost, other factors as they are adjusted for; low, high: 95 %.
    """

    level: str
    designs: int
    estimate: float
    low: float
    high: float


class FactorEffect(Frozen):
    """One choice of a space.

    reference: its most frequent level. p_value: of the robust F test that no level differs;
    p_holm: the same, corrected for all factors. importance: by permutation, as a share of the
    score's variance that a forest explains out of sample; None where it was not asked for.
    adjusted: whether the other factors are in the model. pooled: rare levels put together.
    """

    factor: str
    stage: int | None
    reference: str
    levels: tuple[LevelEffect, ...]
    p_value: Share
    p_holm: Share
    importance: float | None
    adjusted: bool
    pooled: tuple[str, ...] = ()


class Interaction(Frozen):
    """Two choices whose effects do not add up: F test of the product, Holm over all pairs."""

    first: str
    second: str
    p_value: Share
    p_holm: Share
    explained: float


class Analysis(_Finding):
    """What the choices of a study do.

    explained, noise, unexplained: shares of the variance between designs' scores: main effects
    (adjusted R2), noise of runs, and what is left, which the choices one by one do not describe.
    noise and unexplained are None where no noise is known. designs: distinct ones.
    """

    unit: Unit
    designs: int
    factors: tuple[FactorEffect, ...]
    interactions: tuple[Interaction, ...]
    explained: float
    noise: float | None
    unexplained: float | None


def analysis_sentences(a: Analysis) -> list[str]:
    """Say which choices count, strongest evidence first, and which are not seen."""
    lines = []
    for f in sorted(a.factors, key=lambda f: f.p_holm):
        if f.p_holm >= 0.05:
            continue
        strongest = max(f.levels, key=lambda e: abs(e.estimate))
        lines.append(
            f"{f.factor}: counts (p {f.p_holm:.3f} after Holm); {strongest.level} against "
            f"{f.reference} {difference(strongest.estimate, a.unit)} (95 % "
            f"{difference(strongest.low, a.unit, bare=True)} to "
            f"{difference(strongest.high, a.unit, bare=True)})"
        )
    lines += [
        f"{i.first} and {i.second} depend on each other (p {i.p_holm:.3f} after Holm)"
        for i in a.interactions
        if i.p_holm < 0.05
    ]
    if unseen := [f.factor for f in a.factors if f.p_holm >= 0.05]:
        lines.append(f"not seen (p 0.05 or more after Holm): {', '.join(unseen)}")
    said = f"the choices explain {100 * a.explained:.0f} % of the scores' variance one by one"
    if a.noise is not None and a.unexplained is not None:
        said += (
            f", noise of runs makes {100 * a.noise:.0f} %, and {100 * a.unexplained:.0f} % is left "
            "that they do not describe"
        )
    return [*lines, said]
