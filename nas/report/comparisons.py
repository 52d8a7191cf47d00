"""What was asked of a study's designs beside a search, and what was found, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from nas.evidence.findings import (
    Ablation,
    Beside,
    Fidelities,
    Probes,
    PublishedTable,
    ablation_sentences,
    fidelity_sentences,
    table_sentences,
)
from nas.evidence.words import Unit, difference, plural
from nas.report.console import table
from nas.report.probes import probes_view
from nas.report.text import giga, invoked_as, mega
from nas.study.comparison import (
    NO_FINDING,
    AblationAsked,
    FidelityAsked,
    Held,
    ProbeAsked,
    TableAsked,
)


def comparisons_view(summary: dict[str, Any]) -> list[RenderableType]:
    """Render the comparisons of `nas.store.queries.summary`."""
    parts: list[RenderableType] = []
    for data in summary["comparisons"]:
        held = Held.model_validate(data)
        if isinstance(held.asked, AblationAsked):
            parts += _ablation(held, held.asked, summary)
        elif isinstance(held.asked, TableAsked):
            parts += _table(held, held.asked, summary)
        elif isinstance(held.asked, ProbeAsked):
            parts += [Text(), *_unknown(held)]
            if held.found is not None and "probes" in held.found:
                parts += probes_view(Probes.model_validate(held.found), held.asked)
        else:
            parts += _fidelity(held, len(held.asked.designs))
    return parts


def _ablation(held: Held, asked: AblationAsked, summary: dict[str, Any]) -> list[RenderableType]:
    head = f"{asked.choice} of {asked.subject}, {_trained(summary)}"
    parts: list[RenderableType] = [Text(), Text(head, "bold"), *_unknown(held)]
    if held.found is None or NO_FINDING in held.found:
        return [*parts, *_left_out(asked.left_out, asked.notes)]
    found = Ablation.model_validate(held.found)
    against = {c.other: c for c in found.comparisons}
    rows = [
        (
            d.name,
            "best" if d.name == found.best else _gap(against[d.name].estimate, found.unit),
            giga(d.flops),
            mega(d.params),
        )
        for d in asked.designs
        if d.name in against or d.name == found.best
    ]
    columns = ("level", "to the best", "FLOPs", "params")
    parts += [table(columns, rows, numeric="FLOPs params"), Text()]
    said = ablation_sentences(found)
    parts += [Text(said[0], "bold"), *(Text(line) for line in said[1:])]
    if found.outcome == "not resolved" and found.more_seeds is not None:
        wanted = max(asked.seeds, found.seeds + found.more_seeds)
        parts.append(Text(f"for more power: the same command with --seeds {wanted}"))
    return [*parts, *_left_out(asked.left_out, asked.notes)]


def _table(held: Held, asked: TableAsked, summary: dict[str, Any]) -> list[RenderableType]:
    head = f"{asked.table} ({asked.source}), {_trained(summary)}"
    parts: list[RenderableType] = [Text(), Text(head, "bold"), *_unknown(held)]
    if held.found is not None and NO_FINDING not in held.found:
        found = PublishedTable.model_validate(held.found)
        parts += [table_of(found, asked.metrics), Text()]
        parts += [Text(line) for line in table_sentences(found)]
    return [*parts, *_left_out(asked.left_out, ())]


def fidelity_lines(summary: dict[str, Any]) -> list[str]:
    """Say what longer trainings found of the search's ranking; nothing where none were asked."""
    asked = (Held.model_validate(data) for data in summary["comparisons"])
    lines: list[str] = []
    for held in asked:
        if isinstance(held.asked, FidelityAsked):
            parts = _fidelity(held, len(held.asked.designs))[1:]
            lines += [part.plain for part in parts if isinstance(part, Text)]
    return lines


def _fidelity(held: Held, designs: int) -> list[RenderableType]:
    """Render how far longer trainings bear a search's ranking out; a low figure is a warning."""
    head = f"fidelity of the search's recipe, by {plural(designs, 'design')} trained longer"
    parts: list[RenderableType] = [Text(), Text(head, "bold"), *_unknown(held)]
    if held.found is None or NO_FINDING in held.found:
        return parts
    found = Fidelities.model_validate(held.found)
    for one in found.longer:
        style = "yellow" if one.low else ""
        parts += [Text(line, style) for line in fidelity_sentences(one)]
    return [*parts, *(Text(f"{n}: a longer run failed, left out") for n in found.failed)]


def table_of(found: PublishedTable, metrics: dict[str, str]) -> RenderableType:
    """Render a paper's table and ours side by side."""
    names = [m for m in metrics if any(m in dict(r.published) for r in found.rows)]
    columns = ("paper's best", "against", *(metrics[m] for m in names), "here", "agreement")
    rows = [
        (
            r.comparison.design,
            r.comparison.other,
            *(_points(dict(r.published).get(m)) for m in names),
            _interval(r, found.unit),
            _agreement(r),
        )
        for r in found.rows
    ]
    return table(columns, rows, numeric="here")


def _interval(row: Beside, unit: Unit) -> str:
    c = row.comparison
    return (
        f"{difference(c.estimate, unit, bare=True)} ({difference(c.low, unit, bare=True)} to "
        f"{difference(c.high, unit, bare=True)})"
    )


def _agreement(row: Beside) -> str:
    said = dict(row.agreement)
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{word} ({metric})" for metric, word in said.items()) or "-"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _gap(estimate: float, unit: Unit) -> str:
    return difference(-estimate, unit)


def _trained(summary: dict[str, Any]) -> str:
    recipe = summary["study"]["recipe"]
    grid = recipe["image_size"] // recipe["stem_stride"]
    return (
        f"{recipe['task']} on {recipe['dataset']}, {grid} x {grid} tokens, "
        f"{plural(recipe['epochs'], 'epoch')}, at {', '.join(summary['study']['budget'])}"
    )


def _unknown(held: Held) -> list[RenderableType]:
    if held.found is not None and NO_FINDING in held.found:
        return [Text(f"no finding: {held.found[NO_FINDING]}", "yellow")]
    if held.done:
        return []
    what = "nothing yet" if held.found is None else "what is known so far"
    return [Text(f"not finished: {what}; `{invoked_as()} resume` goes on", "yellow")]


def _left_out(
    left_out: tuple[tuple[str, str], ...], notes: tuple[str, ...]
) -> list[RenderableType]:
    said = [*(f"{name}: left out, {why}" for name, why in left_out), *notes]
    return [Text(line) for line in said]
