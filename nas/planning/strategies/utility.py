"""How good trials are, as one number each, whatever the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import StudyDirection
from scipy.stats import rankdata

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# What the mean of all objectives counts beside the worst of them: of two designs whose worst is
# alike, the one that is better in the others.
MEAN_SHARE = 0.05


def utilities(study: Study, trials: Sequence[FrozenTrial], rng: np.random.Generator) -> Any:
    """Return a number for each complete trial, more is better. Shape (n,).

    One objective: its value, with sign. Several: how a trial ranks in each, between 0 and 1, and
    of these the weighted worst. Weights are drawn anew for every proposal, so that one after the
    other they look for all of a front; the rank is not moved by how bad a failure is told to be.
    Source: augmented Tchebycheff function with weights drawn, ParEGO, Knowles, IEEE Transactions
    on Evolutionary Computation 10 (1), 2006, equation 2. Differs: of ranks, not of values.
    """
    signs = [1 if d == StudyDirection.MAXIMIZE else -1 for d in study.directions]
    values = np.array([t.values for t in trials], dtype=float).reshape(len(trials), -1) * signs
    if values.shape[1] == 1:
        return values[:, 0]
    ranks = rankdata(values, axis=0) / len(trials)
    weights = rng.dirichlet(np.ones(values.shape[1]))
    short = weights * (1 - ranks)
    return -(short.max(axis=1) + MEAN_SHARE * short.sum(axis=1))
