"""Latency and memory over sizes, beside models of timm."""

import json
import re
from dataclasses import asdict

import pytest

from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.report.architectures import profile
from nas.report.drawings.sweeps import draw_sweep
from nas.report.sweep import Point, crossings, parse_batches, parse_sweep, sweep

TINY = """
schema: 1
num_classes: 5
image_size: 64
stem: {kind: patchify, patch: 16}
blocks: {a: {mixer: {kind: ssm, order: cross}}}
stages: [{width: 16, depth: 1, pattern: a}]
position: learned
"""


def test_sizes_rise_by_the_root_of_two_and_end_where_asked():
    sides = [224, 320, 448, 640, 896, 1024]
    assert parse_sweep("224:1024") == [(side, side) for side in sides]
    assert parse_sweep("224,512x2048") == [(224, 224), (512, 2048)]
    assert parse_sweep("64:64") == [(64, 64)]
    for text in ("1024:224", "a", "224:", "16,32", "512,224", "1x2x3", "0:64"):
        with pytest.raises(StudyError, match=f"--sweep '{text}' names no sizes"):
            parse_sweep(text)
    with pytest.raises(StudyError, match="--batches '0' is no list of numbers"):
        parse_batches("0")


def points(name, times):
    return [
        Point(model=name, mode="eager", size=(s, s), batch=1, latency_ms=t)
        for s, t in zip((100, 200, 400), times)
    ]


@pytest.mark.parametrize(
    "ours, side, says",
    [
        ((2.0, 2.0, 2.0), 141, "is faster from 141 px on than"),
        ((0.5, 0.5, 0.5), 0, "is faster at every size than"),
        ((9.0, 9.0, 17.0), None, "is not faster at the largest size than"),
    ],
)
def test_the_crossing_is_where_the_times_are_equal(ours, side, says):
    # The other model takes 1, 4 and 16 ms: 2 ms at the geometric mean of 100 and 200 pixels.
    measured = points("a", ours) + points("b", (1.0, 4.0, 16.0))
    [crossing] = crossings(measured, ["a", "b"])
    assert crossing["sentence"] == f"a {says} b (eager, batch 1)"
    assert crossing["side"] == (side if side is None else pytest.approx(side, abs=1))


def test_a_sweep_measures_both_models_at_every_size(tmp_path):
    (tmp_path / "tiny.yaml").write_text(BackboneConfig.from_yaml(TINY).to_yaml())
    report = sweep(
        str(tmp_path / "tiny.yaml"),
        [(32, 32), (32, 64)],
        batches=(1, 2),
        against=("test_vit", "test_convnext"),
        device="cpu",
    )
    assert len(report["points"]) == 3 * 2 * 2
    assert all(p["latency_ms"] > 0 and p["failed"] is None for p in report["points"])
    assert [m["model"] for m in report["models"]] == ["tiny", "test_vit", "test_convnext"]
    assert all(m["flops"] > 0 and m["params"] > 0 for m in report["models"])
    assert {c["against"] for c in report["crossings"]} == {"test_vit", "test_convnext"}
    json.dumps(report)
    picture = draw_sweep(report, tmp_path / "sweep.svg").read_text()
    assert "Sweep of tiny, test_vit, test_convnext" in picture


def test_times_are_written_as_numbers_on_the_picture(tmp_path):
    measured = [asdict(p) for p in points("a", (17.5, 30.0, 57.0))]
    report = {"device": "cpu", "models": [{"model": "a"}], "points": measured, "crossings": []}
    picture = draw_sweep(report, tmp_path / "sweep.svg").read_text()
    said = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    assert {"20", "30", "40"} <= set(said)
    assert "mathdefault" not in picture
    assert "peak memory of the process, MB" in said


def test_unknown_models_and_devices_are_named(tmp_path):
    (tmp_path / "tiny.yaml").write_text(BackboneConfig.from_yaml(TINY).to_yaml())
    arch = str(tmp_path / "tiny.yaml")
    with pytest.raises(StudyError, match=r"--against 'deit_smal' is no model of timm; did you"):
        sweep(arch, [(32, 32)], against=("deit_smal",), device="cpu")
    with pytest.raises(StudyError, match="--device 'tpu' is not here; use cpu"):
        sweep(arch, [(32, 32)], device="tpu")


def test_profile_says_where_attention_would_begin_to_pay():
    report = profile("vmamba_tiny_s1l8")
    rows = [(r["tokens"], r["width"], r["long"]) for r in report["sequences"]]
    assert rows == [(3136, 96, True), (784, 192, False), (196, 384, False), (49, 768, False)]
    # Two blocks: four projections, then the two products of tokens (MambaOut, equation 6).
    assert report["sequences"][0]["attention"] == 2 * (4 * 3136 * 96**2 + 2 * 3136**2 * 96)
    middle = profile("vim_tiny")["sequences"]
    assert [(r["tokens"], r["long"]) for r in middle] == [(197, False)]
