"""Weights from a file into a network: this project's, timm's, or a paper's release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from backbones.checkpoints import (
    is_released,
    load_official,
    misfits,
    read_checkpoint,
    shapes_of,
    unwrap,
)
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
    if is_released(model, weights):
        load_official(model, content)
        return
    if odd := misfits(weights, shapes_of(model)):
        raise TrainingError(
            f"weights {str(path)!r} do not fit {name} ({odd}); give the "
            "architecture and the data set that they were trained for"
        )
    model.load_state_dict(weights, strict=False)  # every key is accounted for
