"""From a search to a trained network in somebody else's code, by what is typed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from doubles import GRID
from safetensors.torch import load_file
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from backbones.dense import Pyramid
from nas.commands.main import main

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
schema: 1
dataset: digits
train_size: 64
val_size: 64
image_size: 16
stem_stride: 2
epochs: 1
threads: 1
"""
CLEAN = """
import sys, timm, torch
import backbones.timm_entry
model = timm.create_model("local-dir:shipped", pretrained=True, features_only=True).eval()
print([tuple(m.shape[1:]) for m in model(torch.zeros(1, 3, 64, 64))], "nas" in sys.modules)
"""
SIDE = 64


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Type a command in a folder of the test's own; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "tiny.yaml").write_text(RECIPE)

    def call(line):
        monkeypatch.setattr(sys, "argv", ["cli.py", *line.split()])
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, capsys.readouterr().err
        return capsys.readouterr().out

    return call


def killed(line, checkpoint):
    """Type a command in a process of its own, and kill that after its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *line.split()],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not checkpoint.exists():
        assert process.poll() is None, "it has ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def detector_learns(arch, weights):
    """Whether a detector's loss on boxes reaches the first weights of the trained network."""
    torch.manual_seed(0)
    options = {"channels": 16, "extra": "p6p7", "num_classes": 10}  # as the weights have
    pyramid = Pyramid(arch, weights=weights, **options)
    anchors = AnchorGenerator(tuple((16 * 2**i,) for i in range(4)), ((1.0,),) * 4)
    detector = RetinaNet(pyramid, 2, min_size=SIDE, max_size=SIDE, anchor_generator=anchors)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    boxes = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    loss = sum(detector([torch.rand(3, SIDE, SIDE)], boxes).values())
    loss.backward()
    first = next(pyramid.body.parameters())
    before = first.detach().clone()
    optimizer.step()
    return bool(loss.isfinite()) and not torch.equal(first, before)


@pytest.mark.chaos
def test_from_a_search_to_a_detector(typed, tmp_path):
    search = "search --space grid.yaml --budget 60MFLOPs --trials 2 --recipe tiny.yaml"
    typed(f"{search} --study ours --confirm none --device cpu --plain")
    said = typed("confirm ours --confirm 2x2 --plain --export best.yaml")
    assert "exported to best.yaml" in said
    typed("export best.yaml --timm shipped")
    clean = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLEAN], capture_output=True, text=True, check=True
    )
    assert clean.stdout.strip().endswith("False")

    train = "train best.yaml --data digits --epochs 2 --image-size 32 --batch-size 128 --threads 1"
    typed(f"{train} --plain --out whole")
    cut = f"{train} --plain --save-every 0 --out cut"
    killed(cut, tmp_path / "cut" / "checkpoint.pt")
    assert "test split: " in typed(cut)
    whole, again = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)

    weights = "--weights cut/weights.safetensors"
    found = json.loads(typed(f"evaluate best.yaml {weights} --data digits --sizes 32,48 --json"))
    result = json.loads((tmp_path / "cut" / "result.json").read_text())
    assert found["sizes"][0]["scores"] == result["test"]
    assert detector_learns("best.yaml", again)
