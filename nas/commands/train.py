"""Commands after a search: train a design in full, evaluate weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.commands.options import (
    JsonOption,
    completing,
    preset_names,
    with_options,
)

app = typer.Typer()
ROOM = "Train"

ArchArgument = Annotated[
    str,
    typer.Argument(
        help="Preset, exported or other config file, or timm:NAME.",
        autocompletion=completing(preset_names),
    ),
]


def _recipe_names() -> list[str]:
    from nas.full_training.recipe import list_recipes

    return list_recipes()


@dataclass(frozen=True, kw_only=True)
class Labeled:
    """The data set of a training or an evaluation."""

    data: Annotated[str, typer.Option(help="digits, scenes, relations, folder:PATH, torch/NAME.")]
    task: Annotated[
        str | None, typer.Option(help="classify or dense; default: what the data has labels for.")
    ] = None
    data_dir: Annotated[str | None, typer.Option(help="Where timm data sets lie.")] = None
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a timm data set that is not there.")
    ] = False
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    loaders: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 0

    def named(self) -> dict[str, Any]:
        """Return the keywords that `train` and `evaluate` share."""
        return {k: v for k, v in vars(self).items() if k != "loaders"}


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What of a recipe is stated on the command line."""

    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None
    image_size: Annotated[int | None, typer.Option(min=8, help="Side in pixels.")] = None
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images of an update.")] = None
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of lr_batch images.")] = None


@dataclass(frozen=True, kw_only=True)
class Means:
    """How the machine does it; the result is the same up to rounding."""

    accumulate: Annotated[int, typer.Option(min=1, help="Passes of an update.")] = 1
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 autocast.")] = False
    channels_last: Annotated[bool, typer.Option("--channels-last")] = False
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile.")] = False
    grad_checkpointing: Annotated[
        bool, typer.Option("--grad-checkpointing", help="Recompute activations to save memory.")
    ] = False
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints within an epoch.")
    ] = 600.0


@app.command(rich_help_panel=ROOM)
@with_options
def train(
    arch: ArchArgument = "mambaout_femto",
    *,
    labeled: Labeled,
    recipe: Annotated[
        str,
        typer.Option(
            help="fast, deit, swin, vmamba, mambaout, or a YAML file.",
            autocompletion=completing(_recipe_names),
        ),
    ] = "fast",
    weights: Annotated[
        Path | None,
        typer.Option(help="Begin with a file's weights, own or released.", show_default=False),
    ] = None,
    changes: Changes,
    means: Means,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; one that was interrupted is continued.", show_default=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines only: no bar.")] = False,
    json: JsonOption = False,
) -> None:
    """Train a design in full; the same command continues it. The test split is used at the end."""
    from nas.full_training.recipe import load_recipe

    load_recipe(recipe)  # before anything that takes seconds to load
    from nas.full_training.processes import leads
    from nas.full_training.request import train
    from nas.full_training.run import Stopped
    from nas.full_training.training import How
    from nas.report.console import emit, say
    from nas.report.training import Shown, trained_view

    options = vars(means) | {"workers": labeled.loaders}
    how = How(save_every_s=options.pop("save_every"), **options)
    asked = labeled.named() | {"recipe": recipe, "changes": vars(changes), "how": how}
    asked |= {"weights": weights}
    quiet = json or not leads()
    try:
        with Shown(plain or quiet) as shown:
            report = (lambda event: None) if quiet else shown
            done = train(arch, **asked, seed=seed, out=out, report=report)
    except Stopped as stopped:
        say(f"{stopped}: stopped after an update; the same command goes on from there")
        sys.exit(130)
    if leads():
        emit(done.to_dict(), json, trained_view)


@app.command(rich_help_panel=ROOM)
@with_options
def evaluate(
    arch: ArchArgument,
    *,
    weights: Annotated[
        Path | None,
        typer.Option(help="Own (.safetensors of train) or released; timm:local-dir: has its own."),
    ] = None,
    labeled: Labeled,
    sizes: Annotated[
        str | None, typer.Option(help="Sides in pixels: 224,288,384; default: the training's.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    json: JsonOption = False,
) -> None:
    """Score weights on a test split, at several image sizes, with intervals, speed and memory."""
    from nas.full_training.evaluation import parse_sizes
    from nas.full_training.processes import leads
    from nas.full_training.request import evaluate
    from nas.report.console import emit
    from nas.report.training import evaluation_view

    found = evaluate(
        arch,
        weights=weights,
        sizes=parse_sizes(sizes),
        batch=batch,
        workers=labeled.loaders,
        **labeled.named(),
    )
    if leads():
        emit(found.to_dict(), json, evaluation_view)
