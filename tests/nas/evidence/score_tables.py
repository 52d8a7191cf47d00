"""Tables of scores for tests."""

import numpy as np

from nas.evidence.paired import Design, Scores


def designs(candidates, baselines=0, controls=0):
    return (
        [Design(name=f"c{i}", params=100 + i) for i in range(candidates)]
        + [Design(name=f"b{i}", role="baseline", params=50 + i) for i in range(baselines)]
        + [Design(name=f"x{i}", role="control", params=1) for i in range(controls)]
    )


def table(of, values, missing=(), failed=()):
    values = np.asarray(values, dtype=float)
    runs = [
        (d.name, seed, None if (d.name, seed) in failed else float(values[i, seed]))
        for seed in range(values.shape[1])
        for i, d in enumerate(of)
        if (d.name, seed) not in missing
    ]
    return Scores.of(of, runs)
