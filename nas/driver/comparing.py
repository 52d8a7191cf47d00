"""Trains what else is asked of a study: levels of a choice, a paper's table, a longer recipe.

Like a confirmation, what is next is read off the rows each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nas.driver import again
from nas.driver.access import Access, Done, Wait
from nas.driver.progress import Notice
from nas.driver.proposing import Proposing
from nas.errors import StudyError
from nas.evidence import ablation
from nas.evidence.agreement import fidelity
from nas.evidence.findings import Fidelities, Fidelity, Probes
from nas.evidence.paired import Design, Scores
from nas.evidence.probe import means, probe
from nas.evidence.published import beside
from nas.evidence.verdict import Frozen
from nas.evidence.words import Unit
from nas.store import comparisons
from nas.store.tables import Architecture, Run
from nas.study.comparison import (
    NO_FINDING,
    AblationAsked,
    Compared,
    FidelityAsked,
    Held,
    ProbeAsked,
    TableAsked,
)
from nas.study.recipe import Recipe
from nas.study.tasks import metric_of
from nas.training.probes import NO_MIXING

SPLIT = "val"  # the test split is the confirmation's
ERROR = 0.05
# Scores that are not of one part of a task.
_WHOLE = ("loss", "skill", "top1", "miou", "likelihood")


@dataclass(frozen=True)
class Wanted:
    """One training: the design's name, the index of its seed, and the recipe's place or None."""

    name: str
    index: int
    recipe: int | None = None


@dataclass(frozen=True)
class Step:
    """What comes next. found: what is known so far; failed: why nothing can be."""

    wanted: tuple[Wanted, ...]
    found: Frozen | None = None
    failed: str | None = None


class Comparing:
    """Writes one driver's trainings of what is asked of a study's designs."""

    def __init__(self, access: Access, proposing: Proposing) -> None:
        self.access, self.proposing = access, proposing
        self._said: set[str] = set()

    def propose(self, before: Done) -> tuple[Run, Architecture] | Wait | Done:
        """Write the next training, or return the last word when all is answered."""
        access = self.access
        while True:
            held = access.store.read(lambda s: comparisons.read(s, access.study_id))
            open_ones = [one for one in held if not one.done]
            if not open_ones:
                return Done("all that was asked is answered", True) if held else before
            answer = self._next(open_ones[0])
            if answer is not None:
                return answer

    def _next(self, held: Held) -> tuple[Run, Architecture] | Wait | None:
        """Return the next training; None when another driver was faster, or all is known."""
        access, asked = self.access, held.asked
        runs = access.store.read(lambda s: comparisons.trained(s, access.study_id, asked.kind))
        step, started = self._step(held, runs)
        self._say(f"{asked.kind}: {len(asked.designs)} designs train with common seeds")
        self._keep(held, step)
        for wanted in step.wanted:
            if wanted not in started:
                return self._write(held, wanted)
        if step.wanted:
            return Wait(f"{len(step.wanted)} trainings of the {asked.kind} are still running")
        return None

    def _step(self, held: Held, runs: list[Run]) -> tuple[Step, set[Wanted]]:
        asked = held.asked
        unit = metric_of(self.access.settings.recipe.to_dict()).unit
        if isinstance(asked, AblationAsked | TableAsked):
            table, started = table_of(asked.designs, range(asked.seeds), runs)
            if isinstance(asked, AblationAsked):
                step = _ablation(asked, table, unit)
            else:
                step = _table(asked, table, unit)
            return step, {Wanted(*one) for one in started}
        if isinstance(asked, ProbeAsked):
            table, started = table_of(asked.designs, range(asked.seeds), runs)
            return _probe(asked, table, runs), {Wanted(*one) for one in started}
        return self._fidelity(asked, runs, unit)

    def _fidelity(
        self, asked: FidelityAsked, runs: list[Run], unit: Unit
    ) -> tuple[Step, set[Wanted]]:
        """Ask for every design with every longer recipe; find what whole recipes say so far."""
        access = self.access
        known = access.store.read(lambda s: comparisons.searched(s, access.study_id))
        wanted, started, found = [], set(), []
        failed: list[str] = []
        for place, (times, data) in enumerate(asked.recipes):
            recipe_id = Recipe.model_validate(data).fingerprint()
            mine = [r for r in runs if r.recipe_id == recipe_id]
            table, begun = table_of(asked.designs, range(1), mine)
            started |= {Wanted(*one, recipe=place) for one in begun}
            missing = [d.name for d in asked.designs if not table.ended(d.name, 0)]
            wanted += [Wanted(name, 0, place) for name in missing]
            if missing:
                continue
            bad = [d.name for d, f in zip(table.designs, table.failed) if f.any()]
            failed += [name for name in bad if name not in failed]
            longer = dict(zip([d.name for d in table.designs], table.values[:, 0].tolist()))
            kept = [d for d in asked.designs if d.name not in bad]
            try:
                found.append(self._agree(kept, longer, known, times, unit))
            except StudyError as error:
                return Step(tuple(wanted), failed=str(error)), started
        finding = Fidelities(longer=tuple(found), failed=tuple(failed)) if found else None
        return Step(tuple(wanted), finding), started

    def _agree(
        self,
        designs: list[Compared],
        longer: dict[str, float],
        known: dict[str, tuple[float, list[dict[str, Any]]]],
        times: float,
        unit: Unit,
    ) -> Fidelity:
        score_of = self.access.settings.recipe.score_of
        return fidelity(
            [known[d.fingerprint][0] for d in designs],
            [longer[d.name] for d in designs],
            [[score_of(m) for m in known[d.fingerprint][1]] for d in designs],
            times_longer=times,
            unit=unit,
        )

    def _keep(self, held: Held, step: Step) -> None:
        data: Any = (
            None if step.found is None else step.found.model_dump(mode="json", by_alias=True)
        )
        done = not step.wanted
        if done and step.failed is not None:
            self._say(f"no finding: {step.failed}")
            data = {NO_FINDING: step.failed}
        if data == held.found and done == held.done:
            return
        answered = held.model_copy(update={"found": data, "done": done})
        self.access.store.write(
            partial(comparisons.keep, study_id=self.access.study_id, answered=answered),
            durable=True,
        )

    def _write(self, held: Held, wanted: Wanted) -> tuple[Run, Architecture] | None:
        asked = held.asked
        design = next(d for d in asked.designs if d.name == wanted.name)
        recipe = None
        if isinstance(asked, ProbeAsked):
            own = Recipe.model_validate(asked.recipes[design.group])
            if own.fingerprint() != self.access.settings.recipe.fingerprint():
                recipe = own
        elif isinstance(asked, FidelityAsked) and wanted.recipe is not None:
            recipe = Recipe.model_validate(asked.recipes[wanted.recipe][1])
        return again.write(
            self.access,
            self.proposing,
            design,
            role=asked.kind,
            kind=design.role,
            label=design.name,
            index=wanted.index,
            split=SPLIT,
            recipe=recipe,
        )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.access.progress(Notice(text))


def table_of(
    compared: Sequence[Compared], indices: range, runs: list[Run]
) -> tuple[Scores, set[tuple[str, int]]]:
    """Return the scores of a comparison's designs, and which trainings exist."""
    designs = [Design(name=d.name, role=d.role, params=d.params) for d in compared]
    return again.scores_of(designs, {d.fingerprint: d.name for d in compared}, indices, runs)


def _ablation(asked: AblationAsked, table: Scores, unit: Unit) -> Step:
    try:
        step = ablation.plan(
            table,
            choice=asked.choice,
            unit=unit,
            margin=asked.margin,
            seeds=range(asked.seeds),
            allowed=ERROR / asked.looks,
        )
    except StudyError as error:
        return Step((), failed=str(error))
    return Step(tuple(Wanted(*run) for run in step.runs), step.found)


def _seed_by_seed(
    asked: TableAsked | ProbeAsked, table: Scores
) -> tuple[list[str], list[int], tuple[Wanted, ...]]:
    """Return the designs' names, the seeds under which all have ended, and the runs that lack."""
    names = [d.name for d in asked.designs]
    missing = {i: [n for n in names if not table.ended(n, i)] for i in range(asked.seeds)}
    wanted = tuple(Wanted(name, index) for index, lacking in missing.items() for name in lacking)
    return names, [index for index, lacking in missing.items() if not lacking], wanted


def _table(asked: TableAsked, table: Scores, unit: Unit) -> Step:
    """Ask for all runs; find what whole seeds say so far."""
    names, whole, wanted = _seed_by_seed(asked, table)
    if len(whole) < 2:
        return Step(wanted)
    groups: dict[str, list[str]] = {}
    for d in asked.designs:
        groups.setdefault(d.group, []).append(d.name)
    try:
        found = beside(
            table.only(names, whole),
            groups,
            {d.name: d.published for d in asked.designs},
            table=asked.table,
            source=asked.source,
            unit=unit,
            level=1 - ERROR / asked.looks,
        )
    except StudyError as error:
        return Step(wanted, failed=str(error))
    return Step(wanted, found)


def _probe(asked: ProbeAsked, table: Scores, runs: list[Run]) -> Step:
    """Ask for all runs; find what whole seeds say of each task so far."""
    _, whole, wanted = _seed_by_seed(asked, table)
    if len(whole) < 2:
        return Step(wanted)
    of = {d.fingerprint: d.name for d in asked.designs}
    scores = means([(of[r.fingerprint], r.scores) for r in runs if r.scores])
    parts = {n: {k: v for k, v in s.items() if k not in _WHOLE} for n, s in scores.items()}
    found = []
    try:
        for task in asked.recipes:
            own = [d.name for d in asked.designs if d.group == task]
            against = f"{NO_MIXING}, {task}"
            found.append(probe(table.only(own, whole), parts, task=task, against=against))
    except StudyError as error:
        return Step(wanted, failed=str(error))
    return Step(wanted, Probes(probes=tuple(found)))
