"""Weights from a file into a network: this project's, timm's, or a paper's release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
from backbones.official import official_names
from nas.errors import TrainingError
from nas.full_training.networks import Network
from nas.training.readout import TaskNet

_CLASSIFIER = "head.fc.weight"
_INNER = "backbone."  # of a network that answers for tokens


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
    _load(model, read_checkpoint(path), path, name)


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file; TrainingError where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(
            f"cannot read {str(path)!r}: {error.strerror}; check --weights"
        ) from None


def begin_from(model: nn.Module, path: Path, network: Network, side: int) -> list[str]:
    """Begin a training with a file's weights; return the keys that begin afresh.

    A classifier of as many classes is taken too; positions are resized to images of `side`. The
    file may answer for images or for tokens, whatever the model does.
    Raises: as `load_weights`; TrainingError for timm's models that answer for tokens.
    """
    facts, content = stated(path), read_checkpoint(path)
    dense = facts.get("task") == "dense"
    target = model.backbone if isinstance(model, TaskNet) else model
    if network.config is None and not hasattr(target, "get_classifier"):
        raise TrainingError(
            f"{network.name} answers for tokens with timm's feature maps, which no file's weights "
            "fit; leave out --weights"
        )
    if dense:
        content = {k.removeprefix(_INNER): v for k, v in content.items() if k.startswith(_INNER)}
    native = facts.get("image_size", network.image_size)
    classes = 0 if dense else _classes(network, unwrap(content))
    donor: Any = network.make(classes, native, None, 0.0)
    _load(donor, content, path, network.name)
    if hasattr(donor, "set_input_size"):
        donor.set_input_size(img_size=side)
    wanted = target.state_dict()
    found = {k: v for k, v in donor.state_dict().items() if k in wanted}
    found = {k: v for k, v in found.items() if v.shape == wanted[k].shape}
    target.load_state_dict(found, strict=False)
    return sorted(set(wanted) - set(found))


def _classes(network: Network, weights: Mapping[str, Any]) -> int:
    """Return how many classes the classifier in a file tells apart."""
    keys, usual = [_CLASSIFIER], 0
    if network.config is None:
        import timm

        named = getattr(timm.get_pretrained_cfg(network.name), "classifier", None) or ()
        keys += [f"{name}.weight" for name in ((named,) if isinstance(named, str) else named)]
    else:
        usual = network.config.num_classes
        if network.config.family is not None:
            keys += official_names(network.config).sources[_CLASSIFIER].keys
    return next((len(weights[key]) for key in keys if key in weights), usual)


def _load(model: nn.Module, content: Mapping[str, Any], path: Path, name: str) -> None:
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
