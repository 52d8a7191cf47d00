"""Exports rebuild the identical model in a fresh interpreter, or are not written."""

import pytest
import yaml

import backbones
from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.export.config import verify_export, write_export

TINY = BackboneConfig.from_yaml(
    """
    schema: 1
    num_classes: 5
    blocks:
      q: {mixer: {kind: ssm, order: {kind: quadtree, levels: [2, 4]}}, ffn: {ratio: 2.0}}
      g: {mixer: gated_conv}
    stages:
    - {width: 8, depth: 2, pattern: qg}
    - {width: 16, depth: 1, pattern: g, downsample: conv3x3}
    """
)


def export(path, **changes):
    facts = {"source": {"trial": 3}, "recipe": {"epochs": 1}, "environment": {"backend": "numba"}}
    return write_export(path, TINY, image_size=32, convention="fvcore", **(facts | changes))


def test_export_states_the_built_models_cost_and_rebuilds_with_equal_logits(tmp_path):
    path = export(tmp_path / "front" / "a.yaml", weights_seed=7)
    document = yaml.safe_load(path.read_text())
    model = backbones.create(path)
    assert document["cost"]["params"] == sum(p.numel() for p in model.parameters())
    assert document["fingerprint"] == TINY.fingerprint()
    assert document["source"] == {"trial": 3}
    assert backbones.load_config(path) == TINY
    assert verify_export(path).logits == document["weights"]["logits_sha256"]


def test_file_that_was_changed_is_detected(tmp_path):
    path = export(tmp_path / "a.yaml")
    document = yaml.safe_load(path.read_text())
    document["config"]["stages"][0]["width"] = 16
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(StudyError, match="fingerprint"):
        verify_export(path)


def test_unwritable_place_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write"):
        export(tmp_path / "file" / "a.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
