"""From the scores of finalists and baselines with fresh common seeds to a verdict.

Finalists were chosen by other runs, so these are honest for each of them; that the best looking
of them is then picked by these very scores is allowed for in the critical value
(`quantiles.Family`, "leader"). One look at the end: intervals hold for a number of seeds that
was fixed before, not for a study that goes on until it likes the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas.errors import StudyError
from nas.evidence.intervals import compare, may_be_best
from nas.evidence.paired import Design, Fit, Scores, cheapest_first, fit, restrict
from nas.evidence.quantiles import LEVEL, Family
from nas.evidence.racing import DROP_ERROR
from nas.evidence.verdict import Comparison, Contender, Verdict
from nas.evidence.words import Unit


def judge(
    scores: Scores,
    *,
    unit: Unit,
    split: str = "test",
    dropped: Iterable[str] = (),
    not_represented: Sequence[tuple[str, str]] = (),
    level: float = LEVEL,
) -> Verdict:
    """Return the verdict on a table of candidates and baselines.

    dropped: finalists that the race dropped; they have fewer runs, and are neither the leader
    nor among those that may be the best.
    Raises: StudyError where no candidate has come through without a failed run, or where there
    are too few runs to say anything.
    """
    out = set(dropped)
    failed = {d.name: int(f.sum()) for d, f in zip(scores.designs, scores.failed)}
    scored = [
        d.name
        for d, f, v in zip(scores.designs, scores.failed, scores.values)
        if d.role != "control" and len(v) > f.sum() and (v == v).any()
    ]
    fitted = fit(scores.only(scored))
    able = [d for d in fitted.designs if not failed[d.name] and d.name not in out]
    candidates = [d.name for d in able if d.role == "candidate"]
    if not candidates:
        raise StudyError(
            "no candidate came through its confirmation without a failed run; confirm others"
        )
    baselines = [d.name for d in fitted.designs if d.role == "baseline"]
    # Dropped ones count here: each might have become the leader.
    rivals = sum(d.role == "candidate" for d in scores.designs)
    ranked = sorted(candidates, key=lambda n: (-fitted.means[fitted.index(n)], n))
    behind = (d for d in fitted.designs if d.role == "candidate" and d.name in out)
    # With no baseline, and a race that left one alone, the best that it dropped is the yardstick.
    others = [*baselines, *ranked[1:2]] or [
        d.name for d in sorted(behind, key=lambda d: -fitted.means[fitted.index(d.name)])[:1]
    ]
    family = Family("leader", rivals, len(baselines))
    if not others:
        raise StudyError("one candidate and no baseline: there is nothing to compare")
    comparisons = tuple(compare(fitted, ranked[0], o, family, level) for o in others)
    contenders = _contenders(scores, fitted, {d.name for d in able}, out, failed, level)
    best = {c.name for c in contenders if c.may_be_best}
    chosen = _chosen((d for d in able if d.name in best), ranked[0])
    return Verdict(
        unit=unit,
        split=split,
        seeds=int(fitted.runs.max()),
        noise=fitted.noise,
        df=fitted.df,
        level=level,
        leader=ranked[0],
        comparisons=comparisons,
        chosen=chosen,
        chosen_comparisons=_of_chosen(fitted, chosen, ranked[0], baselines, level),
        contenders=contenders,
        not_represented=tuple(not_represented),
    )


def _chosen(best: Iterable[Design], leader: str) -> str:
    """Return the cheapest of the best, of those at the budget; where none is, the leader."""
    own = [d for d in best if not d.outside]
    return cheapest_first(own)[0].name if own else leader


def _contenders(
    scores: Scores, fitted: Fit, able: set[str], out: set[str], failed: dict[str, int], level: float
) -> tuple[Contender, ...]:
    """Return all that were confirmed, best mean first; the race's errors count in the level."""
    part = restrict(fitted, able)
    spent = DROP_ERROR if out else 0.0
    marks, lower, upper = may_be_best(part, level + spent)
    row = {d.name: i for i, d in enumerate(part.designs)}
    made = []
    for design in scores.designs:
        if design.role == "control":
            continue
        known = design.name in {d.name for d in fitted.designs}
        i = row.get(design.name)
        made.append(
            Contender(
                name=design.name,
                role=design.role,
                mean=float(fitted.means[fitted.index(design.name)]) if known else None,
                runs=int(fitted.runs[fitted.index(design.name)]) if known else 0,
                failed=failed[design.name],
                dropped=design.name in out,
                latency_ms=design.latency_ms,
                params=design.params,
                gap_low=None if i is None else float(lower[i]),
                gap_high=None if i is None else float(upper[i]),
                may_be_best=i is not None and bool(marks[i]),
            )
        )
    return tuple(sorted(made, key=lambda c: (c.mean is None, -(c.mean or 0.0), c.name)))


def _of_chosen(
    fitted: Fit, chosen: str, leader: str, baselines: Sequence[str], level: float
) -> tuple[Comparison, ...]:
    """Compare the chosen design, picked by price and not by score, with the baselines."""
    if chosen == leader or chosen in baselines:
        return ()
    family = Family("pairs", len(fitted.designs))
    return tuple(compare(fitted, chosen, b, family, level) for b in baselines)
