"""A training ends the same however often it was interrupted, and says what it has seen."""

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small import SIDE, images, masked, recipe, tiny, trained
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nas.errors import DataError, StudyError, TrainingError
from nas.full_training import run
from nas.full_training.run import CHECKPOINT, RESULT, WEIGHTS, Epoch, Update
from nas.study.outcomes import NanLoss


class Killed(BaseException):
    """Stands for the end of the process: nothing that runs may catch it."""


@pytest.fixture
def arch(tmp_path):
    return tiny(tmp_path)


@pytest.fixture
def data(tmp_path):
    return images(tmp_path / "images")


@pytest.fixture
def plenty(tmp_path):
    """Enough that the command's default share for validation is a split."""
    return images(tmp_path / "plenty", count=48)


def same_weights(one, other):
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_training_learns_and_writes_what_it_says(arch, data, tmp_path):
    events = []
    asked = recipe(
        epochs=6, batch_size=4, mixup=0, cutmix=0, auto_augment=None, erase=0, lr=1e-2, lr_batch=4
    )
    done = trained(arch, data, tmp_path / "out", asked, events.append)
    assert done.test["top1"].value >= 0.8
    assert done.test["top1"].low < done.test["top1"].value <= done.test["top1"].high
    assert [e.epoch for e in events if isinstance(e, Epoch)] == list(range(1, 7))
    assert sum(isinstance(e, Update) for e in events) == done.updates
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        CHECKPOINT,
        RESULT,
        WEIGHTS,
        "recipe.yaml",
    }
    board = EventAccumulator(str(tmp_path / "out")).Reload()
    assert len(board.Scalars("validation/top1")) == 6
    assert len(board.Scalars("lr")) == done.updates


def test_finished_training_is_not_tested_again(arch, data, tmp_path, monkeypatch):
    first = trained(arch, data, tmp_path / "out")
    monkeypatch.setattr(run, "_Run", None)
    assert trained(arch, data, tmp_path / "out") == first


def test_finished_training_of_another_kind_is_refused(arch, data, tmp_path):
    trained(arch, data, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"finished training of other recipe; choose another"):
        trained(arch, data, tmp_path / "out", recipe(lr=1.0))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_interrupted_training_ends_with_the_same_bits(arch, data, tmp_path, accumulate):
    whole = trained(arch, data, tmp_path / "whole", accumulate=accumulate)

    for at in range(1, whole.updates + 1):  # the checkpoint before the kill is of every update

        def kill(event, at=at):
            if isinstance(event, Update) and event.done == at:
                raise Killed

        with pytest.raises(Killed):
            trained(
                arch, data, tmp_path / "cut", report=kill, accumulate=accumulate, save_every_s=0
            )
    cut = trained(arch, data, tmp_path / "cut", accumulate=accumulate, save_every_s=0)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert cut.test == whole.test
    assert [dataclasses.replace(e, seconds=0) for e in cut.history] == [
        dataclasses.replace(e, seconds=0) for e in whole.history
    ]


def test_global_generators_are_left_as_they_were(arch, data, tmp_path):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    trained(arch, data, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_loader_processes_change_nothing(arch, data, tmp_path):
    asked = recipe(epochs=1, warmup_epochs=0)
    trained(arch, data, tmp_path / "none", asked)
    trained(arch, data, tmp_path / "two", asked, workers=2)
    assert same_weights(tmp_path / "none", tmp_path / "two")


def test_seeds_and_epochs_draw_anew(arch, data, tmp_path):
    from nas.full_training.loaders import Order
    from nas.full_training.processes import Team

    samples = range(40)
    order = Order(samples, recipe(), 0, Team())
    other = Order(samples, recipe(), 1, Team())
    places = [list(o.from_step(e, 0)) for o, e in ((order, 0), (order, 1), (other, 0))]
    assert len({str(p) for p in places}) == 3
    assert places[0][2:] == list(order.from_step(0, 2))
    halves = [Order(samples, recipe(), 0, Team(rank, 2)) for rank in (0, 1)]
    seen = [{place.image for batch in o.from_step(0, 0) for place in batch} for o in halves]
    assert not seen[0] & seen[1]


def test_repeated_images_return_within_an_epoch():
    from nas.full_training.loaders import Order
    from nas.full_training.processes import Team

    order = Order(range(48), recipe(repeats=3), 0, Team())
    places = [place for batch in order.from_step(0, 0) for place in batch]
    assert len({p.image for p in places}) == len(places) / 3
    assert len({p.seed for p in places}) == len(places)


def test_loss_that_is_none_stops_and_names_the_images(arch, data, tmp_path):
    asked = recipe(lr=1e30, lr_batch=1, clip_grad=None, warmup_epochs=0)
    with pytest.raises(NanLoss, match=r"in epoch 1, update \d; its images: .*\.png.*lower lr"):
        trained(arch, data, tmp_path / "out", asked, save_every_s=0)
    state = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)["state"]
    assert all(value.isfinite().all() for value in state["training"]["model"].values())


def test_full_disk_is_said_and_nothing_is_lost(arch, data, tmp_path, monkeypatch):
    whole = trained(arch, data, tmp_path / "whole")

    def full(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StudyError, match=r"checkpoint\.pt' cannot be written: No space left"):
            trained(arch, data, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.part"))
    assert trained(arch, data, tmp_path / "out").test == whole.test


def test_weights_that_do_not_fit_on_the_disk_are_said(arch, data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_tensors", full)
        with pytest.raises(TrainingError, match=r"weights\.safetensors': .*No space .*free space"):
            trained(arch, data, tmp_path / "out")
    assert trained(arch, data, tmp_path / "out").test  # from the last checkpoint


@pytest.mark.parametrize("workers", [0, 1])
def test_mask_of_another_size_than_its_image_is_named_in_one_line(arch, tmp_path, workers):
    data = masked(tmp_path / "data")
    for file in (tmp_path / "data" / "masks").iterdir():
        Image.new("L", (32, 24)).save(file)
    with pytest.raises(DataError) as caught:
        trained(arch, data, tmp_path / "out", workers=workers)
    assert re.fullmatch(r"mask '.*png' is 32 x 24 pixels, its image 32 x 32; .*", str(caught.value))


def test_checkpoint_of_another_training_is_refused(arch, data, tmp_path):
    def kill(event):
        raise Killed

    with pytest.raises(Killed):
        trained(arch, data, tmp_path / "out", report=kill, save_every_s=0)
    with pytest.raises(Killed):
        trained(arch, data, tmp_path / "out", report=lambda e: kill(e) if e.done > 1 else None)
    trained(arch, data, tmp_path / "out", save_every_s=0)
    (tmp_path / "out" / RESULT).unlink()
    with pytest.raises(StudyError, match=r"belongs to another run \(other recipe\)"):
        trained(arch, data, tmp_path / "out", recipe(lr=0.1))


@pytest.mark.parametrize(
    "how", [{"bf16": True}, {"channels_last": True}, {"grad_checkpointing": True}]
)
def test_means_of_the_machine_train_too(arch, data, tmp_path, how):
    done = trained(arch, data, tmp_path / "out", recipe(epochs=1, warmup_epochs=0), **how)
    assert done.updates > 1


def test_recomputed_activations_change_nothing(arch, data, tmp_path):
    asked = recipe(epochs=1, warmup_epochs=0)
    trained(arch, data, tmp_path / "kept", asked)
    trained(arch, data, tmp_path / "again", asked, grad_checkpointing=True)
    a, b = (load_file(tmp_path / name / WEIGHTS) for name in ("kept", "again"))
    for key in a:
        torch.testing.assert_close(a[key], b[key])


def test_timm_models_train_on_small_images(data, tmp_path):
    asked = recipe(epochs=1, warmup_epochs=0, layer_decay=0.8)
    assert trained("timm:test_vit", data, tmp_path / "vit", asked).image_size == SIDE


@pytest.mark.parametrize("arch", ["tiny", "timm:test_efficientnet"])
def test_masks_of_a_folder_are_learned(arch, tmp_path):
    name = tiny(tmp_path) if arch == "tiny" else arch
    data = masked(tmp_path / "data")
    asked = recipe(epochs=6, batch_size=8, lr=1e-2, scale=(0.5, 1.0))
    done = trained(name, data, tmp_path / "out", asked)
    assert done.task == "dense"
    assert done.test["miou"].value > 0.6
    assert done.test["miou"].low <= done.test["miou"].value <= done.test["miou"].high


def start(arch, data, out, *options):
    command = [sys.executable, "cli.py", "train", arch, "--data", data, "--out", str(out)]
    numbers = "--epochs 2 --image-size 32 --batch-size 12 --threads 1 --save-every 0".split()
    return subprocess.Popen(
        [*command, *numbers, *options],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def killed_and_continued(arch, data, out, delays):
    for delay in delays:
        process = start(arch, data, out)
        seen = (out / CHECKPOINT).stat().st_mtime_ns if (out / CHECKPOINT).exists() else 0
        while process.poll() is None:  # until it has gone on
            if (out / CHECKPOINT).exists() and (out / CHECKPOINT).stat().st_mtime_ns > seen:
                break
            time.sleep(0.005)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = start(arch, data, out)
    output, _ = process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.chaos
def test_killed_trainings_end_with_the_same_bits(arch, plenty, tmp_path):
    process = start(arch, plenty, tmp_path / "whole")
    output, _ = process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"test split: " in output
    draws = random.Random(0)
    delays = [draws.uniform(0, 0.05) for _ in range(4)]
    killed_and_continued(arch, plenty, tmp_path / "cut", delays)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_two_processes_train_as_one(arch, plenty, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    options = "--epochs 2 --image-size 32 --batch-size 12 --threads 1 --device cpu".split()
    done = subprocess.run(
        [*torchrun, "cli.py", "train", arch, "--data", plenty, "--out", tmp_path / "two", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test split: ") == 1
    assert (tmp_path / "two" / WEIGHTS).is_file()


@pytest.mark.slow
def test_compiled_networks_train(arch, data, tmp_path):
    asked = recipe(epochs=1, warmup_epochs=0)
    done = trained(arch, data, tmp_path / "out", asked, compiled=True)
    trained(arch, data, tmp_path / "eager", asked)
    assert done.updates > 1
    a, b = (load_file(tmp_path / name / WEIGHTS) for name in ("out", "eager"))
    assert a.keys() == b.keys()
