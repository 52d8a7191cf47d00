"""Commands that only look: at studies, architectures, spaces and this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from nas.commands.options import (
    DEFAULT_STORAGE,
    LOOK_ROOM,
    ImageSizeOption,
    JsonOption,
    StorageOption,
    completing,
    preset_names,
    space_names,
    with_options,
)

app = typer.Typer()


@app.command(rich_help_panel=LOOK_ROOM)
def studies(storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """List the studies of a database."""
    from nas.report.console import emit
    from nas.report.studies import studies_table
    from nas.store import queries

    emit(queries.studies(storage), json, studies_table)


@app.command(rich_help_panel=LOOK_ROOM)
def status(study: str, storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """Say what runs, what waits, what failed and why, and when it will be done."""
    from nas.driver import status as at_work
    from nas.report.console import emit
    from nas.report.studies import status_view

    emit(at_work.status(study, storage), json, status_view)


@app.command(rich_help_panel=LOOK_ROOM)
def show(
    study: str,
    trial: Annotated[int | None, typer.Option(help="One trial in full.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the leaderboard.")] = 10,
    format: Annotated[
        str | None,
        typer.Option(
            help="All trials as a table: csv, json or parquet.",
            autocompletion=completing(lambda: ("csv", "json", "parquet")),
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for --format; printed, or STUDY.parquet, otherwise.")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    json: JsonOption = False,
) -> None:
    """Show the leaderboard, the baselines and the Pareto front, one trial, or a table of all."""
    from nas.report.console import emit
    from nas.report.studies import summary_view, trial_view
    from nas.report.text import invoked_as
    from nas.store import queries

    if format is not None:
        from nas.report.tables import write_table

        write_table(study, queries.trials(study, storage), format, out)
    elif trial is None:
        emit(queries.summary(study, storage, top=top), json, summary_view)
    else:
        found = queries.trial(study, storage, trial)
        found["rerun"] = f"{invoked_as()} {found['rerun']}"
        emit(found, json, trial_view)


_OVER_SIZES = "Over sizes (--sweep)"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What `profile` measures over sizes; options of it."""

    sweep: Annotated[
        str | None,
        typer.Option(help="Sizes: 224:1024, or 224,512x2048.", rich_help_panel=_OVER_SIZES),
    ] = None
    against: Annotated[
        str, typer.Option(help="timm's models beside it, by comma.", rich_help_panel=_OVER_SIZES)
    ] = ""
    batches: Annotated[
        str, typer.Option(help="Images at a time, by comma.", rich_help_panel=_OVER_SIZES)
    ] = "1"
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Compiled, too.", rich_help_panel=_OVER_SIZES)
    ] = False
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda.", rich_help_panel=_OVER_SIZES)
    ] = None
    picture: Annotated[
        Path | None,
        typer.Option(help="File ending in .svg, .png or .pdf.", rich_help_panel=_OVER_SIZES),
    ] = None

    def run(self, arch: str, json: bool) -> None:
        """Measure and print; draw where a file is named."""
        from nas.report.console import emit, say
        from nas.report.drawings.sweeps import draw_sweep
        from nas.report.sweep import MODES, parse_batches, parse_sweep, sweep, sweep_view

        report = sweep(
            arch,
            parse_sweep(self.sweep or ""),
            batches=parse_batches(self.batches),
            against=[name for name in self.against.split(",") if name],
            modes=MODES if self.compiled else MODES[:1],
            device=self.device,
        )
        emit(report, json, sweep_view)
        if self.picture is not None:
            written = draw_sweep(report, self.picture)
            if not json:
                say(f"wrote {written}")


@app.command(rich_help_panel=LOOK_ROOM)
@with_options
def profile(
    arch: Annotated[
        str,
        typer.Argument(
            help="Preset, config or exported file, or timm:NAME.",
            autocompletion=completing(preset_names),
        ),
    ],
    image_size: ImageSizeOption = 224,
    convention: Annotated[
        str,
        typer.Option(help="fvcore or macs.", autocompletion=completing(lambda: ("fvcore", "macs"))),
    ] = "fvcore",
    verify: Annotated[
        bool, typer.Option("--verify", help="Build the model and compare with fvcore's count.")
    ] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Measure images per second.")] = False,
    over_sizes: Sweep = Sweep(),
    json: JsonOption = False,
) -> None:
    """Show parameters and FLOPs per stage and component, or time and memory over sizes."""
    from nas.report.architectures import profile, profile_view
    from nas.report.console import emit

    if over_sizes.sweep is not None:
        over_sizes.run(arch, json)
        return
    report = profile(
        arch, image_size=image_size, convention=convention, verify=verify, latency=latency
    )
    emit(report, json, profile_view)


@app.command(rich_help_panel=LOOK_ROOM)
def presets(json: JsonOption = False) -> None:
    """List the published backbones."""
    from nas.report.architectures import presets, presets_table
    from nas.report.console import emit

    emit(presets(), json, presets_table)


@app.command(rich_help_panel=LOOK_ROOM)
def spaces(
    name: Annotated[
        str | None,
        typer.Argument(help="Shipped space or YAML file.", autocompletion=completing(space_names)),
    ] = None,
    image_size: ImageSizeOption = 224,
    json: JsonOption = False,
) -> None:
    """List the shipped search spaces, or explain one and what its published designs cost."""
    from nas.report.console import emit
    from nas.report.spaces import explain, listing, space_view, spaces_table

    if name is None:
        emit(listing(), json, spaces_table)
    else:
        emit(explain(name, image_size), json, space_view)


@app.command(rich_help_panel=LOOK_ROOM)
def schema(
    sort: Annotated[
        Literal["space", "config", "recipe", "training"], typer.Argument(help="Sort of file.")
    ],
) -> None:
    """Print the JSON Schema of a sort of file, for editors that complete and check YAML."""
    from nas.report.schemas import schema_text

    print(schema_text(sort), end="")


@app.command(rich_help_panel=LOOK_ROOM)
def doctor(json: JsonOption = False) -> None:
    """Report devices, scan backends and versions, and why something is unavailable."""
    from nas.report.console import emit
    from nas.report.doctor import doctor_view, examine

    emit(examine(), json, doctor_view)
