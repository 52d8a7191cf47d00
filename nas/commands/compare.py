"""Commands that ask what a choice, a proxy or a study is worth, and train what it takes to say."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.options import (
    DEFAULT_STORAGE,
    LOOK_ROOM,
    STUDY_ROOM,
    ImageSizeOption,
    JsonOption,
    Machines,
    StorageOption,
    completing,
    preset_names,
    space_names,
    with_options,
)

if TYPE_CHECKING:
    from nas.api import Where
    from nas.driver.running import Executor
    from nas.driver.studies import Study
    from nas.study.comparison import Asked

app = typer.Typer()


def _tables() -> list[str]:
    from search_spaces import list_ablations

    return list_ablations()


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an ablation asks, and of what."""

    space: Annotated[
        str | None,
        typer.Option(
            help="Space of the choice; without ARCH, its base is changed.",
            autocompletion=completing(space_names),
        ),
    ] = None
    choice: Annotated[str | None, typer.Option(help="The choice, e.g. scan.")] = None
    levels: Annotated[
        str | None, typer.Option(help="Levels to compare, with ; between; default: all.")
    ] = None
    table: Annotated[
        str | None,
        typer.Option(
            help="In place of a choice: a paper's ablation table.",
            autocompletion=completing(_tables),
        ),
    ] = None
    data: Annotated[
        str | None, typer.Option(help="scenes, digits, relations, photographs or folder:PATH.")
    ] = None
    recipe: Annotated[Path | None, typer.Option(help="YAML recipe of the trainings.")] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per training.")] = None
    margin: Annotated[
        float | None,
        typer.Option(
            help="Difference too small to care for, in the score (0.02 of top-1: two points)."
        ),
    ] = None
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Common seeds: at most 12; of a table: 5.")
    ] = None
    controls: Annotated[
        bool, typer.Option(help="Train designs too that ought to be worse: random paths.")
    ] = True
    budget: Annotated[
        str | None, typer.Option(help="Cost of all designs; default: the unchanged one's FLOPs.")
    ] = None
    image_size: ImageSizeOption = 224
    backend: Annotated[str, typer.Option(help="Scan kernels, as in search.")] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    seed: Annotated[int, typer.Option(min=0)] = 0

    def named(self) -> dict[str, Any]:
        """Return the keywords of `nas.questions.ask_ablation`."""
        levels = None if self.levels is None else [v.strip() for v in self.levels.split(";")]
        return vars(self) | {"levels": levels}


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def ablate(
    arch: Annotated[
        str | None,
        typer.Argument(
            help="Preset or config file that is changed.", autocompletion=completing(preset_names)
        ),
    ] = None,
    *,
    study: Annotated[
        str | None, typer.Option(help="Name; default: from the question, which it continues.")
    ] = None,
    question: Question,
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Say whether one choice matters here, at equal FLOPs; stops when the answer is clear."""
    from nas.questions import ask_ablation

    where = where_of(machines)
    given = question.named() | {"study": study, "storage": storage}
    opened, asked, executor = ask_ablation(arch, where, **given)
    run_and_show(opened, asked, storage, executor, plain=machines.plain)


def where_of(machines: Machines) -> Where:
    """Return where trials train, as `nas.api` has it."""
    from nas.api import Where

    return Where.of({k: v for k, v in vars(machines).items() if k != "plain"})


def run_and_show(
    study: Study, asked: Asked, storage: str, executor: Executor, *, plain: bool
) -> None:
    """Ask a study, train what it takes, print what was found; exit with 1 where it is unfinished.

    The study is closed.
    """
    from nas.driver.running import run
    from nas.report.comparisons import comparisons_view
    from nas.report.console import console, say
    from nas.report.live import Live
    from nas.report.text import invoked_as
    from nas.store import queries

    try:
        study.compare(asked)
        with Live(console, plain=plain) as live:
            finished = run(study, executor, live)
    finally:
        study.close()
    for part in comparisons_view(queries.summary(study.name, storage, top=1)):
        console.print(part)
    say(f"\n{finished.reason}")
    if not finished.complete:
        say(f"continue with: {invoked_as()} resume {study.name}")
        sys.exit(1)


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def fidelity(
    study: str,
    *,
    designs: Annotated[int, typer.Option(min=5, help="Candidates to train longer.")] = 8,
    times: Annotated[
        list[float] | None, typer.Option(help="How many times longer; may be repeated: 4 and 10.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML recipe to train with, in place of --times.")
    ] = None,
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Train a sample of candidates longer: does the proxy rank as longer trainings do?"""
    from nas.questions import ask_fidelity

    given: dict[str, Any] = {"designs": designs, "times": times, "recipe": recipe}
    opened, asked, executor = ask_fidelity(study, where_of(machines), storage=storage, **given)
    run_and_show(opened, asked, storage, executor, plain=machines.plain)


@app.command(rich_help_panel=LOOK_ROOM)
def analyze(study: str, storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """Say what each choice of a study does to the score, with intervals, from its own trials."""
    from nas.report.analyses import analysis_view, analyze_study
    from nas.report.console import emit

    emit(analyze_study(study, storage), json, analysis_view)
