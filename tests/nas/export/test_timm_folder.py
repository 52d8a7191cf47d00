"""A folder that timm loads where nothing of a search is imported."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import backbones
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from nas.errors import StudyError
from nas.export.document import write_export
from nas.export.ship import load
from nas.export.timm_folder import write_timm

TINY = BackboneConfig.from_yaml(
    """
    schema: 1
    num_classes: 5
    image_size: 32
    stem: {kind: overlap, stride: 2}
    blocks:
      s: {mixer: {kind: ssm, order: hilbert}, ffn: {ratio: 2.0}}
      g: {mixer: gated_conv}
    stages:
    - {width: 8, depth: 2, pattern: sg}
    - {width: 16, depth: 1, pattern: g, downsample: conv3x3}
    """
)
SOURCE = {
    "study": "ours",
    "trial": 3,
    "role": "candidate",
    "label": None,
    "score": 0.875,
    "seed": 4,
    "space": "tiny",
    "choices": {"depth": 2},
    "verdict": ["trial 3 against a: better, +2.00 points (95 % interval +1.00 to +3.00)"],
}


@pytest.fixture
def exported(tmp_path):
    return write_export(
        tmp_path / "best.yaml",
        TINY,
        image_size=32,
        convention="fvcore",
        source=SOURCE,
        recipe={"data": "scenes", "epochs": 3},
        environment={},
    )


def test_timm_loads_the_folder_without_nas(exported, tmp_path):
    model = backbones.create(exported)
    save_file(model.state_dict(), tmp_path / "trained.safetensors")
    write_timm(tmp_path / "to timm", load(str(exported), tmp_path / "trained.safetensors"))
    torch.save(torch.ones(1, 3, 32, 32), tmp_path / "image.pt")
    code = """
import sys, torch, timm
import backbones.timm_entry
name = "local-dir:to timm"
image = torch.load("image.pt")
torch.save(timm.create_model(name, pretrained=True).eval()(image), "logits.pt")
maps = timm.create_model(name, pretrained=True, features_only=True).eval()(image)
few = timm.create_model(name, pretrained=True, num_classes=2, in_chans=1).eval()(image[:, :1])
print([tuple(m.shape) for m in maps], tuple(few.shape), "nas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[(1, 8, 16, 16), (1, 16, 8, 8)] (1, 2) False", done.stderr
    with torch.no_grad():
        expected = model.eval()(torch.ones(1, 3, 32, 32))
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_the_card_says_where_the_design_and_its_weights_come_from(exported, tmp_path):
    folder = write_timm(tmp_path / "made", load(str(exported)))
    card = (folder / "README.md").read_text()
    for line in (
        "license: apache-2.0",
        f"- **Fingerprint:** {TINY.fingerprint()}",
        "- **Weights:** initial, seed 4: not trained",
        "- **Found by:** study ours, trial 3 (candidate), in space tiny",
        "- **Proxy score:** 0.8750 of a scaled-down network (see below)",
        "  - epochs: 3",
        "  - trial 3 against a: better, +2.00 points (95 % interval +1.00 to +3.00)",
        'model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)',
    ):
        assert line in card.splitlines(), card
    stored = json.loads((folder / "config.json").read_text())
    assert stored["architecture"] == "scannas"
    assert BackboneConfig.model_validate(stored["model_args"]["arch"]) == TINY


def test_released_weights_keep_their_license(tmp_path):
    model = backbones.create("mambaout_femto")
    save_file(model.state_dict(), tmp_path / "femto.safetensors")
    folder = write_timm(tmp_path / "femto", load("mambaout_femto", tmp_path / "femto.safetensors"))
    assert "license: apache-2.0" in (folder / "README.md").read_text()


def test_weights_that_train_wrote_bring_their_classes_and_size(tmp_path):
    plain = TINY.model_copy(update={"position": "learned"})  # a table of 24 x 24 tokens
    (tmp_path / "plain.yaml").write_text(plain.to_yaml())
    model = backbones.create(plain, num_classes=2, image_size=48)
    facts = {"classes": '["cat", "dog"]', "image_size": "48"}
    save_file(model.state_dict(), tmp_path / "w.safetensors", metadata=facts)
    cargo = load(str(tmp_path / "plain.yaml"), tmp_path / "w.safetensors")
    assert cargo.size == (48, 48)
    folder = write_timm(tmp_path / "made", cargo)
    stored = json.loads((folder / "config.json").read_text())
    assert stored["num_classes"] == 2
    assert stored["pretrained_cfg"]["label_names"] == ["cat", "dog"]


def test_weights_of_another_design_list_every_key(exported, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"do not fit the model \(\d+ missing: .*1 left over: a"):
        load(str(exported), tmp_path / "a.safetensors")


def test_an_unwritable_place_is_an_error_that_leaves_nothing(exported, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write"):
        write_timm(tmp_path / "file" / "made", load(str(exported)))
