"""A model of the scores so far, which puts some thousand designs in order before one is trained.

A Gaussian process over the choices (`features`) is fitted to the ranks of all designs, so that
neither the scale of a score nor how bad a failure is told to be matters. Of a pool of designs,
drawn from the whole space and from around the best, the one with the highest expected improvement
is proposed. Designs that are being trained count with the score that the model expects of them,
so that many workers do not crowd on one.

Source: Jones et al., Journal of Global Optimization 13, 1998, section 4 (expected improvement);
Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010, section 4 (designs in
training, the "kriging believer").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState
from scipy.stats import norm, rankdata
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from nas.planning.strategies.encoding import decode, encode, trained
from nas.planning.strategies.features import Features
from nas.planning.strategies.uniform import WholePointSampler
from nas.planning.strategies.utility import utilities
from search_spaces.rows import Rows

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from search_spaces import SearchSpace
    from search_spaces.rows import Matrix

# Random designs (published ones count) before the model is asked.
FIRST_RANDOM = 8
# Designs that are put in order: drawn from the whole space, and from around the best ones.
DRAWN, NEAR, PARENTS = 1000, 1000, 10
# Of a design near another: how many choices change, one more with this probability each.
FURTHER_CHANGE_RATE = 0.5
# Designs that the model is fitted to, its time growing with their cube: the best, and the newest.
BEST_FITTED, NEWEST_FITTED = 150, 150
# Distances over which scores are alike, and what repeating a training moves of a score's variance.
# Both are chosen by the newest designs alone, which takes several fits.
GRID_FITTED = 150
SCALES, NOISES = (0.7, 1.0, 1.5, 2.5, 4.0), (0.01, 0.05, 0.2)
LEAST_SPREAD = 1e-6


class SurrogateSampler(WholePointSampler):
    """Proposes the design of a pool from which the model expects the largest improvement."""

    kind = "random"

    def point(self, study: Study) -> dict[str, Any]:
        """Return the choices to try next; a random point while there is too little to learn."""
        known = trained(study.get_trials(deepcopy=False))
        done = [t for t in known if t.state is TrialState.COMPLETE]
        if len(done) < FIRST_RANDOM:
            return self.space.sample(self.rng)
        self.kind = "model"
        rows, features = _of(self.space)
        fitness = utilities(study, done, self.rng)
        kept = _fitted_to(fitness)
        fitted_to = self._rows([done[i] for i in kept])
        model = Model(features(fitted_to), norm.ppf((rankdata(fitness[kept]) - 0.5) / len(kept)))
        running = [t for t in known if t.state is TrialState.RUNNING]
        if running:
            model.believe(features(self._rows(running)))
        pool = self._pool(fitted_to[np.argsort(-fitness[kept], kind="stable")[:PARENTS]])
        tried = {frozenset(t.params.items()) for t in known}
        for at in np.argsort(-model.improvement(features(pool)), kind="stable"):
            point = rows.point(pool[at])
            if frozenset(encode(self.space, point).items()) not in tried:
                return point
        return self.space.sample(self.rng)

    def _rows(self, trials: Sequence[FrozenTrial]) -> Matrix:
        rows = _of(self.space)[0]
        return np.array([rows.row(decode(self.space, t.params)) for t in trials])

    def _pool(self, parents: Matrix) -> Matrix:
        """Return designs drawn anywhere and near the best ones."""
        rows = _of(self.space)[0]
        near = parents[self.rng.integers(len(parents), size=NEAR)]
        changes = self.rng.geometric(1 - FURTHER_CHANGE_RATE, size=(NEAR, 1))
        # As many choices as are to change, at random, are left to be drawn.
        order = self.rng.random(near.shape).argsort(axis=1).argsort(axis=1)
        near = np.where(order < changes, -1, near)
        return np.vstack([rows.sample(DRAWN, self.rng), rows.like(near, self.rng)])


@lru_cache(maxsize=4)
def _of(space: SearchSpace) -> tuple[Rows, Features]:
    return Rows(space), Features(space)


def _fitted_to(fitness: Matrix) -> Matrix:
    """Return which trials the model is fitted to, in their order."""
    newest = np.arange(len(fitness))[-NEWEST_FITTED:]
    return np.union1d(newest, np.argsort(-fitness, kind="stable")[:BEST_FITTED])


class Model:
    """A Gaussian process with one scale for all distances.

    The scale and the noise are those of the grid under which the scores are likeliest, the
    variance the likeliest for them (Rasmussen and Williams, 2006, equation 5.8).
    Shapes: x (n, columns), y (n,).
    """

    def __init__(self, x: Matrix, y: Matrix) -> None:
        self.x, self.y = x, y
        best, shape = -np.inf, (SCALES[0], NOISES[0])
        x_few, y_few = x[-GRID_FITTED:], y[-GRID_FITTED:]
        for scale, noise in product(SCALES, NOISES):
            fitted = _regression(scale, noise).fit(x_few, y_few)
            variance = max(float(y_few @ fitted.alpha_) / len(y_few), LEAST_SPREAD)
            likely = -0.5 * len(y_few) * np.log(variance) - np.log(np.diag(fitted.L_)).sum()
            if likely > best:
                best, shape, self.variance = likely, (scale, noise), variance
        self._shape = shape
        self._fitted = _regression(*shape).fit(x, y)
        # Of what is expected of designs that were trained: their scores had luck.
        self.best = float(self._fitted.predict(x).max())

    def believe(self, x: Matrix) -> None:
        """Take designs that are being trained for what is expected of them."""
        x, y = np.vstack([self.x, x]), np.append(self.y, self._fitted.predict(x))
        self._fitted = _regression(*self._shape).fit(x, y)

    def improvement(self, x: Matrix) -> Matrix:
        """Return the expected improvement of designs on the best that is known. Shape (n,)."""
        mean, spread = self._fitted.predict(x, return_std=True)
        spread = np.sqrt(self.variance) * np.maximum(spread, LEAST_SPREAD)
        above = (mean - self.best) / spread
        return spread * (above * norm.cdf(above) + norm.pdf(above))


def _regression(scale: float, noise: float) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(RBF(scale), alpha=noise, optimizer=None, copy_X_train=False)
