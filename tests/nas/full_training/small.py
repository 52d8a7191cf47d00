"""A network, a folder of images and a recipe that train in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nas.full_training.networks import find_network
from nas.full_training.processes import Team
from nas.full_training.recipe import TrainingRecipe, load_recipe
from nas.full_training.run import train
from nas.full_training.samples import Data, usual_task
from nas.full_training.subject import Subject
from nas.full_training.training import How

TINY = """
schema: 1
stem: {kind: overlap, stride: 4, norm: layernorm}
blocks:
  g: {mixer: {kind: gated_conv, expand: 1.0, kernel: 3}}
stages:
- {width: 8, depth: 1, pattern: g}
- {width: 16, depth: 1, pattern: g, downsample: conv3x3}
num_classes: 10
image_size: 32
drop_path_rate: 0.1
"""
SIDE = 32


def tiny(folder: Path) -> str:
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


def images(folder: Path, count: int = 24) -> str:
    """Write two classes of noise, light and dark; return the data set's name."""
    draws = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = draws.normal(level, 40, (36, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n:02}.png")
    return f"folder:{folder}"


def masked(folder: Path, count: int = 60) -> str:
    """Write images whose left or right half is light, and masks that say so."""
    draws = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for n in range(count):
        half = np.zeros((32, 32), np.uint8)
        half[:, : int(draws.integers(8, 24))] = 1
        noise = draws.normal(0, 20, (32, 32, 3))
        pixels = (60 + 120 * half[..., None] + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n:02}.png")
        Image.fromarray(half).save(folder / "masks" / f"{n:02}.png")
    (folder / "classes.txt").write_text("dark\nlight\n")
    return f"folder:{folder}"


def recipe(**fields: object) -> TrainingRecipe:
    """Return a recipe that uses everything random that there is."""
    stated = {
        "epochs": 2,
        "image_size": SIDE,
        "batch_size": 12,
        "mixup": 0.2,
        "cutmix": 1.0,
        "hflip": 0.5,
        "erase": 0.25,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "drop_path": 0.2,
        "warmup_epochs": 1,
        "val_share": 0.2,
    }
    return load_recipe("fast").changed(**(stated | fields))


def subject(arch: str, data: str, asked: TrainingRecipe, weights: Path | None = None) -> Subject:
    network = find_network(arch)
    own = Data(data, usual_task(data), val_share=asked.val_share)
    side = asked.image_size or network.image_size
    return Subject(network, own, side, asked.token, asked.label_smoothing, weights)


def trained(arch, data, out, asked=None, report=lambda event: None, weights=None, **how):
    asked = asked or recipe()
    options = {"how": How(threads=1, **how), "team": Team(), "report": report}
    return train(subject(arch, data, asked, weights), asked, out, **options)
