"""Weights beside an export, and the digest by which two builds of a model are compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from backbones.config import BackboneConfig
from backbones.image_size import ImageSize, sides

PROBE_BATCH = 2


def write_initial_weights(
    path: Path, config: BackboneConfig, seed: int, image_size: ImageSize
) -> str:
    """Write the weights with which the model begins under `seed`; return its logits' digest.

    Raises: OSError where they cannot be written.
    """
    import torch

    import backbones
    from backbones.checkpoints import save_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbones.create(config).eval()
    save_weights(path, model.state_dict())
    return logits_digest(model, config, image_size)


def logits_digest(model: Any, config: BackboneConfig, image_size: ImageSize) -> str:
    """Return the SHA-256 of a model's float32 CPU logits of a fixed random batch."""
    import torch

    noise = torch.Generator().manual_seed(0)
    batch = torch.randn(PROBE_BATCH, config.in_chans, *sides(image_size), generator=noise)
    with torch.no_grad():
        logits = model(batch)
    return hashlib.sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()
