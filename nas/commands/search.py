"""Commands that train: begin a study, continue one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.keep import export_and_say
from nas.commands.options import (
    DEFAULT_STORAGE,
    STUDY_ROOM,
    ImageSizeOption,
    Machines,
    StorageOption,
    completing,
    space_names,
    strategy_names,
    with_options,
)

if TYPE_CHECKING:
    from nas.api import Study

app = typer.Typer()

ExportOption = Annotated[Path | None, typer.Option(help="Where the best architecture goes.")]


ConfirmOption = Annotated[
    str,
    typer.Option(
        help="Train the best candidates and the baselines again: auto (3x3), none, or "
        "FINALISTSxSEEDS."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a new study is to be; options of the command that makes it."""

    space: Annotated[
        str,
        typer.Option(
            help="Shipped space, or path to a YAML file.", autocompletion=completing(space_names)
        ),
    ]
    budget: Annotated[
        list[str],
        typer.Option(
            help="4.5GFLOPs, 4.2-4.5GFLOPs, 30Mparams, 8ms, 150MiB of activations; may be repeated."
        ),
    ]
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Candidates to train, beside the baselines: 12, or as many as an existing study "
            "wants.",
        ),
    ] = None
    strategy: Annotated[
        str | None,
        typer.Option(
            help="surrogate, evolution, tpe, nsga2, random, grid, or module:Class of an Optuna "
            "sampler: surrogate, or that of an existing study.",
            autocompletion=completing(strategy_names),
        ),
    ] = None
    data: Annotated[
        str | None, typer.Option(help="scenes, digits, relations, photographs or folder:PATH.")
    ] = None
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe of the training proxy: a name or a YAML file.")
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per trial.")] = None
    evaluate: Annotated[
        str | None, typer.Option(help="Your own module:function that scores a design.")
    ] = None
    image_size: ImageSizeOption = 224
    backend: Annotated[
        str, typer.Option(help="Scan kernels: auto, reference, numba, triton, mamba_ssm.")
    ] = "auto"
    warm_start: Annotated[
        str,
        typer.Option(
            help="presets: train the published designs too; none: skip them; FILE: its designs "
            "first (a config, or a table of `show --format json`), then the published ones."
        ),
    ] = "presets"
    baseline: Annotated[
        str | None,
        typer.Option(help="timm's networks, trained too: timm:convnext_atto,timm:deit_tiny..."),
    ] = None
    objective: Annotated[
        str, typer.Option(help="top1, or with flops, params, latency or memory: top1,latency.")
    ] = "top1"
    latency_device: Annotated[
        str | None, typer.Option(help="What a latency is of: cpu or cuda; where trials train.")
    ] = None
    latency_batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time, of a latency; 1.")
    ] = None
    pruner: Annotated[str, typer.Option(help="asha or none.")] = "none"
    confirm: ConfirmOption = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    seed: Annotated[int, typer.Option(min=0)] = 0


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def search(
    *,
    study: Annotated[str | None, typer.Option(help="Name; an existing study is continued.")] = None,
    wanted: Wanted,
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
    export: ExportOption = None,
) -> None:
    """Search a space under a budget; ends with the best design, exported."""
    from nas import api

    options = vars(wanted) | vars(machines) | {"baseline": wanted.baseline or ()}
    _conclude(api.search(**options, study=study, storage=storage), export)


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def resume(
    study: str,
    *,
    trials: Annotated[
        int | None, typer.Option(min=1, help="New total of candidates to train.")
    ] = None,
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
    export: ExportOption = None,
) -> None:
    """Continue a study with its stored settings, whatever ended it."""
    from nas import api

    _conclude(api.Study(study, storage).resume(trials, **vars(machines)), export)


@app.command(rich_help_panel=STUDY_ROOM)
def retry(
    study: str,
    *,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="error, stalled, lost, timeout, oom or nan.")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Put trials without a score back into the queue: error, stalled and lost by default."""
    from nas.driver.recovery import put_back
    from nas.report.text import invoked_as

    number = put_back(study, storage, classes or ["error", "stalled", "lost"])
    print(f"{number} trials wait; train them with: {invoked_as()} resume {study}")


@app.command(rich_help_panel=STUDY_ROOM)
def enqueue(
    study: str,
    designs: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG...",
            help="Presets, config files, exported files, or tables of `show --format json`.",
        ),
    ],
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Have designs trained next, ahead of what the strategy proposes."""
    from nas.driver.enqueueing import enqueue, wishes
    from nas.driver.studies import open_study
    from nas.report.console import say
    from nas.report.studies import wish_line
    from nas.report.text import invoked_as
    from nas.study.tasks import metric_of

    opened = open_study(study, storage)
    try:
        made = enqueue(opened, wishes(designs, opened.settings))
    finally:
        opened.close()
    for one in made:
        say(wish_line(one, metric_of(opened.settings.recipe.to_dict())))
    if any(one.new for one in made):
        say(f"a driver at work takes them next; else: {invoked_as()} resume {study}")


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def confirm(
    study: str,
    *,
    confirm: ConfirmOption = "auto",
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
    export: ExportOption = None,
) -> None:
    """Train finalists and baselines again with fresh seeds; say what holds, with intervals."""
    from nas import api

    _conclude(api.Study(study, storage).confirm(confirm, **vars(machines)), export)


def _conclude(study: Study, export: Path | None) -> None:
    """Print the best design of a study that has been run, its baselines and the exported file.

    Exits with 1 when no candidate has a score.
    """
    from nas.report.console import console, say
    from nas.report.studies import summary_view
    from nas.report.text import invoked_as

    finished, summary = study.finished, study.summary(top=5)
    assert finished is not None
    console.print()
    console.print(summary_view(summary))
    say(f"\n{finished.reason}")
    if summary["best"] is not None:
        export_and_say(study.name, study.storage, which="best", out=export)
    if not finished.complete:
        say(f"continue with: {invoked_as()} resume {study.name}")
    if summary["best"] is None:
        sys.exit(1)
