"""Options that several commands share, each declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from nas.api import DEFAULT_STORAGE as DEFAULT_STORAGE

if TYPE_CHECKING:
    from backbones.image_size import ImageSize

STUDY_ROOM, LOOK_ROOM = "Search", "Look"
_MACHINES = "Where trials run"

StorageOption = Annotated[
    str, typer.Option(help="Database URL.", envvar="SCANNAS_STORAGE", show_envvar=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def read_image_size(text: object) -> ImageSize:
    """Read a size as `backbones.image_size.parse_image_size`, which is imported on use."""
    from backbones.image_size import parse_image_size

    return parse_image_size(str(text))


ImageSizeOption = Annotated[
    Any,  # an ImageSize, which typer does not know
    typer.Option(
        parser=read_image_size,
        metavar="SIDE|HxW",
        help="Pixels at which cost is counted: 512x2048.",
    ),
]


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a shell completion that offers those of `names()` that begin as typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def space_names() -> list[str]:
    """Return the shipped spaces; torch stays unloaded, as in all completions."""
    from search_spaces import list_spaces

    return list_spaces()


def preset_names() -> list[str]:
    """Return the published backbones."""
    from backbones import list_presets

    return list_presets()


def strategy_names() -> list[str]:
    """Return the strategies."""
    from nas.planning.strategies import list_strategies

    return list_strategies()


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The fields of `nas.api.Where`, as options of every command that trains; and --plain."""

    timeout: Annotated[
        float | None, typer.Option(min=1, help="Stop starting trials after S seconds.")
    ] = None
    trial_timeout: Annotated[
        float | None, typer.Option(min=1, help="End a trial after S seconds, as `timeout`.")
    ] = None
    stall: Annotated[
        float | None,
        typer.Option(
            min=1, help="End a trial that makes no batch for S seconds; default: by its own pace."
        ),
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="End when N candidates in a row move the best by no more than its noise."
        ),
    ] = None
    data_dir: Annotated[str | None, typer.Option(help="Where timm data sets lie.")] = None
    executor: Annotated[
        str,
        typer.Option(
            help="auto, inline or ray.",
            rich_help_panel=_MACHINES,
            autocompletion=completing(lambda: ("auto", "inline", "ray")),
        ),
    ] = "auto"
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time (Ray).", rich_help_panel=_MACHINES)
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs per trial; may be a fraction.", rich_help_panel=_MACHINES),
    ] = None
    cpus_per_trial: Annotated[
        float | None,
        typer.Option(
            min=0, help="CPUs per trial; default: its threads.", rich_help_panel=_MACHINES
        ),
    ] = None
    ray_address: Annotated[
        str | None, typer.Option(help="An existing Ray cluster.", rich_help_panel=_MACHINES)
    ] = None
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Folder of checkpoints; shared on a cluster.", rich_help_panel=_MACHINES),
    ] = None
    max_checkpoint_gb: Annotated[
        float | None,
        typer.Option(min=0, help="What checkpoints may take together.", rich_help_panel=_MACHINES),
    ] = None
    plain: Annotated[
        bool, typer.Option("--plain", help="Print lines only: no bars, no charts.")
    ] = False


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take a dataclass of options: typer sees its fields as the command's own.

    A parameter of `command` that is annotated with a dataclass is replaced by the fields; the
    command is called with an instance.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    seen = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            seen.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=kind))
            continue
        groups[parameter.name] = kind
        types = get_type_hints(kind, include_extras=True)
        seen += [
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if option.default is MISSING else option.default,
                annotation=types[option.name],
            )
            for option in fields(kind)
        ]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{option.name: given.pop(option.name) for option in fields(kind)})
        command(**given)

    call.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    return call
