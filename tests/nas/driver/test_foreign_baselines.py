"""Networks of timm as baselines of a study."""

from io import StringIO

import pytest
from doubles import GRID, FakeProxy, new_study, settings
from rich.console import Console

from backbones.outside import TimmConfig
from nas.driver.progress import Notice
from nas.driver.request import search_settings
from nas.driver.running import run
from nas.errors import StudyError
from nas.evidence.confirmation import judge
from nas.evidence.paired import Design, Scores
from nas.evidence.verdict import sentences
from nas.executors.inline import InlineExecutor
from nas.export.trials import export_trials
from nas.planning.timing import this_device
from nas.report.architectures import profile, profile_view
from nas.store import queries
from nas.study.budget import parse_budget
from nas.study.confirmation import Confirmation
from nas.study.place import Place
from nas.study.recipe import Recipe
from nas.training.run import train_proxy

NAMES = ("timm:test_vit", "timm:test_convnext")
TINY = Recipe(dataset="digits", epochs=1, train_size=64, val_size=64, image_size=32)


def test_they_train_beside_the_designs_at_their_own_cost(url):
    study = new_study(
        url,
        settings(GRID, baselines=NAMES, trials=2),
        confirmation=Confirmation(finalists=1, seeds=3),
    )
    said = []
    run(study, InlineExecutor(FakeProxy(noise=0.02)), said.append)
    rows = queries.summary("s", url)["baselines"]
    assert {row["label"] for row in rows} == set(NAMES)
    for row in rows:
        cost = TimmConfig.load(row["label"]).cost(64)
        assert (row["flops"], row["params"]) == (cost.flops, cost.params)
    costs = [event.text for event in said if isinstance(event, Notice)]
    assert sum("at its own cost: " in text and "flops" in text for text in costs) == 2
    verdict = queries.summary("s", url)["verdict"]
    assert {c["name"] for c in verdict["contenders"]} > set(NAMES)
    assert not verdict["chosen"].startswith("timm:")
    number = rows[0]["trial"]
    with pytest.raises(StudyError, match=f"trial {number} is timm:.* timm.create_model makes"):
        export_trials("s", url, which=str(number))
    study.close()


def test_their_latency_is_measured_whole(sqlite_url, monkeypatch):
    monkeypatch.setattr("nas.planning.timing.LEAST_S", 0.001)
    made = settings(
        GRID,
        baselines=NAMES[:1],
        trials=1,
        objectives=("top1", "latency", "memory"),
        latency=this_device("cpu"),
    )
    study = new_study(sqlite_url, made)
    run(study, InlineExecutor(FakeProxy()))
    (row,) = queries.summary("s", sqlite_url)["baselines"]
    assert row["latency_ms"] > 0
    study.close()


def test_a_network_of_timm_trains_by_the_recipe():
    found = train_proxy(
        TimmConfig.load("timm:test_convnext"), TINY, seed=0, device="cpu", report=lambda _: None
    )
    assert found.backend == "torch" and found.proxy_flops > 0
    assert "trains at its own cost" in found.notes[0]
    dense = TINY.model_copy(update={"dataset": "relations", "task": "dense"})
    with pytest.raises(StudyError, match="answers for whole images, and the recipe's task"):
        train_proxy(
            TimmConfig.load("timm:test_convnext"), dense, seed=0, device="cpu",
            report=lambda _: None,
        )  # fmt: skip


def test_a_wrong_baseline_is_said():
    ask = {"space": "mambaout", "budget": parse_budget(["1GFLOPs"]), "place": Place()}
    with pytest.raises(Exception, match="is no model of timm; did you mean 'convnext_atto'"):
        search_settings(**ask, baselines=("timm:convnext_ato",))
    own = Recipe(dataset="digits", evaluate="a:b")
    with pytest.raises(StudyError, match="no config that an evaluation of your own could read"):
        settings(GRID, baselines=NAMES, recipe=own)


def test_one_that_is_best_is_named_and_not_chosen():
    designs = [
        Design(name="trial 1", params=10),
        Design(name="timm:test_vit", role="baseline", params=5, outside=True),
    ]
    rows = [(d.name, i, 0.5 + 0.3 * (d.outside) + 0.001 * i) for d in designs for i in range(4)]
    verdict = judge(Scores.of(designs, rows), unit="percent")
    assert verdict.chosen == "trial 1" and verdict.may_be_best == ("timm:test_vit",)
    assert any("from outside of the search, at its own cost" in s for s in sentences(verdict))


def test_profile_counts_them():
    report = profile("timm:test_vit", image_size=64)
    assert report["flops"] == TimmConfig.load("timm:test_vit").cost(64).flops
    assert profile_view(report)


def test_profile_measures_them():
    report = profile("timm:test_vit", image_size=64, latency=True)
    speed = report["latency"]
    assert speed["images_per_s"] > 0 and speed["backend"] is None
    console = Console(width=100, record=True, file=StringIO())
    console.print(profile_view(report))
    shown = f"images/s ({speed['device']}, batch {speed['batch']})"
    assert shown in console.export_text()


def test_profile_says_that_it_has_nothing_to_verify_them_by():
    said = "timm:test_vit is counted by fvcore on the built model itself.*leave --verify out"
    with pytest.raises(StudyError, match=said):
        profile("timm:test_vit", image_size=64, verify=True)
