"""What weights are worth on a test split, at several image sizes, and what they cost to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from backbones.outside import PREFIX as TIMM
from nas.errors import TrainingError
from nas.full_training import loaders
from nas.full_training.networks import Network
from nas.full_training.processes import Team
from nas.full_training.samples import Data, Samples
from nas.full_training.scores import Score, answers
from nas.full_training.speed import speed
from nas.full_training.subject import Subject
from nas.full_training.weights import load_weights, stated
from nas.training.data.draws import Split
from nas.training.readout import Readout


@dataclass(frozen=True)
class AtSize:
    """A network's scores and speed at an image size.

    crop_pct: share of the image's side that is shown. images_s: of the network alone, in batches
    of `batch`. peak_mib: see `speed`.
    """

    image_size: int
    images: int
    scores: dict[str, Score]
    crop_pct: float
    batch: int
    images_s: float
    peak_mib: float | None


@dataclass(frozen=True)
class Evaluation:
    """The scores of weights on a split, by size."""

    arch: str
    data: str
    task: str
    split: str
    device: str
    sizes: list[AtSize]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def parse_sizes(text: str | None) -> list[int]:
    """Return sides in pixels from "224,288,384"; none for None.

    Raises: TrainingError for what is no list of sides.
    """
    parts = [] if text is None else text.split(",")
    if any(not part.strip().isdecimal() or int(part) < 8 for part in parts):
        raise TrainingError(f"sizes {text!r} are no sides in pixels; use e.g. 224,288,384")
    return [int(part) for part in parts]


def evaluate(
    network: Network,
    data: Data,
    weights: Path | None,
    sizes: Sequence[int],
    *,
    team: Team,
    split: Split = "test",
    batch: int = 64,
    workers: int = 0,
    token: int = 4,
) -> Evaluation:
    """Return the scores of weights on a split, for each size.

    weights: a file; None takes those beside a timm model's own config (`timm:local-dir:`).
    sizes: sides in pixels; the size of the training where none are given.
    Raises: TrainingError for weights of other classes; ConfigError or TrainingError listing the
        keys where they do not fit.
    """
    facts = {} if weights is None else stated(weights)
    native = facts.get("image_size", network.image_size)
    made: nn.Module | None = None
    rows = []
    for size in sizes or [native]:
        subject = Subject(network, data, size, token)
        samples = subject.samples(split)
        if made is None:
            _check_classes(facts, samples, weights)
            made = Subject(network, data, native, token).build(samples)
            _load(made, network, weights)
            made = made.to(team.device).eval()
        _resize(made, network, subject)
        rows.append(_at_size(made, subject, samples, team, batch, workers))
    return Evaluation(network.name, data.name, data.task, split, team.device, rows)


def _at_size(
    model: nn.Module, subject: Subject, samples: Samples, team: Team, batch: int, workers: int
) -> AtSize:
    prepare = subject.prepare(samples, None)
    judge = subject.judge(samples)
    found = answers(model, loaders.eval_loader(samples, prepare, batch, team, workers), judge, team)
    images, _, _ = next(loaders.eval_loader(samples, prepare, batch, team, 0))
    images_s, peak = speed(model, images.to(team.device))
    return AtSize(
        image_size=subject.side,
        images=len(samples),
        scores=subject.scores(found, samples),
        crop_pct=1.0 if subject.dense else subject.network.crop_pct,
        batch=len(images),
        images_s=images_s,
        peak_mib=peak,
    )


def _check_classes(facts: dict[str, Any], samples: Samples, weights: Path | None) -> None:
    own = [list(label.classes) for label in samples.labels]
    if facts and facts["classes"] != own:
        found = [len(classes) for classes in facts["classes"]]
        raise TrainingError(
            f"weights {str(weights)!r} answer with {found} classes, the data has "
            f"{[len(c) for c in own]}, or others of these names; give the data set that they were "
            "trained for"
        )


def _load(model: nn.Module, network: Network, weights: Path | None) -> None:
    if weights is None:
        local = network.identity.removeprefix(f"{TIMM}local-dir:")
        if local == network.identity:
            raise TrainingError(f"{network.name} has no weights of its own; give --weights FILE")
        weights = Path(local) / "model.safetensors"
    load_weights(model, weights, network.name)


def _resize(model: nn.Module, network: Network, subject: Subject) -> None:
    """Make a network take images of another size."""
    for part in model.modules():
        if isinstance(part, Readout):
            part.grid = subject.grid
    resize = getattr(model, "set_input_size", None)
    if network.config is None and resize is not None:
        resize(img_size=subject.side)
