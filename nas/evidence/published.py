"""A paper's ablation table beside ours: same sign, opposite, or not resolved by so many seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.errors import StudyError
from nas.evidence.findings import Agreement, Beside, PublishedTable
from nas.evidence.intervals import compare
from nas.evidence.paired import Fit, Scores, fit, restrict
from nas.evidence.quantiles import LEVEL, Family
from nas.evidence.verdict import Comparison
from nas.evidence.words import Unit

Published = Mapping[str, Mapping[str, float]]  # design -> metric -> points


def beside(
    scores: Scores,
    groups: Mapping[str, Sequence[str]],
    published: Published,
    *,
    table: str,
    source: str,
    unit: Unit,
    level: float = LEVEL,
) -> PublishedTable:
    """Return each group's differences beside the paper's.

    groups: name -> designs, compared with each other only; the noise is pooled over all. The
    level that the paper finds best in its first metric is compared with each other one; where it
    reports none of a group, the group's first.
    Raises: StudyError where no group has two designs without a failed run.
    """
    bad = [d.name for d, f in zip(scores.designs, scores.failed) if f.any()]
    left = {g: [n for n in names if n not in bad] for g, names in groups.items()}
    left = {g: names for g, names in left.items() if len(names) > 1}
    if not left:
        raise StudyError(f"table {table}: no group has two designs left without a failed run")
    fitted = fit(scores.only([n for names in left.values() for n in names]))
    rows: list[Beside] = []
    best = []
    for group, names in left.items():
        part = restrict(fitted, names)
        best.append((group, part.designs[int(np.argmax(part.means))].name))
        rows += _rows(part, group, names, published, level)
    return PublishedTable(
        table=table,
        source=source,
        unit=unit,
        seeds=int(fitted.runs.max()),
        noise=fitted.noise,
        rows=tuple(rows),
        best=tuple(best),
        failed=tuple(bad),
    )


def _rows(
    part: Fit, group: str, names: Sequence[str], published: Published, level: float
) -> list[Beside]:
    family = Family("pairs", len(names))
    known = {n: next(iter(published[n].values())) for n in names if published.get(n)}
    reference = max(known, key=lambda n: known[n]) if known else names[0]
    rows = []
    for other in (n for n in names if n != reference):
        found = compare(part, reference, other, family, level)
        both = [m for m in published.get(reference, {}) if m in published.get(other, {})]
        gaps = [(m, round(published[reference][m] - published[other][m], 6)) for m in both]
        rows.append(
            Beside(
                group=group,
                comparison=found,
                published=tuple(gaps),
                agreement=tuple((m, _agreement(found, gap)) for m, gap in gaps if gap),
            )
        )
    return rows


def _agreement(found: Comparison, gap: float) -> Agreement:
    if found.word == "not distinguishable":
        return "not resolved"
    return "same sign" if (found.estimate > 0) == (gap > 0) else "opposite"
