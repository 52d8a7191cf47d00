"""Commands that show pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import (
    DEFAULT_STORAGE,
    LOOK_ROOM,
    ImageSizeOption,
    StorageOption,
    completing,
    preset_names,
    space_names,
)

app = typer.Typer()


def _subjects() -> list[str]:
    from backbones.registry import ORDERS

    return [*ORDERS.places, *preset_names(), *space_names()]


@app.command(rich_help_panel=LOOK_ROOM)
def draw(
    what: Annotated[
        str,
        typer.Argument(
            help="Scan order, preset, space, or a file; order:, arch: or space: tells which.",
            autocompletion=completing(_subjects),
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File ending in .svg, .png or .pdf.", show_default=False)
    ] = None,
    grid: Annotated[str, typer.Option(help="Tokens, HxW, on which an order is drawn.")] = "14x14",
    image_size: ImageSizeOption = 224,
) -> None:
    """Draw a scan order as paths, an architecture as blocks, or a space as a tree."""
    from nas.report.console import say
    from nas.report.drawings.subjects import draw, find_subject, parse_grid

    sides = parse_grid(grid)
    sort, name = find_subject(what)
    plain = "order" if name.startswith("{") else Path(name).stem
    path = out or Path("runs") / "drawings" / f"{sort}-{plain}.svg"
    say(f"wrote {draw(what, path, grid=sides, image_size=image_size)}")


@app.command(rich_help_panel=LOOK_ROOM)
def inspect(
    arch: Annotated[
        str,
        typer.Argument(
            help="Preset, config file or exported file.", autocompletion=completing(preset_names)
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Trained weights, or a released checkpoint.", show_default=False),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Image or folder, again for more.", show_default="two photographs"),
    ] = None,
    image_size: ImageSizeOption = 224,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights before training.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default=False)
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the single pictures.")] = None,
) -> None:
    """Show what a network looks at: its reach, its scans token by token, its quadtrees."""
    from nas.report.console import say
    from nas.report.inspection.page import inspect, write_inspection

    found = inspect(arch, weights=weights, images=images or [], image_size=image_size, seed=seed)
    path = out or Path("runs") / "inspections" / f"{found.name}.html"
    for written in write_inspection(found, path, png):
        say(f"wrote {written}")


@app.command(rich_help_panel=LOOK_ROOM)
def report(
    study: str,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default=False)
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the single figures, as PNG.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Of the best candidate, trained: for its quadtrees.")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Write a study as one page with figures and pictures, which needs no network."""
    from nas.report.console import say
    from nas.report.html.page import write_report

    path = out or Path("runs") / "reports" / f"{study}.html"
    for written in write_report(study, storage, path, png, weights):
        say(f"wrote {written}")


@app.command(rich_help_panel=LOOK_ROOM)
def dashboard(
    study: Annotated[str | None, typer.Argument(help="Whose page to name.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8080,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Show studies in Optuna's dashboard, on this machine alone, until interrupted."""
    from nas.report.console import say
    from nas.report.dashboard.serving import serve

    serve(study, storage, port, ready=lambda address: say(f"dashboard at {address}"))
