"""A search as it runs: bars where there is a terminal, a line per trial everywhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nas.driver.progress import (
    Confirming,
    EpochDone,
    Event,
    Notice,
    Recovered,
    Replayed,
    StudyStarted,
    TrialFinished,
    TrialRequeued,
    TrialStarted,
    Waiting,
)
from nas.report.text import giga, mega, percent
from nas.study.outcomes import Outcome


class Live:
    """Shows the events of a running study; a context manager around its run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self.study: TaskID | None = None
        self.trials: dict[int, TaskID] = {}
        self.names: dict[int, str] = {}

    def __enter__(self) -> Live:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StudyStarted():
                self._begin(event)
            case Recovered():
                self._recovered(event)
            case TrialStarted():
                self._trial(event)
            case EpochDone():
                self._epoch(event)
            case TrialFinished():
                self._finished(event)
            case Replayed():
                score = percent(event.score)
                self._say(
                    f"trial {event.trial:>3}  as trial {event.of_trial}, not trained: {score}"
                )
            case TrialRequeued():
                self._drop(event.trial)
                self._say(f"trial {event.trial:>3}  back in the queue: {event.reason}")
            case Waiting():
                self._say(f"waiting: {event.reason}")
            case Confirming():
                self._confirming(event)
            case Notice():
                self._say(event.text)

    def _say(self, line: str) -> None:
        self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _begin(self, event: StudyStarted) -> None:
        verb = "continuing" if event.continued else "study"
        self._say(f"{verb} {event.study} in {event.storage}")
        self._say(
            f"{event.trials} candidates wanted, {event.done} done; "
            f"{event.baselines} published designs as baselines"
        )
        self.study = self.bars.add_task(
            "study", total=event.trials, completed=event.done, note="no score yet"
        )

    def _confirming(self, event: Confirming) -> None:
        many = f"{len(event.names)} designs with {event.seeds} fresh seeds each, on the test split"
        self._say(f"confirming {many}: {', '.join(event.names)}")
        if event.left_out:
            self._say(
                f"{event.left_out} more candidates may be as good by their one run; "
                "`confirm` with more finalists takes them in"
            )

    def _recovered(self, event: Recovered) -> None:
        self._say(
            f"recovered: {event.requeued} trials queued again, {event.lost} lost; "
            f"{event.waiting} waiting"
        )

    def _trial(self, event: TrialStarted) -> None:
        name = f"{event.label} ({event.role})" if event.label else event.kind
        self.names[event.trial] = f"{name:<30} {giga(event.flops)} FLOPs {mega(event.params):>7}"
        again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
        self.trials[event.trial] = self.bars.add_task(
            f"trial {event.trial} {name}{again}", total=event.epochs, note=""
        )

    def _epoch(self, event: EpochDone) -> None:
        if (task := self.trials.get(event.trial)) is not None:
            top1 = percent(event.metrics.get("val_top1"))
            self.bars.update(task, completed=event.epoch, note=f"top-1 {top1}")

    def _drop(self, trial: int) -> None:
        if (task := self.trials.pop(trial, None)) is not None:
            self.bars.remove_task(task)

    def _finished(self, event: TrialFinished) -> None:
        self._drop(event.trial)
        what = self.names.pop(event.trial, "")
        if event.outcome is Outcome.COMPLETE:
            result = f"{percent(event.score)}  {event.seconds or 0:5.1f} s"
        else:
            result = f"{event.outcome.value}: {event.error}"
        mark = "  best so far" if event.best else ""
        self._say(f"trial {event.trial:>3}  {what}  {result}{mark}")
        if self.study is not None:
            self.bars.update(self.study, completed=event.done)
            if event.best:
                note = f"best {percent(event.score)} (trial {event.trial})"
                self.bars.update(self.study, note=note)
