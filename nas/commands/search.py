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
    from nas.driver.running import Executor
    from nas.driver.studies import Study
    from nas.study.place import Place
    from nas.study.settings import Settings

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
        list[str], typer.Option(help="4.5GFLOPs, 4.2-4.5GFLOPs, 30Mparams; may be repeated.")
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
        str,
        typer.Option(
            help="evolution, tpe, nsga2, random or grid.",
            autocompletion=completing(strategy_names),
        ),
    ] = "evolution"
    data: Annotated[
        str | None, typer.Option(help="scenes, digits, relations, photographs or folder:PATH.")
    ] = None
    recipe: Annotated[Path | None, typer.Option(help="YAML recipe of the training proxy.")] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per trial.")] = None
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
    objective: Annotated[str, typer.Option(help="top1, or top1,flops or top1,params.")] = "top1"
    pruner: Annotated[str, typer.Option(help="asha or none.")] = "none"
    confirm: ConfirmOption = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    seed: Annotated[int, typer.Option(min=0)] = 0

    @property
    def first_designs(self) -> list[str]:
        """The file of designs to train first, if there is one."""
        return [] if self.warm_start in ("presets", "none") else [self.warm_start]

    def settings(self, place: Place) -> Settings:
        """Return the study's settings; the first thing that is wrong is an error."""
        from nas.driver.request import search_settings
        from nas.study.budget import parse_budget

        options = vars(self) | {"budget": parse_budget(self.budget), "place": place}
        options["objectives"] = options.pop("objective").split(",")
        options["recipe_path"] = options.pop("recipe")
        del options["device"], options["backend"], options["confirm"]
        if self.first_designs:
            options["warm_start"] = "presets"
        return search_settings(**options)


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
    from nas.driver.enqueueing import enqueue as enqueue_first
    from nas.driver.enqueueing import wishes
    from nas.driver.request import this_machine
    from nas.driver.studies import start
    from nas.study.confirmation import parse_confirmation

    place = this_machine(wanted.device, backend=wanted.backend, **machines.place())
    settings = wanted.settings(place)
    executor = machines.choose(settings, place.device)
    asked = parse_confirmation(wanted.confirm)
    first = wishes(wanted.first_designs, settings)
    opened = start(study, storage, settings, place, confirmation=asked)
    enqueue_first(opened, first)
    _run(opened, storage, executor, export, plain=machines.plain)


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
    from nas.driver.studies import open_study
    from nas.study.place import Place

    opened = open_study(study, storage, place=Place.of(**machines.place()), check_data=True)
    executor = machines.choose(opened.settings, opened.place.device)
    _run(opened, storage, executor, export, trials, plain=machines.plain)


@app.command(rich_help_panel=STUDY_ROOM)
def retry(
    study: str,
    *,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="error, lost, timeout, oom or nan.")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Put trials without a score back into the queue: errors and lost ones by default."""
    from nas.driver.recovery import put_back
    from nas.report.text import invoked_as

    number = put_back(study, storage, classes or ["error", "lost"])
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
    from nas.driver.studies import open_study
    from nas.study.confirmation import parse_confirmation
    from nas.study.place import Place

    asked = parse_confirmation(confirm)
    opened = open_study(study, storage, place=Place.of(**machines.place()), check_data=True)
    executor = machines.choose(opened.settings, opened.place.device)
    opened.confirm(asked)
    _run(opened, storage, executor, export, plain=machines.plain)


def _run(
    study: Study,
    storage: str,
    executor: Executor,
    export: Path | None,
    trials: int | None = None,
    *,
    plain: bool,
) -> None:
    """Run a study, then print its best design, its baselines and the exported file.

    Exits with 1 when no candidate has a score. Raises: whatever `nas.driver.running.run` raises.
    """
    from nas.driver.running import run
    from nas.report.console import console, say
    from nas.report.live import Live
    from nas.report.studies import summary_view
    from nas.report.text import invoked_as
    from nas.store import queries

    try:
        with Live(console, plain=plain) as live:
            finished = run(study, executor, live, trials=trials)
    finally:
        study.close()
    summary = queries.summary(study.name, storage, top=5)
    console.print()
    console.print(summary_view(summary))
    say(f"\n{finished.reason}")
    if summary["best"] is not None:
        export_and_say(study.name, storage, which="best", out=export)
    if not finished.complete:
        say(f"continue with: {invoked_as()} resume {study.name}")
    if summary["best"] is None:
        sys.exit(1)
