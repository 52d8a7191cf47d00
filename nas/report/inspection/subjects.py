"""What is inspected: a network before and after training, and sample images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

import backbones
from backbones.checkpoints import read_checkpoint, unwrap
from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.training.data.photographs import NAMES, photograph

MOST_IMAGES = 4
_CLASSIFIER = "head.fc.weight"


def untrained(config: BackboneConfig, seed: int) -> Any:
    """Return the network as it begins under a seed, in evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbones.create(config).eval()


def trained(config: BackboneConfig, weights: Path) -> Any:
    """Return the network with weights of this project or a released checkpoint, in evaluation.

    The classifier has as many classes as the file's.
    Raises: ConfigError for a file that cannot be read, or does not fit.
    """
    content = read_checkpoint(weights)
    found = unwrap(content)
    if _CLASSIFIER not in found:
        return backbones.load_official(backbones.create(config), content)
    model = backbones.create(config, num_classes=len(found[_CLASSIFIER]))
    wanted = model.state_dict()
    odd = sorted(set(found) ^ set(wanted))
    odd += sorted(k for k in set(found) & set(wanted) if found[k].shape != wanted[k].shape)
    if odd:
        raise StudyError(
            f"{str(weights)!r} does not fit {config.name or 'the network'}: {len(odd)} tensors "
            f"are missing, left over or of another shape ({', '.join(odd[:3])}); give the "
            "architecture that it was trained with"
        )
    model.load_state_dict(found)
    return model.eval()


def sample_images(paths: Iterable[Path], side: int) -> tuple[list[str], Tensor]:
    """Return names and pixels of images; without paths, those of scikit-learn's photographs.

    paths: files, or folders, of which the first images by name are taken; `MOST_IMAGES` in all.
    Shapes: float (n, 3, side, side) in [0, 1], the middle square of each.
    Raises: StudyError for a path that is missing, or holds no image.
    """
    files = [file for path in paths for file in _files(path)][:MOST_IMAGES]
    if not files:
        names, photos = list(NAMES), [photograph(name)[0] / 255 for name in NAMES]
    else:
        names, photos = [file.name for file in files], [_read(file) for file in files]
    return names, torch.stack([_middle(photo, side) for photo in photos])


def as_input(images: Tensor, in_chans: int) -> Tensor:
    """Normalize images with ImageNet's mean and standard deviation; one channel is their mean."""
    mean, std = (torch.tensor(v) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    made = (images - mean[:, None, None]) / std[:, None, None]
    return made if in_chans == 3 else made.mean(1, keepdim=True).expand(-1, in_chans, -1, -1)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise StudyError(f"no image {str(path)!r}; give a file, or a folder of images")
    known = Image.registered_extensions()
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in known and f.is_file())
    if not found:
        raise StudyError(f"folder {str(path)!r} holds no images; give another, or a file")
    return found[:MOST_IMAGES]


def _read(file: Path) -> Tensor:
    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise StudyError(f"cannot read image {str(file)!r}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _middle(photo: Tensor, side: int) -> Tensor:
    short = min(photo.shape[1:])
    top, left = ((n - short) // 2 for n in photo.shape[1:])
    square = photo[None, :, top : top + short, left : left + short]
    return torch.nn.functional.interpolate(
        square, (side, side), mode="bilinear", antialias=True, align_corners=False
    )[0].clamp(0, 1)
