"""ONNX files give PyTorch's logits, or are not written."""

import sys

import numpy as np
import pytest
import torch
import yaml

import backbones
from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.export import onnx
from nas.export.onnx import write_onnx
from search_spaces import Band, SearchSpace


def network(mixer, stem="{kind: patchify, patch: 8}", **fields):
    config = yaml.safe_load(
        f"""
        schema: 1
        num_classes: 5
        image_size: 32
        stem: {stem}
        blocks: {{a: {{mixer: {mixer}}}}}
        stages: [{{width: 16, depth: 1, pattern: a}}]
        """
    )
    torch.manual_seed(0)
    return backbones.create(BackboneConfig.model_validate(config | fields)).eval()


FAMILIES = {
    "vim": {
        "mixer": "{kind: ssm, order: bidirectional, conv: causal, gate: scan, merge: mean}",
        "class_token": "middle",
        "position": "learned",
        "head": {"pool": "token"},
    },
    "efficient": {"mixer": "{kind: ssm, order: atrous, merge: mean}"},
    "mambaout": {"mixer": "gated_conv"},
    "vit": {"mixer": "{kind: attention, head_dim: 8}", "position": "learned"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_onnxruntime_gives_pytorchs_logits(family, tmp_path):
    import onnxruntime

    model = network(**FAMILIES[family])
    size = (40, 24)
    assert write_onnx(tmp_path / "a.onnx", model, size) < 1e-6
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    [image], [logits] = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape[1:], logits.name) == ("image", [3, *size], "logits")
    given = torch.randn(5, 3, *size)  # any number of images
    with torch.no_grad():
        expected = model(given).numpy()
    np.testing.assert_allclose(session.run(None, {"image": given.numpy()})[0], expected, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_a_file_of_another_size_has_the_same_nodes(tmp_path):
    import onnx as onnx_package

    model, kinds = network("{kind: ssm, order: cross}"), []
    for side in (32, 64):
        assert write_onnx(tmp_path / "a.onnx", model, (side, side)) < 1e-6
        kinds.append([node.op_type for node in onnx_package.load(tmp_path / "a.onnx").graph.node])
    assert kinds[0] == kinds[1]
    assert kinds[0].count("Scan") == 1


def test_an_order_that_depends_on_the_image_is_refused(tmp_path):
    model = network("{kind: ssm, order: quadtree}", stem="{kind: patchify, patch: 4}")
    with pytest.raises(StudyError, match=r"stages\.0 scans along a quadtree.*no fixed graph"):
        write_onnx(tmp_path / "a.onnx", model, (32, 32))
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_logits_is_not_left(tmp_path, monkeypatch):
    model = network("gated_conv")
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(StudyError, match=r"onnxruntime's logits are .* from PyTorch's at 32x32"):
        write_onnx(tmp_path / "a.onnx", model, (32, 32))
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(StudyError, match=r"--onnx needs onnxscript; install .*'scannas\[onnx\]'"):
        write_onnx(tmp_path / "a.onnx", network("gated_conv"), (32, 32))


def vit():
    """DeiT-Ti's blocks over patches, by the language's own attention."""
    return {
        "schema": 1,
        "stem": {"kind": "patchify", "patch": 16},
        "blocks": {"a": {"mixer": {"kind": "attention", "head_dim": 64}, "ffn": {"ratio": 4.0}}},
        "stages": [{"width": 192, "depth": 12, "pattern": "a"}],
        "position": "learned",
    }


def of_a_search():
    """A design as the space with fixed orders proposes it, fitted to a budget."""
    space, budget = SearchSpace.load("vmamba"), Band("flops", 0.95 * 4.5e9, 4.5e9)
    return space.build(space.sample(np.random.default_rng(0)), [budget])


MADE = {"vit": lambda: BackboneConfig.model_validate(vit()), "of a search": of_a_search}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vim_tiny", "mambaout_femto", *MADE])
def test_large_models_at_two_sizes(name, tmp_path):
    torch.manual_seed(0)
    model = backbones.create(MADE[name]() if name in MADE else name).eval()
    for size in ((224, 224), (192, 256)):
        write_onnx(tmp_path / "a.onnx", model, size)  # which checks the logits to 1e-4
