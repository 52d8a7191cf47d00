"""From what a user wrote to a training or an evaluation: the command line's call, and Python's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import TrainingError
from nas.full_training.evaluation import Evaluation
from nas.full_training.evaluation import evaluate as evaluate_network
from nas.full_training.networks import find_network
from nas.full_training.processes import team
from nas.full_training.recipe import TrainingRecipe, load_recipe
from nas.full_training.run import Report, Trained
from nas.full_training.run import train as train_subject
from nas.full_training.samples import Data, usual_task
from nas.full_training.subject import Subject
from nas.full_training.training import How


def train(
    arch: str | Path,
    data: str,
    *,
    recipe: str | Path | TrainingRecipe = "fast",
    changes: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    task: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    out: Path | None = None,
    how: How | None = None,
    device: str = "auto",
    seed: int = 0,
    report: Report = lambda event: None,
) -> Trained:
    """Train an architecture in full, or go on where the folder's training was interrupted.

    arch: a preset, a config file or timm:NAME. recipe: a shipped name, a file or a recipe; changes:
    of its fields. weights: a file to begin with, own or released. task: classify or dense; by
    default what the data has labels for. out: the folder, runs/train/ARCH-DATA by default. how:
    what the machine does differently.
    Raises: as `nas.full_training.run.train`; TrainingError, ConfigError or DataError for a name.
    """
    asked = recipe if isinstance(recipe, TrainingRecipe) else load_recipe(recipe)
    asked = asked.changed(**(changes or {}))
    network = find_network(str(arch))
    named = _data(data, task, data_dir, download, val_share=asked.val_share)
    side = asked.image_size or network.image_size
    first = None if weights is None else Path(weights)
    subject = Subject(network, named, side, asked.token, asked.label_smoothing, first)
    folder = out or Path("runs") / "train" / f"{network.name}-{_as_name(data)}"
    options: dict[str, Any] = {"how": how or How(), "seed": seed, "report": report}
    with team(device) as own:
        return train_subject(subject, asked, folder, team=own, **options)


def evaluate(
    arch: str | Path,
    data: str,
    *,
    weights: str | Path | None = None,
    sizes: Sequence[int] = (),
    task: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    device: str = "auto",
    batch: int = 64,
    workers: int = 0,
) -> Evaluation:
    """Score weights on a data set's test split, at each size; see `nas.full_training.evaluation`.

    Raises: as `nas.full_training.evaluation.evaluate`.
    """
    network = find_network(str(arch))
    named = _data(data, task, data_dir, download)
    file = None if weights is None else Path(weights)
    with team(device) as own:
        return evaluate_network(network, named, file, sizes, team=own, batch=batch, workers=workers)


def _data(
    name: str, task: str | None, data_dir: str | None, download: bool, **fields: float
) -> Data:
    """Return the data set; DataError for a name that is none, TrainingError without labels."""
    chosen = task or usual_task(name)
    if chosen not in ("classify", "dense"):
        raise TrainingError(
            f"data set {name!r} to {chosen}: there are no labels; use one with labels, and "
            "--task classify or dense"
        )
    return Data(name, chosen, data_dir=data_dir, download=download, **fields)  # type: ignore[arg-type]


def _as_name(data: str) -> str:
    """Return a data set's name as part of a folder's name."""
    named = data.removeprefix("folder:")
    return Path(named).name if named != data else data.replace("/", "-")
