"""Weights from a file into a network: this project's, timm's, or a paper's release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from backbones.checkpoints import load_official, read_checkpoint, unwrap
from backbones.network import Backbone
from nas.errors import TrainingError


def stated(path: Path) -> dict[str, Any]:
    """Return what a file that `train` wrote says of itself; nothing of others.

    The keys: architecture, image_size, task, classes (names, of each label).
    Raises: TrainingError for a file that is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
    except FileNotFoundError:
        raise TrainingError(f"no file {str(path)!r}; check --weights") from None
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"cannot read {str(path)!r}: {error}; write it again") from None
    if "classes" not in facts:
        return {}
    return {
        **facts,
        "classes": json.loads(facts["classes"]),
        "image_size": int(facts["image_size"]),
    }


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a file's weights: our keys, timm's for its models, or those that a paper released.

    Raises: ConfigError or TrainingError that lists every key that is missing, left over or of
        another shape.
    """
    content = read_checkpoint(path)
    weights = unwrap(content)
    wanted = model.state_dict()
    family = isinstance(model, Backbone) and model.config.family is not None
    if family and len(set(weights) & set(wanted)) < len(wanted) / 2:
        assert isinstance(model, Backbone)
        load_official(model, content)
        return
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} {tuple(value.shape)}, expected {tuple(wanted[key].shape)}"
        for key, value in sorted(weights.items())
        if key in wanted and value.shape != wanted[key].shape
    ]
    listed = {
        "missing": sorted(set(wanted) - set(weights) - optional),
        "left over": sorted(set(weights) - set(wanted)),
        "misshapen": shapes,
    }
    problems = [f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in listed.items() if keys]
    if problems:
        raise TrainingError(
            f"weights {str(path)!r} do not fit {name} ({'; '.join(problems)}); give the "
            "architecture and the data set that they were trained for"
        )
    model.load_state_dict(weights, strict=not optional)
