"""Ablations and papers' tables: their runs are trials, and what is said follows from them."""

from dataclasses import replace

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, score_of, settings

import backbones
from nas.driver.ablating import ablation_of, equal_budget, find_space, table_file
from nas.driver.ablating import table_of as designs_of_table
from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StudyError
from nas.evidence.findings import Ablation, PublishedTable
from nas.executors.inline import InlineExecutor
from nas.report.comparisons import comparisons_view
from nas.store import comparisons, queries
from nas.study.comparison import TableAsked
from search_spaces import SearchSpace, list_ablations
from search_spaces.space import ABLATIONS

CONVS = {"depth": 2, "mixer": "g", "kernel": 7, "expand": 2.0}
POINT = {**CONVS, "mixer": "s", "d_state": 1, "scan": "cross"}
ONLY = settings(CONDITIONAL, trials=0)


def asking(margin=0.05, seeds=6, choice="scan", point=POINT, **more):
    return ablation_of(ONLY, point, choice, subject="a design", margin=margin, seeds=seeds, **more)


def study_of(url, asked):
    study = new_study(url, ONLY, clock=SystemClock())
    study.compare(asked)
    return study


def finish(study, proxy=None):
    run(study, InlineExecutor(proxy or FakeProxy(noise=0.001)))
    return queries.summary("s", str(study.store.url))["comparisons"]


def rows_of(study, stage="ablation"):
    return study.store.read(lambda s: comparisons.trained(s, study.id, stage))


def test_levels_differ_in_the_choice_alone_at_equal_cost():
    asked = asking()
    assert [d.name for d in asked.designs] == ["cross", "raster", "snake", "random paths"]
    configs = [backbones.config.BackboneConfig.model_validate(d.config) for d in asked.designs]
    low, high = ONLY.budget.bands[0].lo, ONLY.budget.bands[0].hi
    assert all(low <= d.flops <= high for d in asked.designs)
    assert [c.blocks["s"].mixer.order.kind for c in configs] == [
        *("cross", "raster", "snake", "routes")
    ]
    assert len({c.stages[1].depth for c in configs}) == 1


def test_clear_difference_ends_an_ablation_after_three_seeds(sqlite_url):
    asked = asking()
    study = study_of(sqlite_url, asked)
    (held,) = finish(study)
    found = Ablation.model_validate(held["found"])
    best = max((d for d in asked.designs if d.role == "candidate"),
               key=lambda d: score_of(d.fingerprint))  # fmt: skip
    assert held["done"] and found.outcome == "matters"
    assert (found.best, found.seeds) == (best.name, 3)
    rows = rows_of(study)
    assert {(r.seed_index, r.split) for r in rows} == {(0, "val"), (1, "val"), (2, "val")}
    assert len(rows) == 3 * len(asked.designs)
    assert all(len({r.seed for r in rows if r.seed_index == i}) == 1 for i in range(3))


class Alike(FakeProxy):
    """All designs are equally good."""

    def __call__(self, config, recipe, **facts):
        from random import Random

        done = super().__call__(config, recipe, **facts)
        drawn = Random(f"{config.fingerprint()}/{facts['seed']}").gauss(0.5, 0.002)
        return replace(done, score=drawn)


def test_equal_levels_do_not_matter_and_the_cheapest_is_taken(sqlite_url):
    asked = asking(margin=0.05)
    (held,) = finish(study_of(sqlite_url, asked), Alike())
    found = Ablation.model_validate(held["found"])
    cheapest = min((d for d in asked.designs if d.role == "candidate"), key=lambda d: d.params)
    assert found.outcome == "does not matter" and found.chosen == cheapest.name
    assert found.sees is False


def test_interrupted_ablation_goes_on_and_trains_nothing_twice(sqlite_url):
    study = study_of(sqlite_url, asking())
    proxy = FakeProxy(
        noise=0.001, raises=lambda calls, *_: KeyboardInterrupt if calls > 5 else None
    )
    with pytest.raises(KeyboardInterrupt):
        run(study, InlineExecutor(proxy))
    study.close()
    again = open_study("s", sqlite_url, clock=SystemClock())
    (held,) = finish(again)
    assert held["done"]
    rows = rows_of(again)
    assert len({(r.fingerprint, r.seed_index) for r in rows}) == len(rows) == 12


def test_same_question_trains_nothing_and_another_one_is_refused(sqlite_url):
    study = study_of(sqlite_url, asking())
    finish(study)
    study.compare(asking())
    proxy = FakeProxy(noise=0.001)
    finish(study, proxy)
    assert proxy.calls == []
    with pytest.raises(StudyError, match=r"another ablation already.*give another --study"):
        study.compare(asking(margin=0.5))


def test_more_seeds_are_another_stricter_look_at_the_runs_there_are(sqlite_url):
    study = study_of(sqlite_url, asking(margin=1e-6, seeds=3))
    finish(study, Alike())
    before = {r.id for r in rows_of(study)}
    study.compare(asking(margin=1e-6, seeds=4))
    (held,) = finish(study, Alike())
    assert held["asked"]["looks"] == 2 and before < {r.id for r in rows_of(study)}
    assert Ablation.model_validate(held["found"]).seeds == 4


def test_unknown_choice_level_and_table_are_named_with_the_nearest():
    with pytest.raises(StudyError, match="no choice 'scam'; did you mean 'scan'"):
        asking(choice="scam")
    with pytest.raises(StudyError, match=r"no choice 'scan' \(it exists in other designs"):
        asking(point=CONVS)
    with pytest.raises(StudyError, match="no level 'crss'; did you mean 'cross'"):
        asking(only=["crss", "raster"])
    with pytest.raises(StudyError, match=r"no ablation table 'vmamba_scann'.*'vmamba_scan'"):
        table_file("vmamba_scann")
    with pytest.raises(StudyError, match="nothing to compare"):
        asking(only=["raster"])


def test_levels_that_the_proxy_trains_as_one_stand_as_one():
    """Half of three blocks is two, and half of four."""
    asked = asking(choice="depth", only=["2", "3", "4", "6"])
    assert [d.name for d in asked.designs] == ["2", "6"]
    assert dict(asked.left_out)["4"] == "the proxy trains the same network as for 2"


def test_choice_is_found_in_the_smallest_space_that_holds_the_design():
    config = backbones.load_config("vmamba_tiny_s1l8")
    assert find_space(config, "scan").name == "vmamba"
    assert equal_budget(config, 224).admits(flops=backbones.cost(config, 224).flops, params=0)
    with pytest.raises(StudyError, match="no shipped space has a choice 'scams'"):
        find_space(config, "scams")


@pytest.mark.parametrize("name", list_ablations())
def test_published_rows_are_designs_of_their_space(name):
    space = SearchSpace.load(ABLATIONS / f"{name}.yaml")
    assert space.name == name and space.size == len(space.published.rows)
    designs = {space.build(row.at).fingerprint() for row in space.published.rows}
    assert len(designs) == space.size
    assert all(set(r.scores) <= set(space.published.metrics) for r in space.published.rows)


def test_table_says_where_the_paper_is_borne_out(sqlite_url):
    plain = asking(controls=False)
    order = sorted(plain.designs, key=lambda d: score_of(d.fingerprint))
    points = {order[0].name: 70.0, order[1].name: 72.0, order[2].name: 71.0}
    asked = TableAsked(
        table="t",
        source="A paper",
        metrics={"top1": "top-1"},
        seeds=3,
        designs=tuple(d.model_copy(update={"published": {"top1": points[d.name]}}) for d in order),
    )
    study = study_of(sqlite_url, asked)
    (held,) = finish(study)
    found = PublishedTable.model_validate(held["found"])
    said = {r.comparison.other: dict(r.agreement)["top1"] for r in found.rows}
    assert {r.comparison.design for r in found.rows} == {order[1].name}
    assert said == {order[0].name: "same sign", order[2].name: "opposite"}
    assert len(rows_of(study, "table")) == 9
    parts = comparisons_view(queries.summary("s", sqlite_url))
    printed = " ".join(str(part) for part in parts)
    assert "1 of 2 differences have the paper's sign, 1 the opposite" in printed


def test_designs_of_a_table_cost_the_same():
    file = table_file("vmamba_scan")
    space = SearchSpace.load(file)
    made = settings(CONDITIONAL, trials=0).model_copy(
        update={"space": space, "budget": equal_budget(space.base, 224), "image_size": 224}
    )
    asked = designs_of_table(made, 5)
    assert {d.group for d in asked.designs} == {"conv with", "conv without"}
    assert max(d.flops for d in asked.designs) < 1.06 * min(d.flops for d in asked.designs)
