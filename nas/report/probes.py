"""What orders, mixers and backbones can carry: tables for the terminal, and the picture."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from nas.evidence.findings import Probe, Probed, Probes, probe_sentences
from nas.report.console import table
from nas.study.comparison import ProbeAsked

CAPABILITY = (
    "0 is the best constant answer, 1 a perfect one. This is what a network of this kind can "
    "carry in a short training; it foretells no accuracy."
)


def probes_view(found: Probes, asked: ProbeAsked) -> list[RenderableType]:
    """Render a probe, a table a task."""
    parts: list[RenderableType] = []
    for one in found.probes:
        short = shortened(one, asked)
        parts += [Text(), _table(short), *_parts(short), Text()]
        parts += [Text(line) for line in probe_sentences(short)]
    return [*parts, *(Text(note) for note in asked.notes), Text(CAPABILITY)]


def shortened(found: Probe, asked: ProbeAsked) -> Probe:
    """Return a task's findings with names that leave the task out."""

    def row(r: Probed) -> Probed:
        lead = r.lead
        if lead is not None:
            update = {"design": asked.subject(lead.design), "other": asked.subject(lead.other)}
            lead = lead.model_copy(update=update)
        return r.model_copy(update={"name": asked.subject(r.name), "lead": lead})

    update = {
        "rows": tuple(row(r) for r in found.rows),
        "against": asked.subject(found.against),
        "failed": tuple(asked.subject(name) for name in found.failed),
    }
    return found.model_copy(update=update)


def _table(found: Probe) -> RenderableType:
    rows = [
        (
            _named(r),
            f"{r.mean:.3f}",
            "-" if r.lead is None else f"{r.lead.estimate:+.3f}",
            "-" if r.lead is None else f"{r.lead.low:+.3f} to {r.lead.high:+.3f}",
            "-" if r.params is None else f"{r.params:,}",
        )
        for r in found.rows
    ]
    columns = (found.task, "skill", f"over {found.against}", "95 %", "params")
    return table(columns, rows, numeric="skill params")


def _parts(found: Probe) -> list[RenderableType]:
    """Return a table of the task's parts, where it has several."""
    keys = list(dict.fromkeys(key for r in found.rows for key in r.parts))
    if len(keys) < 2:
        return []
    heads = [key.rpartition("/")[2] for key in keys]
    rows = [
        (_named(r), *(f"{r.parts[key]:.2f}" if key in r.parts else "-" for key in keys))
        for r in found.rows
    ]
    return [Text(), table((found.task, *heads), rows, numeric=" ".join(heads))]


def _named(row: Probed) -> str:
    return row.name + (" (control)" if row.control else "")


def probe_alternative(found: Probes, asked: ProbeAsked) -> str:
    """Say in words what the picture shows."""
    said = []
    for one in found.probes:
        rows = shortened(one, asked).rows
        listed = ", ".join(f"{r.name} {r.mean:.2f}" for r in rows)
        said.append(f"Skill on {one.task}: {listed}.")
    return " ".join(said)
