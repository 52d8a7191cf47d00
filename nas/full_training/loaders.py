"""Batches: a function of seed, epoch and place, so that a training can be entered anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from kernels.errors import ScanNASError
from nas.errors import TrainingError
from nas.full_training.chance import seed_everything
from nas.full_training.networks import Network
from nas.full_training.processes import Team
from nas.full_training.recipe import TrainingRecipe
from nas.full_training.samples import Label, Samples
from nas.training.data.folder import tokens
from nas.training.data.items import cropped

Prepare = Callable[[Image.Image, Label], tuple[Tensor, "int | Tensor"]]


class Place(NamedTuple):
    """An image of an epoch: which one, and what its randomness is seeded by; () for none."""

    image: int
    seed: tuple[int | str, ...]


class Prepared(Dataset[Any]):
    """Samples, cropped, augmented and normalized; the key is a `Place`."""

    def __init__(self, samples: Samples, prepare: Prepare) -> None:
        self.samples, self.prepare = samples, prepare

    def __getitem__(self, place: Place) -> tuple[Tensor, int | Tensor, int]:
        """Return image (3, S, S), label, and its index."""
        if place.seed:
            seed_everything(*place.seed)
        image = self.samples.image(place.image)
        label = self.samples.label(place.image, image)
        return *self.prepare(image, label), place.image


@dataclass(frozen=True)
class Order:
    """Which images an update of a process sees, drawn anew for each epoch by the seed.

    passes: of an update, each of an equal, even number of images (timm mixes them in pairs).
    With recipe.repeats images return within an epoch, as in DeiT.
    Raises: TrainingError where that leaves a pass without images.
    """

    samples: Samples
    recipe: TrainingRecipe
    seed: int
    team: Team
    passes: int = 1

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise TrainingError(
                f"batch_size {self.recipe.batch_size} of {len(self.samples)} images over "
                f"{self.team.world} process(es) and {self.passes} pass(es) leaves fewer than 2 "
                "images a pass; lower --accumulate or raise batch_size"
            )

    @property
    def batch(self) -> int:
        """Images of an update, of this process."""
        whole = min(self.recipe.batch_size, len(self.samples))
        return whole // (2 * self.team.world * self.passes) * 2 * self.passes

    @property
    def steps(self) -> int:
        """Updates of an epoch; a rest that fills no batch waits for another epoch."""
        return max(1, len(self._epoch(0)) // self.batch)

    def _epoch(self, epoch: int) -> list[int]:
        share = {"num_replicas": self.team.world, "rank": self.team.rank}
        sampler: Any
        if self.recipe.repeats > 1:
            sampler = RepeatAugSampler(self.samples, num_repeats=self.recipe.repeats, **share)
        else:
            sampler = DistributedSampler(self.samples, seed=self.seed, **share)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        return list(sampler)

    def from_step(self, epoch: int, step: int) -> Iterator[list[Place]]:
        """Yield the batches of an epoch from an update on."""
        order = self._epoch(epoch)
        for start in range(step * self.batch, self.steps * self.batch, self.batch):
            yield [
                Place(order[i], (self.seed, "image", epoch, self.team.rank, i))
                for i in range(start, start + self.batch)
            ]


Batches = Iterator[tuple[Tensor, Tensor, Tensor]]


def train_loader(
    order: Order, prepare: Prepare, epoch: int, step: int, workers: int, pin: bool
) -> Batches:
    """Return the batches of an epoch, from an update on: images, labels, indices."""
    loader: DataLoader[Any] = DataLoader(
        Prepared(order.samples, prepare),
        batch_sampler=list(order.from_step(epoch, step)),  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=pin,
    )
    return _loaded(loader)


def eval_loader(
    samples: Samples, prepare: Prepare, batch: int, team: Team, workers: int
) -> Batches:
    """Return the batches of this process's share of a split, in order."""
    mine = range(team.rank, len(samples), team.world)
    batches = [
        [Place(n, ()) for n in mine[start : start + batch]] for start in range(0, len(mine), batch)
    ]
    loader: DataLoader[Any] = DataLoader(
        Prepared(samples, prepare),
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
    )
    return _loaded(loader)


def _loaded(loader: DataLoader[Any]) -> Batches:
    """Yield the batches; what a loading process says of a file is said without its traceback."""
    try:
        yield from loader
    except ScanNASError as error:
        said = str(error).rstrip().rpartition("\n")[2]
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(said.removeprefix(name)) from None


def classified(network: Network, side: int, recipe: TrainingRecipe | None) -> Prepare:
    """Return timm's preparation of images with a class: to train, without a recipe to score."""
    shared = {
        "input_size": side,
        "interpolation": network.interpolation,
        "mean": network.mean,
        "std": network.std,
        "use_prefetcher": False,
    }
    if recipe is None:
        transform = create_transform(**shared, crop_pct=network.crop_pct)
    else:
        transform = create_transform(
            **shared,
            is_training=True,
            scale=recipe.scale,
            ratio=recipe.ratio,
            hflip=recipe.hflip,
            color_jitter=recipe.color_jitter or None,
            auto_augment=recipe.auto_augment,
            re_prob=recipe.erase,
            re_mode="pixel",
        )

    def prepare(image: Image.Image, label: Label) -> tuple[Tensor, int | Tensor]:
        assert isinstance(label, int)
        return transform(image), label

    return prepare


def dense(
    network: Network, side: int, grid: int, recipe: TrainingRecipe | None, mirrors: bool
) -> Prepare:
    """Return the preparation of images whose tokens have labels, turned alike.

    mirrors: whether a mirrored image keeps its labels. Images that were made with labels of tokens
    are not cropped: a token would be cut.
    """
    jitter = None
    if recipe is not None and recipe.color_jitter:
        jitter = ColorJitter(*[recipe.color_jitter] * 3)

    def prepare(image: Image.Image, label: Label) -> tuple[Tensor, int | Tensor]:
        pixels, labels = _on_grid(image, label, side, grid, recipe)
        if recipe is not None and mirrors and random.random() < recipe.hflip:
            pixels, labels = F.hflip(pixels), labels.flip(-1)
        if jitter is not None:
            pixels = jitter(pixels)
        return F.normalize(pixels.float() / 255, list(network.mean), list(network.std)), labels

    return prepare


def _on_grid(
    image: Image.Image, label: Label, side: int, grid: int, recipe: TrainingRecipe | None
) -> tuple[Tensor, Tensor]:
    """Return an image (3, side, side), bytes, and the labels of its tokens (R, grid, grid)."""
    if isinstance(label, Tensor):
        return F.pil_to_tensor(image), label
    assert isinstance(label, Image.Image)
    if recipe is None:
        pixels, mask = cropped(image, side), cropped(label, side, exact=True)
    else:
        box = RandomResizedCrop.get_params(image, list(recipe.scale), list(recipe.ratio))
        size, exact = [side, side], InterpolationMode.NEAREST
        pixels = F.pil_to_tensor(F.resized_crop(image, *box, size, InterpolationMode.BILINEAR))
        mask = F.pil_to_tensor(F.resized_crop(label, *box, size, exact))
    return pixels, torch.from_numpy(tokens(mask[0].numpy(), grid).astype(np.int64))[None]


def names(samples: Samples, index: Sequence[int], most: int = 8) -> str:
    """Return what to call the images of a batch."""
    shown = ", ".join(samples.name(int(n)) for n in index[:most])
    return shown + (f" and {len(index) - most} more" if len(index) > most else "")
