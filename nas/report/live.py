"""A search as it runs: bars and charts where there is a terminal, a line per trial everywhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

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
from nas.report.charts import bars, front, labeled, rise
from nas.report.text import duration, giga, mega, scored
from nas.study.outcomes import Outcome
from nas.study.proposals import CONFIRMATION, SEARCHED
from nas.study.tasks import TOP1

_AN_HOUR = 3600.0


class Live:
    """Shows the events of a running study; a context manager around its run.

    plain: lines only, as without a terminal. The lines are the same either way: what stands below
    them, bars and charts of the best so far and of score against FLOPs, is gone in the end.
    """

    def __init__(self, console: Console, *, plain: bool = False) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            speed_estimate_period=_AN_HOUR,  # a trial may take minutes
        )
        self.metric = TOP1
        self.phase: TaskID | None = None
        self.confirming: TaskID | None = None
        self.trials: dict[int, TaskID] = {}
        self.names: dict[int, str] = {}
        self.flops: dict[int, int] = {}
        self.scores: list[tuple[int, float]] = []  # FLOPs and score, in the order they ended
        self.failed: Counter[str] = Counter()
        self.ended = 0
        self.began = time.monotonic()
        shown = console.is_terminal and not plain
        self.screen = (
            Screen(console=console, get_renderable=self.view, transient=True, refresh_per_second=4)
            if shown
            else None
        )

    def __enter__(self) -> Live:
        if self.screen is not None:
            self.screen.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.screen is not None:
            self.screen.stop()

    def view(self) -> RenderableType:
        """Return what stands below the lines."""
        parts: list[RenderableType] = [self.bars]
        if self.scores:
            parts.append(Columns(map(Text, self._charts()), padding=(0, 4)))
        if self.ended:
            pace = (time.monotonic() - self.began) / self.ended
            failures = ", ".join(f"{n} {kind}" for kind, n in list(self.failed.items()))
            hourly = f"{_AN_HOUR / max(pace, 1e-3):,.0f} an hour"
            parts.append(Text(f"{duration(pace)} a trial, {hourly}; failed: {failures or 'none'}"))
        return Group(*parts)

    def _charts(self) -> list[str]:
        """Return the best so far by trials, and the front by FLOPs."""
        best, costs = rise([score for _, score in self.scores]), [cost for cost, _ in self.scores]
        many = f"after 1 to {len(self.scores)} candidates"
        between = f"FLOPs {giga(min(costs))} to {giga(max(costs))}"
        charts = (
            ("best so far", best, many),
            ("at most so many FLOPs", front(self.scores), between),
        )
        return [
            labeled(
                f"{self.metric.metric}, {title}",
                bars(values),
                (scored(values[0], self.metric), scored(values[-1], self.metric)),
                foot,
            )
            for title, values, foot in charts
        ]

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
                score = scored(event.score, self.metric)
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
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _begin(self, event: StudyStarted) -> None:
        verb = "continuing" if event.continued else "study"
        self._say(f"{verb} {event.study} in {event.storage}")
        self.metric = event.metric
        if event.trials == 0:
            return  # a study that only compares says what it compares
        self._say(
            f"{event.trials} candidates wanted, {event.done} done; "
            f"{event.baselines} published designs as baselines"
        )
        self.phase = self.bars.add_task(
            "exploring", total=event.trials, completed=event.done, note="no score yet"
        )

    def _confirming(self, event: Confirming) -> None:
        many = f"{len(event.names)} designs with {event.seeds} fresh seeds each, on the test split"
        self._say(f"confirming {many}: {', '.join(event.names)}")
        self.confirming = self.bars.add_task(
            "confirming", total=len(event.names) * event.seeds, note=""
        )
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
        self.flops[event.trial] = event.flops
        self.trials[event.trial] = self.bars.add_task(
            f"trial {event.trial} {name}{again}", total=event.epochs, note=""
        )

    def _epoch(self, event: EpochDone) -> None:
        if (task := self.trials.get(event.trial)) is not None:
            found = event.metrics.get("score")
            found = event.metrics.get("val_top1") if found is None else found
            note = f"{self.metric.metric} {scored(found, self.metric)}"
            self.bars.update(task, completed=event.epoch, note=note)

    def _drop(self, trial: int) -> None:
        if (task := self.trials.pop(trial, None)) is not None:
            self.bars.remove_task(task)

    def _finished(self, event: TrialFinished) -> None:
        self._drop(event.trial)
        what = self.names.pop(event.trial, "")
        flops = self.flops.pop(event.trial, 0)
        self.ended += 1
        searched = event.role in SEARCHED and event.outcome is Outcome.COMPLETE
        if searched and event.score is not None:
            self.scores.append((flops, event.score))
        if event.outcome not in (Outcome.COMPLETE, Outcome.PRUNED):
            self.failed[event.outcome.value] += 1
        if event.outcome is Outcome.COMPLETE:
            result = f"{scored(event.score, self.metric)}  {event.seconds or 0:5.1f} s"
        else:
            result = f"{event.outcome.value}: {event.error}"
        mark = "  best so far" if event.best else ""
        self._say(f"trial {event.trial:>3}  {what}  {result}{mark}")
        if self.confirming is not None and event.role == CONFIRMATION:
            self.bars.advance(self.confirming)
        if self.phase is not None:
            self.bars.update(self.phase, completed=event.done)
            if event.best:
                note = f"best {scored(event.score, self.metric)} (trial {event.trial})"
                self.bars.update(self.phase, note=note)
