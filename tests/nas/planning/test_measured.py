"""What is measured of designs: nas/planning/meters.py and timing.py."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from doubles import CONDITIONAL, GRID, score_of, settings
from test_proposals import SMALLEST, UNFIT
from test_strategy_conformance import entry

import backbones
from backbones import load_config
from backbones.pieces import Piece, pieces
from nas.driver.request import search_settings
from nas.errors import BudgetError, StudyError
from nas.planning import meters, timing
from nas.planning.meters import costs_of, times_on
from nas.planning.proposals import Planner
from nas.planning.timing import fastest_ms, kept_bytes, memory_of, this_device, time_of
from nas.study.budget import parse_budget
from nas.study.place import Place
from nas.study.recipe import Recipe
from search_spaces import UnreachableError
from search_spaces.fit import with_widths

SIZE = 64
ROUNDED = 0.01
"""What rounded ranks and ratios take from a memory between two rungs."""


@pytest.fixture
def counted(monkeypatch):
    """Times by a formula in place of a clock; the pieces that were timed."""
    timed = []

    def time(piece, on):
        timed.append(piece.key)
        return 1e-3 + 1e-5 * piece.grid[0] * piece.grid[1] * piece.widths[-1]

    monkeypatch.setattr(timing, "time_of", time)
    times_on.cache_clear()
    yield timed
    times_on.cache_clear()


def study(*budget, space=GRID, **changes):
    measures = any("ms" in text for text in budget) or "latency" in changes.get("objectives", ())
    on = this_device("cpu") if measures else None
    return settings(space, budget=parse_budget(budget), image_size=SIZE, latency=on, **changes)


@pytest.mark.parametrize("space", [GRID, CONDITIONAL, UNFIT], ids=["grid", "conditional", "unfit"])
def test_proposals_lie_in_a_latency_and_are_the_same_again(space, counted):
    made = study("1.5-2ms", space=space, strategy="evolution")
    first, second = Planner("s", made, None), Planner("s", made, None)
    for index in range(8):
        new, again = first.candidate(), second.candidate()
        assert new == again
        assert 1.5 <= new.measured["latency"] <= 2
        for planner in (first, second):
            planner.learn([entry(planner, new, score=score_of(new.fingerprint) / (index + 1))])
    assert len(counted) == len(set(counted))  # each piece once


def test_operations_and_latency_bind_together(counted):
    free = Planner("s", study("80-100MFLOPs"), None).candidate()
    assert free.measured == {}
    both = study("80-100MFLOPs", "80ms", space=CONDITIONAL)
    new = Planner("s", both, None).candidate()
    assert 80e6 <= new.flops <= 100e6 and new.measured["latency"] <= 80
    with pytest.raises(UnreachableError, match=r"at most 0\.01ms"):
        Planner("s", study("80-100MFLOPs", "0.01ms"), None).candidate()


def test_a_wish_outside_of_the_latency_says_what_it_costs(counted):
    made = study("1.5-2ms", space=UNFIT)
    small = made.space.build(SMALLEST)
    with pytest.raises(BudgetError, match=r"costs .* flops, .* params, [\d.]+ ms, outside of 1\.5"):
        Planner("s", made, None).wished(small)


def test_objectives_are_measured_without_a_bound(counted):
    made = study("80-100MFLOPs", objectives=("top1", "latency", "memory"))
    new = Planner("s", made, None).candidate()
    assert set(new.measured) == {"latency", "memory"}
    config = backbones.config.BackboneConfig.model_validate(dict(new.config))
    assert costs_of(config, made)["latency"] == new.measured["latency"] > 0


def test_another_machine_knows_its_limits(counted):
    on = this_device("cpu").model_copy(update={"processor": "Another CPU"})
    times = times_on(on)
    piece = next(pieces(load_config("mambaout_femto"), SIZE))[0]
    with pytest.raises(StudyError, match=r"is Another CPU, here it is .*; run the driver"):
        times.of(piece)
    times.take({piece.key: 3.5})
    assert times.of(piece) == 3.5
    assert counted == []


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"latency_device": "tpu"}, "latency device 'tpu' is unknown; use cpu, cuda or cuda:1"),
        ({"latency_device": "mps"}, "latency device 'mps' is unknown"),
        ({"budget": ["1GFLOPs"], "latency_batch": 2}, "nothing asks for a latency; add --budget"),
        ({"budget": ["1GFLOPs"], "objectives": ("top1", "latncy")}, "unknown objective 'latncy'"),
    ],
)
def test_a_wrong_latency_is_said(asked, reason):
    budget = parse_budget(asked.pop("budget", ["8ms"]))
    with pytest.raises(StudyError, match=reason):
        search_settings(space="mambaout", budget=budget, place=Place(), **asked)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_gpu_is_said():
    with pytest.raises(StudyError, match="no CUDA device on this machine; use cpu, or begin"):
        search_settings(
            space="mambaout",
            budget=parse_budget(["8ms"]),
            place=Place(),
            recipe=Recipe(dataset="digits"),
            latency_device="cuda",
        )


def test_settings_say_what_times_are_of():
    made = search_settings(
        space="mambaout",
        budget=parse_budget(["8ms"]),
        place=Place(),
        recipe=Recipe(dataset="digits"),
        latency_batch=4,
    )
    assert (made.latency.device, made.latency.batch, made.latency.precision) == ("cpu", 4, "fp32")
    other = made.model_copy(update={"latency": made.latency.model_copy(update={"batch": 1})})
    assert "latency is of " in made.difference(other) and "batch 4" in made.difference(other)
    with pytest.raises(StudyError, match="needs the device that it is of"):
        settings(budget=parse_budget(["8ms"]))


# --- the clock itself ---


def small(name, width=16):
    config = load_config(name)
    return with_widths(config, [width * (1 + i) for i in range(len(config.stages))])


FAMILIES = ["vmamba_tiny_s1l8", "mambaout_femto", "vim_tiny", "local_vssm_tiny", "quadmamba_lite"]


@pytest.mark.parametrize("name", [*FAMILIES, "efficient_vmamba_tiny", "plainmamba_l1"])
def test_pieces_keep_what_the_network_keeps(name):
    config = small(name)
    model = backbones.create(config).eval()
    whole = kept_bytes(model, model, torch.randn(1, 3, SIZE, SIZE))
    parts = sum(times * memory_of(piece) for piece, _, times in pieces(config, SIZE))
    assert parts == pytest.approx(whole, rel=ROUNDED)


def test_a_piece_computes_what_it_does_in_the_network():
    config = small("local_vssm_tiny")
    model = backbones.create(config).eval()
    x, _ = model.embed(torch.randn(1, 3, SIZE, SIZE))
    stem, *_, head = [piece for piece, _, _ in pieces(config, SIZE)]
    _, run, shape = stem.build()
    assert shape == (3, SIZE, SIZE) and run(torch.randn(2, *shape)).shape == (2, *x.shape[1:])
    assert head.grid == (2, 2)
    _, run, shape = head.build()
    assert run(torch.randn(2, *shape)).shape == (2, config.num_classes)


def test_times_are_positive_and_grow():
    on = this_device("cpu")
    config = small("mambaout_femto")
    block = next(piece for piece, _, _ in pieces(config, SIZE) if piece.part == "block")
    assert isinstance(block, Piece)
    narrow, wide = (time_of(block.at(width), on) for width in (16, 256))
    assert 0 < narrow < wide
    image = torch.randn(1, 3, SIZE, SIZE)
    assert fastest_ms(lambda x: x + 1, image, on) < wide


def test_memory_is_a_bound(monkeypatch):
    monkeypatch.setattr(meters, "_memories", {})
    made = study("1MiB")
    new = Planner("s", made, None).candidate()
    config = backbones.config.BackboneConfig.model_validate(dict(new.config))
    model = backbones.create(config).eval()
    kept = kept_bytes(model, model, torch.randn(1, 3, SIZE, SIZE))
    assert 0.95 * 2**20 <= new.measured["memory"] <= 2**20
    assert kept == pytest.approx(new.measured["memory"], rel=ROUNDED)


def test_the_benchmark_compares_sums_with_whole_networks(tmp_path, monkeypatch):
    script = Path(__file__).parents[3] / "benchmarks" / "latency_table.py"
    spec = importlib.util.spec_from_file_location("latency_table", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(timing, "LEAST_S", 0.002)
    words = "--space mambaout --budget 20MFLOPs --designs 3 --image-size 64 --results".split()
    report = module.main([*words, str(tmp_path)])
    assert len(report["rows"]) == 3 and report["pieces_timed"] > 8
    assert report["memory"]["largest_absolute_percent"] < 100 * ROUNDED
    (written,) = tmp_path.glob("latency_table_cpu_*.json")
    assert json.loads(written.read_text())["latency"] == report["latency"]
