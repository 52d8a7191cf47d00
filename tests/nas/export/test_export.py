"""Exports rebuild the identical model in a fresh interpreter, or are not written."""

import pytest
import yaml
from doubles import CONDITIONAL, FakeProxy, new_study, settings

import backbones
from backbones.config import BackboneConfig
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StudyError
from nas.executors.inline import InlineExecutor
from nas.export import document
from nas.export.document import write_export
from nas.export.rebuild import verify_export
from nas.export.trials import export_trials
from nas.report.studies import warnings
from nas.store import queries

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


def test_other_weights_in_the_way_are_refused_and_kept(tmp_path):
    trained = tmp_path / "a.safetensors"
    trained.write_bytes(b"hours of training")
    with pytest.raises(StudyError, match=r"a\.safetensors' exists and holds other weights"):
        export(tmp_path / "a.yaml", weights_seed=7)
    assert trained.read_bytes() == b"hours of training"
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_failed_proof_leaves_what_an_earlier_export_wrote(tmp_path, monkeypatch):
    path = export(tmp_path / "a.yaml", weights_seed=7)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def refuse(path):
        raise StudyError("rebuilt model differs")

    with monkeypatch.context() as patched:
        patched.setattr(document, "verify_export", refuse)
        with pytest.raises(StudyError, match="differs"):
            export(path, weights_seed=7, source={"trial": 4})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    export(path, weights_seed=7, source={"trial": 4})  # the same weights may be written again
    assert yaml.safe_load(path.read_text())["source"] == {"trial": 4}


def test_study_of_rectangular_images_is_stored_shown_and_exported(sqlite_url, clock, tmp_path):
    study = new_study(
        sqlite_url, settings(CONDITIONAL, trials=1, image_size=(160, 320)), clock=clock
    )
    run(study, InlineExecutor(FakeProxy()))
    study.close()
    found = queries.trial("s", sqlite_url, 0)
    assert found["image_size"] == (160, 320)
    ((_, path),) = export_trials("s", sqlite_url, out=tmp_path / "wide.yaml", weights=True)
    document = yaml.safe_load(path.read_text())
    assert document["cost"]["image_size"] == [160, 320]
    assert document["cost"]["flops"] == backbones.cost(path, (160, 320)).flops
    (caution, *_) = warnings(queries.summary("s", sqlite_url)["study"])
    assert caution.plain.startswith("images of 160x320 px make maps of 40 x 80 tokens, 3,200;")
    again = open_study("s", sqlite_url, clock=clock)
    assert again.settings.image_size == (160, 320)
    again.close()
