"""What a network is said to look at is what it does look at."""

import base64
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import backbones
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from kernels import cross_scan
from kernels.s6.call import ScanCall
from nas.errors import StudyError
from nas.report.inspection.page import inspect, write_inspection
from nas.report.inspection.reach import SHARES, reach
from nas.report.inspection.scans import attention_row, record
from nas.report.inspection.subjects import as_input, sample_images, trained, untrained

SIZE = 32
QUADTREE = {"kind": "ssm", "order": {"kind": "quadtree", "levels": [2, 4]}}


def network(mixer, patch=4, **fields):
    """One stage of two blocks of one mixer on an 8 x 8 map of patches."""
    return BackboneConfig.model_validate(
        {
            "schema": 1,
            "stem": {"kind": "patchify", "patch": patch},
            "blocks": {"a": {"mixer": mixer}},
            "stages": [{"width": 16, "depth": 2, "pattern": "a"}],
            "num_classes": 5,
            "image_size": SIZE,
            **fields,
        }
    )


def noise(count=2, side=SIZE):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_reach_of_no_exchange_between_tokens_is_the_patch():
    found = reach(untrained(network({"kind": "identity"}), 0), noise())
    rows, columns = np.nonzero(found.pixels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 19, 16, 19)
    assert found.center == (18.0, 18.0)
    assert found.areas[0.99] == pytest.approx(16 / SIZE**2)
    assert found.pixels.max() == 1


def test_reach_of_a_convolution_is_its_kernel_twice():
    found = reach(untrained(network({"kind": "conv", "kernel": 3}), 0), noise(4))
    rows, columns = np.nonzero(found.pixels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 27, 8, 27)
    areas = [found.areas[share] for share in SHARES]
    assert areas == sorted(areas) and areas[-1] <= (20 / SIZE) ** 2


def test_reach_of_one_route_by_rows_ends_with_the_token():
    config = network({"kind": "ssm", "order": "raster", "conv": None})
    found = reach(untrained(config, 0), noise(4))
    assert found.pixels[:20, :20].any() and not found.pixels[20:].any()
    assert not found.pixels[16:20, 20:].any()


def test_weights_of_a_file_are_those_that_are_looked_at(tmp_path):
    config = network({"kind": "ssm", "order": "cross"}, num_classes=7)
    model = untrained(config, 5)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    # The classifier is the file's, whatever the config says.
    loaded = trained(network({"kind": "ssm", "order": "cross"}), tmp_path / "w.safetensors")
    here = reach(loaded, noise()).pixels
    assert np.array_equal(here, reach(model, noise()).pixels)
    assert not np.array_equal(here, reach(untrained(config, 6), noise()).pixels)
    with pytest.raises(StudyError, match="does not fit"):
        trained(network({"kind": "ssm", "order": "raster"}), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="no file"):
        trained(config, tmp_path / "ghost.safetensors")


@pytest.mark.parametrize("order", [None, torch.randperm(9)[:7].expand(2, 7)])
def test_attention_is_the_derivative_of_the_scan(order):
    draws = torch.Generator().manual_seed(1)
    u = torch.randn(2, 9, 3, generator=draws, dtype=torch.float64).requires_grad_()
    delta, B, C = (torch.randn(2, 2, 9, n, generator=draws, dtype=torch.float64) for n in (3, 4, 4))
    A = -torch.rand(2, 3, 4, generator=draws, dtype=torch.float64)
    bias = torch.randn(2, 3, generator=draws, dtype=torch.float64)
    table = None if order is None else order.int()
    call = ScanCall(u, delta, A, B, C, None, None, bias, table, True, "none")
    y = cross_scan(
        u, delta, A, B, C, orders=table, delta_bias=bias, delta_softplus=True, merge="none",
        backend="reference",
    )  # fmt: skip
    for token in (0, 4, 8):
        by_channel = [
            torch.autograd.grad(y[1, 1, token, d], u, retain_graph=True)[0][1, :, d]
            for d in range(3)
        ]
        expected = torch.stack(by_channel).abs().mean(0).float()
        found = attention_row(ScanCall(*(_detached(v) for v in call)), 1, 1, token)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def _detached(value):
    return value.detach() if isinstance(value, torch.Tensor) else value


def test_map_of_one_route_by_rows_is_causal_along_the_row():
    (scan, _) = record(untrained(network({"kind": "ssm", "order": "raster"}), 0), noise())
    assert (scan.block, scan.grid, scan.routes) == ("stage 1, block 1", (8, 8), 1)
    found = scan.attended(0, 8 * 4 + 3)[0].ravel()
    assert (found[: 8 * 4 + 4] > 0).all() and not found[8 * 4 + 4 :].any()


@pytest.mark.parametrize(
    "order",
    [
        *("bidirectional", "cross", "snake", "hilbert", "atrous", "quadtree_official"),
        {"kind": "quadtree", "levels": [2, 4]},
        {"kind": "window", "routes": ["h", "w2_flip"]},
    ],
    ids=str,
)
def test_what_a_token_takes_is_what_the_route_has_visited(order):
    """Two orders of the same tokens: what is before a token in one route is read, no more."""
    from nas.report.drawings.orders import visited

    config = network({"kind": "ssm", "order": order})
    (scan, _) = record(untrained(config, 0), noise(1))
    token = 8 * 3 + 5
    found = scan.attended(0, token).reshape(scan.routes, -1)
    assert (found[:, token] > 0).any()
    order = config.blocks["a"].mixer.order
    if order.learned:
        walked = scan.windows[0]
        assert found[0].any() and len(walked.unique()) == 7
        return
    for weights, steps in zip(found, visited(order, (8, 8)).steps):
        place = np.flatnonzero(steps == token)
        before = steps[: place[0] + 1] if len(place) else []
        assert set(np.flatnonzero(weights)) == set(before)


def test_causal_convolution_shift_gate_and_class_token_are_looked_through():
    shift = {"direction": "omni", "fraction": 4, "blocks": "all"}
    for mixer in (
        {"kind": "ssm", "order": "cross", "shift": shift, "gate": "output"},
        {"kind": "ssm", "order": "bidirectional", "conv": {"kernel": 4, "kind": "causal"}},
    ):
        (scan, _) = record(untrained(network(mixer), 0), noise(1))
        maps = scan.attended(0, 27)
        assert maps.shape == (scan.routes, 8, 8) and all(m.ravel()[27] > 0 for m in maps)
    vim = backbones.load_config("vim_tiny")
    scans = record(untrained(vim, 0), noise(1, 64))
    assert len(scans) == 24 and scans[0].grid == (4, 4)
    first, back = scans[0].attended(0, 6).reshape(2, -1)
    assert set(np.flatnonzero(first)) == set(range(7))
    assert set(np.flatnonzero(back)) == set(range(6, 16))


@pytest.mark.parametrize("mixer", [{"kind": "attention", "head_dim": 8}, {"kind": "gated_conv"}])
def test_network_without_a_scan_has_no_maps(mixer):
    assert record(untrained(network(mixer), 0), noise(1)) == []


def test_recording_leaves_the_network_as_it_was():
    model = untrained(network(QUADTREE), 0)
    before = model(noise())
    record(model, noise())
    assert torch.equal(model(noise()), before)
    assert "lay_out" not in vars(model.stages[0].blocks[0].mixer.layout)


def test_images_are_files_and_folders_or_two_photographs(tmp_path):
    names, photos = sample_images([], 24)
    assert names == ["china.jpg", "flower.jpg"] and photos.shape == (2, 3, 24, 24)
    assert 0 <= photos.min() and photos.max() <= 1 and photos.std() > 0.1
    gray = Image.fromarray(np.full((40, 30), 128, np.uint8))
    for name in ("b.png", "a.jpg", "note.txt"):
        (tmp_path / name).write_text("") if name == "note.txt" else gray.save(tmp_path / name)
    names, photos = sample_images([tmp_path, tmp_path / "b.png"], 24)
    assert names == ["a.jpg", "b.png", "b.png"]
    assert photos[1].mean() == pytest.approx(128 / 255, abs=1e-3)
    assert as_input(photos, 1).shape == (3, 1, 24, 24)
    for wrong, says in (
        (tmp_path / "ghost", "no image"),
        (tmp_path / "note.txt", "cannot read image"),
    ):
        with pytest.raises(StudyError, match=says):
            sample_images([wrong], 24)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="holds no images"):
        sample_images([tmp_path / "empty"], 24)


def test_page_holds_its_pictures_and_keeps_names_text(tmp_path):
    arch, hostile = tmp_path / "mine.yaml", tmp_path / "<img src=x onerror=alert(1)>.png"
    arch.write_text(network(QUADTREE).to_yaml())
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(hostile)
    weights = tmp_path / "w.safetensors"
    save_file(untrained(network(QUADTREE), 1).state_dict(), weights)
    found = inspect(str(arch), weights=weights, images=[hostile], image_size=SIZE)
    page, *pictures = write_inspection(found, tmp_path / "out" / "p.html", tmp_path / "png")
    assert [p.stem for p in pictures] == [
        "receptive-field", "scan-stage-1-block-1", "quadtree-partitions",
    ]  # fmt: skip
    text = page.read_text()
    assert "<script" not in text and "<img src=x" not in text and "&lt;img src=x" in text
    assert "after training" in text and "default-src 'none'" in text
    shown = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', text)
    assert len(shown) == 3 and all(len(said) > 60 for _, said in shown)
    assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in shown)
    with pytest.raises(StudyError, match="cannot write"):
        write_inspection(found, weights / "p.html", None)
