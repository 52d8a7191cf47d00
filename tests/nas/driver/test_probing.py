"""Probes: equal routes and parameters, controls always there, their runs trials like any other."""

import sys

import pytest
from doubles import FakeProxy, score_of

from backbones.config import BackboneConfig
from nas.commands.main import main
from nas.driver.clock import SystemClock
from nas.driver.probing import parse_tasks, probe_name, probe_of
from nas.driver.running import run
from nas.driver.studies import create_study
from nas.errors import StudyError
from nas.evidence.findings import Probes
from nas.executors.inline import InlineExecutor
from nas.executors.ray_tune import RayExecutor
from nas.report.drawings.probes import probe_figure
from nas.report.probes import probe_alternative, probes_view, shortened
from nas.store import comparisons, queries
from nas.study.comparison import Held
from nas.study.recipe import Recipe
from nas.training.probes import CONTROLS, NO_MIXING
from nas.training.run import train_proxy

ORDERS = ("raster", "bidirectional", "cross", "hilbert", "zorder")


def of_task(asked, task):
    return {asked.subject(d.name): d for d in asked.designs if d.group == task}


def test_orders_have_equal_routes_and_parameters_and_all_controls():
    _, asked = probe_of(ORDERS, parse_tasks(None), seeds=2)
    for task in ("relations", "reconstruct"):
        designs = of_task(asked, task)
        assert set(CONTROLS) <= designs.keys()
        assert {d.role for n, d in designs.items() if n in CONTROLS} == {"control"}
        scans = [*ORDERS[1:], "one route, repeated", "random routes"]
        assert len({designs[n].params for n in scans}) == 1
        configs = [BackboneConfig.model_validate(designs[n].config) for n in scans]
        assert {c.blocks["m"].mixer.order.num_routes for c in configs} == {4}
    assert "relations: raster is the same network as one route, repeated" in asked.notes


def test_backbones_are_scaled_and_their_controls_are_their_own():
    _, asked = probe_of(["vmamba_tiny_s1l8", "mambaout_femto"], ("relations",), seeds=2)
    designs = of_task(asked, "relations")
    config = BackboneConfig.model_validate(designs["random routes"].config)
    own = BackboneConfig.model_validate(designs["vmamba_tiny_s1l8"].config)
    assert [s.width for s in config.stages] == [s.width for s in own.stages]
    assert {b.mixer.order.routes[0] for b in config.blocks.values()} == {"random:1"}
    _, alone = probe_of(["mambaout_femto"], ("relations",), seeds=2)
    assert "random routes" not in of_task(alone, "relations")
    assert any("no control 'random routes'" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (["hilbrt"], "nothing to probe is called 'hilbrt'; did you mean 'hilbert'"),
        (["cross", "cross"], "'cross' is given twice"),
        (["cross", "vmamba_tiny_s1l8"], "ask for them apart"),
        (["{kind: quadtree, levels: [2, 3]}"], "must be a larger multiple"),
        (["{kind: quadtree, levels: [8, 32]}"], "on relations: .*cannot act.*image_size than 64"),
    ],
)
def test_subject_that_cannot_be_probed_is_refused(subjects, said):
    with pytest.raises(StudyError, match=said):
        probe_of(subjects, ("relations",), seeds=2)


def test_tasks_are_named_once_and_mistakes_are_met():
    assert parse_tasks(["reconstruct", "relations"]) == ("relations", "reconstruct")
    with pytest.raises(StudyError, match="did you mean 'relations'"):
        parse_tasks(["relation"])
    assert probe_name(["cross", "{kind: window, routes: [h, w4]}"]) == (
        "probe-cross-kind-window-routes-h-w4"
    )


class Parts(FakeProxy):
    """A proxy that scores two parts as well."""

    def __call__(self, config, recipe, **facts):
        from dataclasses import replace

        done = super().__call__(config, recipe, **facts)
        self.recipes = {*getattr(self, "recipes", ()), recipe.fingerprint()}
        return replace(done, scores={"skill": done.score, "dense/left": 0.5, "dense/above": 0.25})


def test_probe_is_trials_and_says_what_holds(sqlite_url):
    settings, asked = probe_of(["cross", "hilbert"], parse_tasks(None), seeds=2)
    study = create_study(settings, sqlite_url, name="s", clock=SystemClock())
    study.compare(asked)
    proxy = Parts(noise=0.001)
    run(study, InlineExecutor(proxy))
    rows = study.store.read(lambda s: comparisons.trained(s, study.id, "probe"))
    assert len(rows) == 2 * len(asked.designs)
    assert all(r.trial_number is not None for r in rows)
    assert proxy.recipes == {Recipe.model_validate(r).fingerprint() for r in asked.recipes.values()}
    trial = queries.trial("s", sqlite_url, rows[-1].trial_number)
    assert Recipe.model_validate(trial["recipe"]).flops_ratio is None
    (held,) = (Held.model_validate(h) for h in queries.summary("s", sqlite_url)["comparisons"])
    found = Probes.model_validate(held.found)
    assert held.done and [p.task for p in found.probes] == ["relations", "reconstruct"]
    for one in found.probes:
        scores = {d.name: score_of(d.fingerprint) for d in asked.designs if d.group == one.task}
        assert [r.name for r in one.rows] == sorted(scores, key=lambda n: -scores[n])
        (base,) = [r for r in one.rows if r.lead is None]
        assert asked.subject(base.name) == NO_MIXING
        assert all(r.parts == {"dense/left": 0.5, "dense/above": 0.25} for r in one.rows)
        short = shortened(one, asked)
        assert {r.name for r in short.rows} == {"cross", "hilbert", *CONTROLS}
    assert probes_view(found, asked)
    assert "Skill on relations: " in probe_alternative(found, asked)
    figure = probe_figure([shortened(p, asked) for p in found.probes])
    assert [a.get_title(loc="left") for a in figure.axes] == ["relations", "reconstruct"]
    study.close()


def test_probe_run_is_the_same_alone_bit_for_bit():
    _, asked = probe_of(["hilbert"], ("relations", "reconstruct"), seeds=2, updates=2, threads=1)
    for task, design in ((d.group, d) for d in asked.designs if d.name.startswith("hilbert")):
        how = Recipe.model_validate(asked.recipes[task])
        config = BackboneConfig.model_validate(design.config)
        runs = [
            train_proxy(config, how, seed=3, device="cpu", report=lambda m: None) for _ in range(2)
        ]
        assert runs[0].score == runs[1].score and runs[0].proxy_params == design.params


def test_probe_asks_a_cluster_for_its_device(sqlite_url, monkeypatch):
    """As `search` and `ablate` do: it is resolved where the probe's networks train."""
    monkeypatch.setattr(RayExecutor, "device", lambda self: "cuda")
    monkeypatch.setattr(RayExecutor, "knock", lambda self: None)
    opened = []

    def show(study, asked, storage, executor, *, plain):
        opened.append((study.place.device, executor.gpus_per_trial))
        study.close()
        raise SystemExit(0)

    monkeypatch.setattr("nas.commands.probe.run_and_show", show)
    typed = f"probe cross --task relations --ray-address head:6379 --storage {sqlite_url}"
    monkeypatch.setattr(sys, "argv", ["cli.py", *typed.split()])
    with pytest.raises(SystemExit):
        main()
    assert opened == [("cuda", 1.0)]
