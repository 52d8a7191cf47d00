"""A training begins with a file's weights: own or released, at any size, for any classes."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import images, masked, recipe, tiny, trained

import backbones
from backbones.official import official_names
from nas.errors import StudyError, TrainingError
from nas.full_training.networks import find_network
from nas.full_training.run import RESULT, WEIGHTS, Update
from nas.full_training.weights import begin_from

STILL = {"lr": 1e-30, "epochs": 1, "warmup_epochs": 0}


def begun(arch, path, classes, side):
    """Return a network for so many classes, what it began as, and the keys that began afresh."""
    network = find_network(arch)
    model = network.build(num_classes=classes, image_size=side)
    return model, begin_from(model, path, network, side)


def test_training_begins_where_another_ended(tmp_path):
    arch, data = tiny(tmp_path), images(tmp_path / "images")
    first = trained(arch, data, tmp_path / "first")
    weights = tmp_path / "first" / WEIGHTS
    again = trained(arch, data, tmp_path / "again", recipe(**STILL), weights=weights)
    assert again.test == first.test
    with pytest.raises(TrainingError, match="finished training of other weights"):
        trained(arch, data, tmp_path / "again", recipe(**STILL))

    def kill(event):
        if isinstance(event, Update) and event.done == 2:
            raise KeyboardInterrupt

    how = {"asked": recipe(), "weights": weights, "save_every_s": 0}
    whole = trained(arch, data, tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        trained(arch, data, tmp_path / "cut", report=kill, **how)
    with pytest.raises(StudyError, match=r"belongs to another run \(other weights\)"):
        trained(arch, data, tmp_path / "cut", **(how | {"weights": None}))
    assert trained(arch, data, tmp_path / "cut", **how).test == whole.test
    assert not (tmp_path / "cut" / f"{RESULT}.part").exists()


def test_classifier_of_other_classes_begins_afresh(tmp_path):
    weights = tmp_path / "ten.safetensors"
    arch = tiny(tmp_path)
    save_file(find_network(arch).build(num_classes=10, image_size=32).state_dict(), weights)
    model, fresh = begun(arch, weights, 3, 32)
    assert fresh == ["head.fc.bias", "head.fc.weight"]
    given = load_file(weights)
    assert all(torch.equal(v, given[k]) for k, v in model.state_dict().items() if k not in fresh)
    assert begun(arch, weights, 10, 32)[1] == []


def test_weights_of_images_begin_a_training_of_tokens_and_the_other_way_round(tmp_path):
    arch, data = tiny(tmp_path), masked(tmp_path / "masked")
    images_known = find_network(arch).build(num_classes=2, image_size=32)
    save_file(images_known.state_dict(), tmp_path / "a.safetensors")
    trained(arch, data, tmp_path / "dense", recipe(**STILL), weights=tmp_path / "a.safetensors")
    given = load_file(tmp_path / "a.safetensors")
    learned = load_file(tmp_path / "dense" / WEIGHTS)
    assert torch.equal(learned["backbone.stem.conv1.weight"], given["stem.conv1.weight"])
    model, fresh = begun(arch, tmp_path / "dense" / WEIGHTS, 2, 32)
    assert fresh == ["head.fc.bias", "head.fc.weight"]
    assert torch.equal(model.state_dict()["stem.conv1.weight"], given["stem.conv1.weight"])


@pytest.mark.parametrize("arch", ["vim_tiny", "timm:test_vit"])
def test_positions_are_resized_to_the_images(arch, tmp_path):
    network = find_network(arch)
    save_file(network.build(num_classes=4, image_size=64).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(TrainingError, match=r"do not fit .* misshapen: .*pos_embed"):
        begun(arch, tmp_path / "w.safetensors", 4, 96)  # the file does not say its size
    facts = {"classes": "[[1, 2, 3, 4]]", "image_size": "64"}
    save_file(load_file(tmp_path / "w.safetensors"), tmp_path / "s.safetensors", metadata=facts)
    model, fresh = begun(arch, tmp_path / "s.safetensors", 4, 96)
    assert fresh == []
    assert model.pos_embed.shape[1] > load_file(tmp_path / "w.safetensors")["pos_embed"].shape[1]
    assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 4)


def test_released_weights_begin_a_training(tmp_path):
    model = backbones.create("mambaout_femto")
    sources = official_names(model.config).sources
    ours = model.state_dict()
    released = {
        s.keys[0]: ours[key].reshape(s.expected(tuple(ours[key].shape)))
        for key, s in sources.items()
    }
    torch.save({"model": released}, tmp_path / "released.pth")
    mine, fresh = begun("mambaout_femto", tmp_path / "released.pth", 5, 64)
    assert {key.rpartition(".")[0] for key in fresh} == {"head.fc"}
    assert all(torch.equal(v, ours[k]) for k, v in mine.state_dict().items() if k not in fresh)


def test_files_that_do_not_fit_are_said(tmp_path):
    arch, data = tiny(tmp_path), images(tmp_path / "images")
    with pytest.raises(TrainingError, match=r"cannot read .*gone.*check --weights"):
        trained(arch, data, tmp_path / "out", weights=tmp_path / "gone.safetensors")
    other = backbones.create("mambaout_femto", num_classes=2).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match=r"do not fit tiny \(\d+ left over: .*misshapen: "):
        trained(arch, data, tmp_path / "out", weights=tmp_path / "other.safetensors")
