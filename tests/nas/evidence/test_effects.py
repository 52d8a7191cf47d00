"""Effects of choices, interactions, and what a space does not describe."""

import numpy as np
import pytest

from nas.errors import StudyError
from nas.evidence.effects import Sample, analyze
from nas.evidence.findings import Analysis, analysis_sentences
from nas.evidence.levels import LevelRun, level_test

LEVELS = {"mixer": ("ssm", "conv", "mixed"), "order": ("cross", "raster"), "shift": ("no", "yes")}


def study(score, count=60, seed=0, noise=0.01, repeats=1):
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        choices = {k: str(rng.choice(v)) for k, v in LEVELS.items()}
        cost = float(rng.uniform(4.3e9, 4.5e9))
        for _ in range(repeats):
            value = 0.8 + score(choices) + noise * rng.normal()
            samples.append(Sample(str(i), choices, value, cost))
    return samples


def test_planted_effect_is_recovered_and_others_are_not_seen():
    found = analyze(
        study(lambda c: 0.1 * (c["mixer"] == "conv")), unit="percent", stages={"mixer": 2}
    )
    by = {f.factor: f for f in found.factors}
    assert by["mixer"].p_holm < 1e-6 and by["mixer"].stage == 2
    assert by["order"].p_holm > 0.05 and by["shift"].p_holm > 0.05
    mixer = by["mixer"]
    effects = {mixer.reference: 0.0} | {e.level: e.estimate for e in mixer.levels}
    assert effects["conv"] - effects["ssm"] == pytest.approx(0.1, abs=0.015)
    assert by["mixer"].importance > 0.5 > by["shift"].importance
    counts, unseen, _ = analysis_sentences(found)
    assert counts.startswith("mixer: counts (p 0.000 after Holm)")
    assert unseen == "not seen (p 0.05 or more after Holm): order, shift"
    assert Analysis.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_an_interaction_is_found():
    def score(c):
        return 0.1 * ((c["mixer"] == "ssm") and (c["order"] == "cross"))

    found = analyze(study(score, count=80), unit="percent", importance=False)
    strongest = found.interactions[0]
    assert {strongest.first, strongest.second} == {"mixer", "order"}
    assert strongest.p_holm < 1e-6
    assert "mixer and order depend on each other" in " ".join(analysis_sentences(found))


def test_what_no_choice_describes_is_told_from_noise():
    rng = np.random.default_rng(5)
    own = {}

    def score(c):
        return own.setdefault(id(c), 0.05 * rng.normal())

    hidden = analyze(study(score, repeats=3), unit="percent", importance=False)
    assert hidden.unexplained > 0.6
    plain = analyze(study(lambda c: 0.0, repeats=3), unit="percent", importance=False)
    assert plain.noise > 0.6


def test_a_choice_that_never_varies_or_is_absent_is_handled():
    samples = [
        Sample(str(i), {"fixed": "a"} | ({"cond": "x"} if i % 2 else {}), 0.8 + 0.01 * (i % 3))
        for i in range(12)
    ]
    found = analyze(samples, unit="percent", importance=False)
    assert [f.factor for f in found.factors] == ["cond"]
    assert {found.factors[0].reference, found.factors[0].levels[0].level} == {"x", "absent"}


def test_choices_that_always_went_together_are_not_adjusted_for_each_other():
    samples = [
        Sample(str(i), {"a": str(i % 2), "b": str(i % 2)}, float(i % 2) + 0.1 * (i % 5))
        for i in range(30)
    ]
    found = analyze(samples, unit="plain", importance=False)
    assert [f.adjusted for f in found.factors] == [False, False]


def test_many_rare_levels_are_pooled():
    samples = [
        Sample(str(i), {"pattern": f"p{i}" if i > 10 else "ssss"}, 0.8 + 0.01 * (i % 4))
        for i in range(20)
    ]
    found = analyze(samples, unit="percent", importance=False)
    factor = found.factors[0]
    assert factor.reference == "ssss"
    assert [e.level for e in factor.levels] == ["other"]
    assert len(factor.pooled) == 9


def test_level_of_one_design_joins_another_and_no_interval_runs_away():
    patterns = ["ssss"] * 8 + ["gggg"] * 6 + ["sgsg"] * 5 + ["ssgg"]
    scores = [0.8 + 0.01 * (i % 4) for i in range(len(patterns))]
    samples = [Sample(str(i), {"pattern": p}, y) for i, (p, y) in enumerate(zip(patterns, scores))]
    (factor,) = analyze(samples, unit="percent", importance=False).factors
    assert factor.pooled == ("sgsg", "ssgg")
    assert all(e.designs > 1 and e.high - e.low < 0.1 for e in factor.levels)


def test_too_few_designs_or_no_choice_is_an_error():
    with pytest.raises(StudyError, match="7 designs with a score are too few"):
        analyze([Sample(str(i), {"a": str(i % 2)}, 0.5) for i in range(7)], unit="plain")
    with pytest.raises(StudyError, match="no choice varies"):
        analyze([Sample(str(i), {"a": "1"}, 0.5) for i in range(9)], unit="plain")


def test_level_test_is_the_f_test_of_nested_models():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(0)
    runs = [
        LevelRun(level, block, seed, float(rng.normal() + (level == "b")))
        for level in "abc"
        for block in ("p", "q")
        for seed in range(3)
    ]
    frame = pd.DataFrame([(r.level, r.block, r.seed, r.score) for r in runs], columns=list("lbsy"))
    smaller = ols("y ~ C(b) + C(s)", frame).fit()
    whole = ols("y ~ C(b) + C(s) + C(l)", frame).fit()
    assert level_test(runs).p_value == pytest.approx(anova_lm(smaller, whole)["Pr(>F)"].iloc[1])


def test_the_detectable_spread_is_seen_with_the_stated_power():
    rng = np.random.default_rng(0)

    def draw(gap):
        return level_test(
            [
                LevelRun(level, "one", seed, gap * (level == "b") + float(rng.normal()))
                for level in "ab"
                for seed in range(8)
            ]
        )

    gap = float(np.mean([draw(0.0).detectable for _ in range(200)]))
    seen = np.mean([draw(gap).p_value < 0.05 for _ in range(500)])
    assert 0.72 <= seen <= 0.88
