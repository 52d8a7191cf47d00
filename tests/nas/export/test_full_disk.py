"""A disk that is full is said in one line, and no half of a file is left."""

import resource
from contextlib import contextmanager

import pytest
import torch
import yaml

import backbones
from backbones.checkpoints import convert_checkpoint, save_weights
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.official import official_names
from nas.errors import StudyError
from nas.export.document import write_export
from nas.export.onnx import write_onnx
from nas.export.ship import load
from nas.export.timm_folder import write_timm

DESIGN = """
schema: 1
num_classes: 5
image_size: 32
stem: {kind: patchify, patch: 8}
blocks: {a: {mixer: gated_conv}}
stages: [{width: 32, depth: 1, pattern: a}]
"""


@contextmanager
def full(most=4096):
    """Let no file of this process grow beyond so many bytes: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def config():
    return BackboneConfig.model_validate(yaml.safe_load(DESIGN))


def onnx(folder, config):
    write_onnx(folder / "a.onnx", backbones.create(config).eval(), (32, 32))


def timm(folder, config):
    (folder.parent / "a.yaml").write_text(DESIGN)
    write_timm(folder / "a", load(str(folder.parent / "a.yaml")))


def document(folder, config):
    facts = {"image_size": 32, "convention": "fvcore", "source": {}, "recipe": {}}
    write_export(folder / "a.yaml", config, **facts, environment={}, weights_seed=0)


@pytest.mark.parametrize("write", [onnx, timm, document], ids=lambda write: write.__name__)
def test_exports_say_that_they_cannot_be_written(tmp_path, config, write):
    place = tmp_path / "place"
    place.mkdir()
    with full(), pytest.raises(StudyError, match=r"cannot write '.*place/a.*; choose another --"):
        write(place, config)
    assert list(place.iterdir()) == []


def test_converted_weights_are_whole_or_not_there(tmp_path):
    model = backbones.create("mambaout_femto")
    out = tmp_path / "out.safetensors"
    sources = official_names(model.config).sources
    ours = model.state_dict()
    released = {
        s.keys[0]: ours[key].reshape(s.expected(tuple(ours[key].shape)))
        for key, s in sources.items()
    }
    torch.save(released, tmp_path / "w.pth")
    with full(), pytest.raises(ConfigError, match=r"cannot write .*out.safetensors.*--out"):
        convert_checkpoint(tmp_path / "w.pth", "mambaout_femto", out)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_weights_that_were_there_stay(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.zeros(4)})
    before = path.read_bytes()
    with full(), pytest.raises(OSError):
        save_weights(path, {"a": torch.zeros(4096)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
