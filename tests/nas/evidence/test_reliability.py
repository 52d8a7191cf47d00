"""The reliability benchmark: its statistics, its panel, and the result that ships."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from backbones import cost
from nas.evidence.reliability import load_reliability
from nas.study.recipe import CPU_RECIPE
from nas.training.scaling import proxy_config

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def benchmark_module():
    path = ROOT / "benchmarks" / "proxy_reliability.py"
    spec = importlib.util.spec_from_file_location("proxy_reliability", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def rows(module, effect, noise, rng, seeds=3):
    common = rng.normal(0, 10 * noise, seeds)  # what a seed does to every design
    return [
        (d, s, effect(d) + common[s] + rng.normal(0, noise))
        for d in module.PANEL
        for s in range(seeds)
    ]


def test_planted_effect_is_seen_and_others_are_not(benchmark_module):
    rng = np.random.default_rng(1)
    seen = {kind: 0 for kind in benchmark_module.KINDS}
    for _ in range(40):
        planted = rows(benchmark_module, lambda d: 0.05 * d.shift, 0.01, rng)
        for kind in benchmark_module.KINDS:
            seen[kind] += benchmark_module.choice_test(kind, planted).seen
    assert seen["shift"] == 40
    # A level of 5 %: about two false alarms in 40.
    assert all(count <= 8 for kind, count in seen.items() if kind != "shift")


def test_effect_size_is_recovered_and_blocks_are_taken_out(benchmark_module):
    rng = np.random.default_rng(2)

    def effect(d):
        return 0.3 * (d.depths[2] == 8) + 0.04 * (d.d_state == 8)

    result = benchmark_module.choice_test("d_state", rows(benchmark_module, effect, 1e-6, rng))
    assert result.spread == pytest.approx(0.04, abs=1e-4)
    assert result.eta_squared > 0.999
    assert result.levels == ("1", "8")


def test_panel_has_twelve_designs_within_the_budget(benchmark_module):
    assert len({d.name for d in benchmark_module.PANEL}) == 12
    for design in benchmark_module.PANEL:
        assert 0.95 * 4.5e9 <= cost(design.config()).flops <= 4.5e9, design.name


def test_levels_of_a_choice_differ_in_it_alone(benchmark_module):
    for kind in benchmark_module.KINDS:
        blocks = {}
        for d in benchmark_module.PANEL:
            if (place := benchmark_module.level_of(kind, d)) is not None:
                blocks.setdefault(place[1], set()).add(place[0])
        compared = [levels for levels in blocks.values() if len(levels) > 1]
        assert len(compared) >= 2, kind


def test_panel_designs_stay_distinct_under_the_default_recipe(benchmark_module):
    scaled = {
        proxy_config(d.config(), CPU_RECIPE, 10, 3)[0].fingerprint() for d in benchmark_module.PANEL
    }
    assert len(scaled) == 12


def test_quadtree_choices_act_on_a_grid_of_eight_or_more(benchmark_module):
    for d in benchmark_module.PANEL:
        if d.first != "quadtree":
            continue
        _, notes = proxy_config(d.config(), CPU_RECIPE, 10, 3)
        assert not [n for n in notes if n.startswith("stage 1")], d.name
    assert CPU_RECIPE.image_size // CPU_RECIPE.stem_stride >= 8


def test_shipped_measurement_is_of_the_default_recipe(benchmark_module):
    shipped = load_reliability()
    assert shipped is not None
    assert shipped.recipe_fingerprint == CPU_RECIPE.fingerprint()
    assert shipped.score == CPU_RECIPE.score
    assert [c.kind for c in shipped.choices] == list(benchmark_module.KINDS)
    assert set(shipped.unseen()) == {c.kind for c in shipped.choices if c.p_value >= shipped.alpha}
    assert (shipped.designs, shipped.seeds) == (12, 3)
    json.dumps(shipped.model_dump(mode="json"))
