"""Commands that keep something of a study or a checkpoint: export, convert, train again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import (
    DEFAULT_STORAGE,
    STUDY_ROOM,
    StorageOption,
    completing,
    preset_names,
)

app = typer.Typer()


@app.command(rich_help_panel=STUDY_ROOM)
def export(
    study: str,
    trial: Annotated[str, typer.Option(help="A number, best, or pareto.")] = "best",
    out: Annotated[Path | None, typer.Option(help="File (pareto: folder) to write.")] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Write seeded initial weights beside it.")
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Write a design as a config that rebuilds the identical model, and prove that it does."""
    export_and_say(study, storage, which=trial, out=out, weights=weights)


def export_and_say(
    study: str, storage: str, *, which: str, out: Path | None, weights: bool = False
) -> None:
    """Export designs; name the files that were written and what to do with them."""
    from nas.export.trials import export_trials
    from nas.report.console import say
    from nas.report.text import invoked_as

    for trial, path in export_trials(study, storage, which=which, out=out, weights=weights):
        say(
            f"trial {trial} exported to {path}, rebuilt from it in a fresh interpreter and equal\n"
            f"look at it with: {invoked_as()} profile {path}"
        )


@app.command(rich_help_panel=STUDY_ROOM)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Released checkpoint (.pth, .safetensors).")],
    preset: Annotated[
        str,
        typer.Option(
            help="The preset that the weights belong to.", autocompletion=completing(preset_names)
        ),
    ],
    out: Annotated[Path, typer.Option(help="Safetensors file to write.")],
) -> None:
    """Rewrite an official checkpoint with this project's keys, every key accounted for."""
    from backbones import convert_checkpoint

    convert_checkpoint(checkpoint, preset, out)
    print(f"wrote {out}: all keys of {preset} found, none left over")


@app.command("run-trial", rich_help_panel=STUDY_ROOM)
def run_trial(study: str, trial: int, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Train one recorded trial again, alone, and compare its score with the recorded one."""
    from nas.errors import StudyError
    from nas.executors.rerun import rerun_trial
    from nas.report.console import say
    from nas.report.text import scored

    again = rerun_trial(study, storage, trial)
    if again.error is not None:
        raise StudyError(f"trial {trial} ended as {again.outcome} again: {again.error}")
    verdict = "the same, bit for bit" if again.same else "DIFFERENT"
    recorded, now = (scored(s, again.metric, 4) for s in (again.recorded, again.score))
    say(f"{study} trial {trial} on {again.backend}: recorded {recorded}, now {now}: {verdict}")
    if not again.same:
        sys.exit(1)
