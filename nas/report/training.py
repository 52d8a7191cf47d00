"""A full training as it goes, and what came of it; an evaluation."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from nas.report.console import console, say, table
from nas.report.text import duration, percent

if TYPE_CHECKING:
    from nas.full_training.run import Epoch, Update


class Shown:
    """Shows a training below its lines: updates, pace, time that is left."""

    def __init__(self, plain: bool) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=plain or not console.is_terminal,
        )
        self.task: Any = None

    def __enter__(self) -> Shown:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, event: Update | Epoch) -> None:
        """Show what has just been done."""
        if hasattr(event, "scores"):
            self._epoch(event)
        else:
            self._update(event)

    def _update(self, event: Any) -> None:
        if self.task is None:
            self.task = self.bar.add_task("training", total=event.updates, note="")
        note = f"epoch {event.epoch + 1}, lr {event.lr:.1e}"
        self.bar.update(self.task, completed=event.done, note=note)

    def _epoch(self, event: Any) -> None:
        shown = "  ".join(f"{name} {_value(name, v)}" for name, v in event.scores.items())
        say(
            f"epoch {event.epoch:>3}/{event.epochs}  loss {event.train_loss:.4f}  validation "
            f"{shown}  {duration(event.seconds)}"
        )


def trained_view(data: dict[str, Any]) -> RenderableType:
    """Show a finished training."""
    test = "  ".join(_scored(name, score) for name, score in data["test"].items())
    lines = [
        f"{data['arch']} on {data['data']} at {data['image_size']} px: {data['updates']} updates "
        f"in {duration(data['seconds'])}",
        f"test split: {test}",
        f"weights, checkpoint, recipe and TensorBoard's events in {data['folder']}",
    ]
    return Group(*(Text(line) for line in lines))


def evaluation_view(data: dict[str, Any]) -> RenderableType:
    """Show the scores of weights, a row a size."""
    names = [name for name in data["sizes"][0]["scores"] if name != "loss"]
    rows = [
        [
            row["image_size"],
            row["images"],
            *(_interval(row["scores"][name]) for name in names),
            f"{row['scores']['loss']['value']:.4f}",
            f"{row['crop_pct']:.3f}",
            f"{row['images_s']:.1f}",
            "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
        ]
        for row in data["sizes"]
    ]
    columns = ["size", "images", *names, "loss", "crop", "images/s", "peak MiB"]
    title = f"{data['arch']} on {data['data']} ({data['device']}); in brackets 95 % intervals"
    numeric = "size images loss crop images/s"
    return table(columns, rows, title=title, numeric=numeric)


def _scored(name: str, score: dict[str, Any]) -> str:
    return (
        f"{name} {_interval(score) if score['low'] is not None else _value(name, score['value'])}"
    )


def _interval(score: dict[str, Any]) -> str:
    if score["low"] is None:
        return percent(score["value"])
    return f"{percent(score['value'])} [{percent(score['low'])}, {percent(score['high'])}]"


def _value(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "loss" else percent(value)
