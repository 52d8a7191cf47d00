"""Weights are scored at any size, and refused where they are another network's."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import images, masked, recipe, tiny, trained

import backbones
from backbones.errors import ConfigError
from backbones.official import official_names
from nas.errors import DataError, TrainingError
from nas.full_training.evaluation import evaluate, parse_sizes
from nas.full_training.networks import find_network
from nas.full_training.processes import Team
from nas.full_training.run import WEIGHTS
from nas.full_training.samples import Data, usual_task


@pytest.fixture
def arch(tmp_path):
    return tiny(tmp_path)


def scored(arch, data, weights, sizes=(), val_share=0.2):
    asked = Data(data, usual_task(data), val_share=val_share)
    return evaluate(find_network(arch), asked, weights, sizes, team=Team()).sizes


def test_weights_score_what_their_training_said(arch, tmp_path):
    data = images(tmp_path / "images")
    done = trained(arch, data, tmp_path / "out")
    rows = scored(arch, data, tmp_path / "out" / WEIGHTS, [32, 48])
    assert rows[0].scores == done.test
    assert [row.image_size for row in rows] == [32, 48]
    for row in rows:
        assert row.scores["top1"].low <= row.scores["top1"].value <= row.scores["top1"].high
        assert row.images_s > 0
        assert row.peak_mib > 0


def test_dense_weights_score_at_two_sizes(arch, tmp_path):
    data = masked(tmp_path / "masked")
    done = trained(arch, data, tmp_path / "out")
    rows = scored(arch, data, tmp_path / "out" / WEIGHTS, [32, 64])
    assert rows[0].scores == done.test
    assert 0 < rows[1].scores["miou"].value < 1
    with pytest.raises(TrainingError, match=r"image size 30 is no multiple of 4.*use 28 or 32"):
        scored(arch, data, tmp_path / "out" / WEIGHTS, [30])


def test_timm_weights_move_to_another_size(tmp_path):
    data = images(tmp_path / "images")
    arch = "timm:test_vit"
    trained(arch, data, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    rows = scored(arch, data, tmp_path / "out" / WEIGHTS, [32, 64])
    assert [row.image_size for row in rows] == [32, 64]


def test_released_weights_load_by_the_papers_keys(tmp_path):
    model = backbones.create("mambaout_femto", num_classes=2)
    ours = model.state_dict()
    sources = official_names(model.config).sources
    released = {
        s.keys[0]: ours[key].reshape(s.expected(tuple(ours[key].shape)))
        for key, s in sources.items()
    }
    torch.save({"model": released}, tmp_path / "released.pth")
    save_file(ours, tmp_path / "ours.safetensors")
    data = images(tmp_path / "images", 40)
    rows = [
        scored("mambaout_femto", data, tmp_path / name, [64])[0].scores
        for name in ("released.pth", "ours.safetensors")
    ]
    assert rows[0] == rows[1]
    assert find_network("mambaout_femto").crop_pct == 1.0
    assert find_network("vmamba_tiny_s1l8").crop_pct == 224 / 256


def test_every_key_that_does_not_fit_is_listed(arch, tmp_path):
    data = images(tmp_path / "images")
    trained(arch, data, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    weights = load_file(tmp_path / "out" / WEIGHTS)
    names = sorted(weights)
    broken = {key: value for key, value in weights.items() if key not in names[:2]}
    broken |= {"odd.weight": torch.zeros(1), names[3]: torch.zeros(7)}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(TrainingError) as caught:
        scored(arch, data, tmp_path / "broken.safetensors")
    said = str(caught.value)
    assert f"2 missing: {names[0]}, {names[1]}" in said
    assert "1 left over: odd.weight" in said
    assert f"1 misshapen: {names[3]} (7,), expected" in said


def test_weights_of_other_classes_are_refused(arch, tmp_path):
    trained(arch, images(tmp_path / "a"), tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    with pytest.raises(TrainingError, match=r"answer with \[2\] classes, the data has \[10\]"):
        scored(arch, "digits", tmp_path / "out" / WEIGHTS)


def test_mistakes_are_named(arch, tmp_path):
    data = images(tmp_path / "images")
    with pytest.raises(TrainingError, match="tiny has no weights of its own; give --weights FILE"):
        scored(arch, data, None)
    with pytest.raises(TrainingError, match=r"no file .*gone.safetensors"):
        scored(arch, data, tmp_path / "gone.safetensors")
    with pytest.raises(
        TrainingError, match=r"timm has no model 'resnet5'; did you mean 'timm:resnet"
    ):
        find_network("timm:resnet5")
    with pytest.raises(ConfigError, match="did you mean 'mambaout_femto'"):
        find_network("mambaout_fento")
    with pytest.raises(DataError, match="unknown dataset 'digit'; did you mean 'digits'"):
        usual_task("digit")
    with pytest.raises(TrainingError, match="sizes '224,big' are no sides in pixels"):
        parse_sizes("224,big")
    assert parse_sizes("224, 288") == [224, 288]


def test_data_set_that_is_not_installed_says_what_to_install(arch, tmp_path):
    asked = Data("hfds/mnist", "classify", download=True)
    with pytest.raises(DataError, match=r"needs a package .*pip install 'scannas\[hub\]'"):
        evaluate(find_network(arch), asked, None, [32], team=Team())
