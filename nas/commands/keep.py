"""Commands that keep something of a study or a checkpoint: export, convert, train again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.commands.options import (
    DEFAULT_STORAGE,
    STUDY_ROOM,
    StorageOption,
    completing,
    preset_names,
    read_image_size,
)

app = typer.Typer()


@app.command(rich_help_panel=STUDY_ROOM)
def export(
    what: Annotated[str, typer.Argument(metavar="STUDY|ARCH", help="A study, or an architecture.")],
    trial: Annotated[str, typer.Option(help="A number, best, or pareto.")] = "best",
    out: Annotated[Path | None, typer.Option(help="File (pareto: folder) to write.")] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Write seeded initial weights beside it.")
    ] = False,
    onnx: Annotated[
        Path | None, typer.Option(help="ONNX file to write, checked with onnxruntime.")
    ] = None,
    timm: Annotated[
        Path | None, typer.Option(help="Folder to write that timm loads as local-dir:.")
    ] = None,
    image_size: Annotated[
        Any,
        typer.Option(parser=read_image_size, metavar="SIDE|HxW", help="Input of the ONNX file."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Trained or released weights for ONNX and timm.")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Write a design as a config that rebuilds the identical model, and prove that it does."""
    from nas.export.ship import check_wanted, is_architecture

    arch = is_architecture(what)
    if arch or onnx is not None or timm is not None:
        check_wanted(onnx, timm, checkpoint)
    paths = [Path(what)]
    if not arch:
        paths = export_and_say(what, storage, which=trial, out=out, weights=weights)
    if onnx is not None or timm is not None:
        _ship(paths, onnx, timm, image_size, checkpoint)


def _ship(
    paths: list[Path],
    onnx: Path | None,
    timm: Path | None,
    image_size: Any,
    checkpoint: Path | None,
) -> None:
    from backbones.image_size import sides
    from nas.errors import StudyError
    from nas.export.onnx import check_exportable, write_onnx
    from nas.export.ship import load
    from nas.export.timm_folder import write_timm
    from nas.report.console import say

    if len(paths) > 1:
        raise StudyError("--onnx and --timm take one design; name it by --trial")
    cargo = load(str(paths[0]), checkpoint)
    size = cargo.size if image_size is None else sides(image_size)
    if onnx is not None:
        check_exportable(cargo.config)
    if timm is not None:
        write_timm(timm, cargo)
        say(f"{cargo.name} for timm in {timm}; its weights: {cargo.weights}")
    if onnx is not None:
        error = write_onnx(onnx, cargo.model, size)
        say(
            f"{cargo.name} at {size[0]}x{size[1]} pixels in {onnx}; onnxruntime gives PyTorch's "
            f"logits within {error:.0e}; its weights: {cargo.weights}"
        )


def export_and_say(
    study: str, storage: str, *, which: str, out: Path | None, weights: bool = False
) -> list[Path]:
    """Export designs; name the files that were written and what to do with them; return them."""
    from nas.export.trials import export_trials
    from nas.report.console import say
    from nas.report.text import invoked_as

    written = export_trials(study, storage, which=which, out=out, weights=weights)
    for trial, path in written:
        say(
            f"trial {trial} exported to {path}, rebuilt from it in a fresh interpreter and equal\n"
            f"look at it with: {invoked_as()} profile {path}"
        )
    return [path for _, path in written]


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
