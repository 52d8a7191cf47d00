"""What a scan order can carry shows in its score on `relations`, seed after seed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.proxy_sees import ORDERS, QUADTREES, report, train
from nas.training.probes import TASKS, network, recipe, ssm
from nas.training.scaling import as_it_is

SEEDS = (0, 1)


@pytest.mark.parametrize("task", TASKS)
def test_designs_of_one_family_have_equal_parameters_and_act(task):
    import backbones

    for family in (ORDERS, QUADTREES):
        counts = set()
        for name, order in family.items():
            config, notes = as_it_is(network(task, ssm(order)), recipe(task), 0, 3)
            assert not notes, name
            counts.add(backbones.cost(config, image_size=64).params)
        assert len(counts) == 1


def test_report_names_every_order_and_test(capsys):
    rows = [
        {
            "order": name,
            "task": "reconstruct",
            "seed": seed,
            "score": n + 0.1 * seed,
            "scores": {"loss": 1.0, "skill": n + 0.1 * seed + 0.01 * (n * seed % 3)},
            "params": 1,
            "seconds": 1.0,
        }
        for n, name in enumerate((*ORDERS, *QUADTREES))
        for seed in SEEDS
    ]
    report(rows)
    said = " ".join(capsys.readouterr().out.split())
    assert all(name.split()[0] in said for name in ORDERS)
    assert "reconstruct skill, orders: ICC" in said
    assert "reconstruct skill, quadtree resolutions: p" in said


@pytest.fixture(scope="module")
def scores():
    """Scores of each order, by seed."""
    names = ("rows", "columns", "cross", "hilbert")
    return {n: [train(n, "relations", 2, seed)["scores"] for seed in SEEDS] for n in names}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_rows_and_columns_carry_along_their_axis_alone(scores):
    for along, across, name in (
        (("left", "right"), ("above", "below"), "rows"),
        (("above", "below"), ("left", "right"), "columns"),
    ):
        for own in scores[name]:
            assert min(own[relation] for relation in along) > 0.7
            assert max(own[relation] for relation in across) < 0.25


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_cross_carries_along_both_axes(scores):
    for own in scores["cross"]:
        assert min(own[relation] for relation in ("left", "right", "above", "below")) > 0.7


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hilbert_knows_its_neighborhood_and_loses_the_row(scores):
    for own, rows in zip(scores["hilbert"], scores["rows"]):
        assert own["window"] > rows["window"] + 0.1
        assert own["left"] < rows["left"] - 0.2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_orders_differ_by_more_than_seeds(scores):
    means = [sum(own["skill"] for own in by_seed) / len(SEEDS) for by_seed in scores.values()]
    of_seeds = max(abs(a["skill"] - b["skill"]) for a, b in scores.values())
    assert max(means) - min(means) > 2 * of_seeds
