"""A design on its way into somebody else's code: its weights, an ONNX file, a folder for timm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import backbones
from backbones.config import BackboneConfig
from backbones.image_size import sides
from nas.errors import StudyError

DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Cargo:
    """A model in evaluation, and what is known of it.

    facts: the content of an exported file; empty for a preset or a bare config.
    weights: where they come from, in words. trained: whether from a file of the user's.
    stated: what a file that `train` wrote says of itself: image_size, classes, by the label.
    """

    name: str
    model: Any
    facts: dict[str, Any]
    weights: str
    trained: bool
    stated: dict[str, Any]

    @property
    def config(self) -> BackboneConfig:
        """Return the design."""
        config: BackboneConfig = self.model.config
        return config

    @property
    def size(self) -> tuple[int, int]:
        """Return the input size (H, W) of its training, or that its cost was counted at."""
        if "image_size" in self.stated:
            return sides(self.config.image_size)
        return sides(self.facts.get("cost", {}).get("image_size", DEFAULT_SIZE))


def load(arch: str, checkpoint: Path | None = None) -> Cargo:
    """Build a design with weights.

    arch: a preset, a config or an exported file. checkpoint: weights by our keys, with as many
        classes as they have, or a released file; without one, initial weights by the study's seed.
    Raises: ConfigError for an unknown arch or weights that do not fit.
    """
    import torch

    config = backbones.load_config(arch)
    document = yaml.safe_load(Path(arch).read_text()) if Path(arch).is_file() else {}
    facts = document if "config" in document else {}
    seed = facts.get("weights", facts.get("source") or {}).get("seed", 0)
    content = None if checkpoint is None else backbones.read_checkpoint(checkpoint)
    stated = {} if checkpoint is None else _stated(checkpoint)
    classes = None if content is None else content.get("head.fc.weight")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbones.create(
            config,
            num_classes=None if classes is None else len(classes),
            image_size=stated.get("image_size"),
        ).eval()
    said = f"initial, seed {seed}: not trained"
    if checkpoint is not None and content is not None:
        backbones.load_weights(model, content)
        said = f"of {checkpoint.name}"
    name = config.name or Path(arch).stem
    return Cargo(name, model, facts, said, checkpoint is not None, stated)


def _stated(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = file.metadata() or {}
    return facts


def is_architecture(what: str) -> bool:
    """Whether a name is a preset or a file, rather than a study."""
    return what in backbones.list_presets() or Path(what).is_file()


def check_wanted(onnx: Path | None, timm: Path | None, checkpoint: Path | None) -> None:
    """Raise StudyError where nothing is asked for, or a value that cannot be meant."""
    if onnx is None and timm is None:
        raise StudyError("nothing to write of an architecture; give --onnx FILE or --timm DIR")
    if onnx is not None and onnx.suffix != ".onnx":
        raise StudyError(f"--onnx {str(onnx)!r} must end in .onnx")
    if timm is not None and timm.exists() and (not timm.is_dir() or any(timm.iterdir())):
        raise StudyError(f"--timm {str(timm)!r} exists and is no empty folder; choose another")
    if checkpoint is not None and not checkpoint.is_file():
        raise StudyError(f"--checkpoint {str(checkpoint)!r} is no file; check the path")
