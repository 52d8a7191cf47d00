"""The command that asks what an order, a block or a backbone can carry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.compare import run_and_show, where_of
from nas.commands.options import (
    DEFAULT_STORAGE,
    STUDY_ROOM,
    Machines,
    StorageOption,
    completing,
    with_options,
)

app = typer.Typer()


def _subjects() -> Iterable[str]:
    from backbones import list_presets
    from backbones.registry import MIXERS, ORDERS

    return [*ORDERS.places, *MIXERS.places, *list_presets()]


@app.command(rich_help_panel=STUDY_ROOM)
@with_options
def probe(
    subjects: Annotated[
        list[str],
        typer.Argument(
            help="Scan orders and mixers, or presets and config files.",
            autocompletion=completing(_subjects),
        ),
    ],
    *,
    task: Annotated[
        list[str] | None, typer.Option(help="relations or reconstruct; default: both.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Common seeds of all networks.")] = 3,
    updates: Annotated[
        int | None, typer.Option(min=2, help="Updates of a run; default: 200 and 250.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU, for a run.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    backend: Annotated[str, typer.Option(help="Scan kernels, as in search.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Picture, .svg, .png or .pdf.", show_default=False)
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name; default: from the subjects, which it continues.")
    ] = None,
    machines: Machines,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Say what an order, a block or a backbone can carry, beside controls; no accuracy."""
    from nas.driver.probing import parse_tasks, probe_name, probe_of
    from nas.driver.studies import start
    from nas.executors.choice import place_for

    where = where_of(machines)
    place = place_for(device, where.ray_address, backend=backend, **where.place())
    settings, asked = probe_of(
        subjects, parse_tasks(task), seeds=seeds, seed=seed, updates=updates, threads=threads
    )
    executor = where.choose(settings, place.device)
    opened = start(study or probe_name(subjects), storage, settings, place)
    run_and_show(opened, asked, storage, executor, plain=machines.plain)
    _draw(opened.name, storage, out)


def _draw(study: str, storage: str, out: Path | None) -> None:
    """Draw what a probe found, if anything was."""
    from nas.evidence.findings import Probes
    from nas.report.console import say
    from nas.report.drawings.probes import probe_figure
    from nas.report.drawings.style import save
    from nas.report.probes import probe_alternative, shortened
    from nas.store import queries
    from nas.study.comparison import Held, ProbeAsked

    summary = queries.summary(study, storage, top=1)
    for held in (Held.model_validate(one) for one in summary["comparisons"]):
        if not isinstance(held.asked, ProbeAsked) or "probes" not in (held.found or {}):
            continue
        found = Probes.model_validate(held.found)
        figure = probe_figure([shortened(one, held.asked) for one in found.probes])
        said = probe_alternative(found, held.asked)
        path = out or Path("runs") / "drawings" / f"{study}.svg"
        say(f"wrote {save(figure, path, title=study, alternative=said)}")
