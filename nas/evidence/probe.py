"""What orders and blocks can carry: their scores on a probe's task beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.evidence.agreement import icc_same_seed
from nas.evidence.findings import Probe, Probed
from nas.evidence.intervals import compare, may_be_best
from nas.evidence.paired import Scores, fit, restrict
from nas.evidence.quantiles import LEVEL, Family


def probe(
    scores: Scores,
    parts: Mapping[str, Mapping[str, float]],
    *,
    task: str,
    against: str,
    level: float = LEVEL,
) -> Probe:
    """Compare every design with the control that knows nothing of other tokens.

    parts: design -> part of the task -> mean score. against: that control's name. Its differences
    hold together (Dunnett); those that may be the best are told as in a confirmation.
    Raises: StudyError for fewer than two seeds or designs with a score.
    """
    bad = [d.name for d, failed in zip(scores.designs, scores.failed) if failed.any()]
    kept = [d.name for d in scores.designs if d.name not in bad]
    fitted = fit(scores.only(kept))
    others = [name for name in kept if name != against]
    family = Family("control", len(others))
    subjects = [d.name for d in fitted.designs if d.role == "candidate"]
    part = restrict(fitted, subjects)
    able = dict(zip(subjects, may_be_best(part, level)[0])) if subjects else {}
    values = scores.only(subjects).values
    whole = values[:, ~np.isnan(values).any(0)]
    rows = []
    for design, mean in zip(fitted.designs, fitted.means):
        said = None
        if design.name != against and against in kept:
            said = compare(fitted, design.name, against, family, level, more=False)
        rows.append(
            Probed(
                name=design.name,
                control=design.role == "control",
                mean=float(mean),
                params=design.params,
                lead=said,
                parts=dict(parts.get(design.name, {})),
                may_be_best=bool(able.get(design.name, False)),
            )
        )
    return Probe(
        task=task,
        against=against,
        seeds=int(fitted.runs.max()),
        noise=fitted.noise,
        icc=icc_same_seed(whole) if min(whole.shape) > 1 else None,
        rows=tuple(sorted(rows, key=lambda r: -r.mean)),
        failed=tuple(bad),
    )


def means(runs: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean of every score by design; runs: design and scores by name."""
    of: dict[str, list[Mapping[str, float]]] = {}
    for name, found in runs:
        of.setdefault(name, []).append(found)
    return {
        name: {key: float(np.mean([f[key] for f in found])) for key in found[0]}
        for name, found in of.items()
    }
