"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.report.text import giga, mega, percent

console = Console()


def emit(data: Any, as_json: bool, view: Callable[[Any], RenderableType]) -> None:
    """Print `data` as JSON, or as `view` renders it."""
    if as_json:
        print(json.dumps(data, indent=2, default=str))
    else:
        console.print(view(data))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", numeric: str = ""
) -> Table:
    """Make a table; `numeric` names, separated by blanks, the columns to align right."""
    out = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for column in columns:
        out.add_column(column, justify="right" if column in numeric.split() else "left")
    for row in rows:
        out.add_row(*("" if cell is None else str(cell) for cell in row))
    return out


# --- architectures and spaces ------------------------------------------------------------------


def profile_view(report: dict[str, Any]) -> RenderableType:
    """Render `nas.report.profile.profile`."""
    unit = "FLOPs" if report["convention"] == "fvcore" else "MACs"
    head = Text.assemble(
        (report["arch"], "bold"),
        f"  {mega(report['params'])} parameters ({report['params']:,}), ",
        f"{giga(report['flops'])} {unit} ({report['flops']:,}; {report['convention']}) ",
        f"at {report['image_size']} px",
    )
    parts: list[RenderableType] = [head, Text(f"fingerprint {report['fingerprint']}", "dim")]
    for key in ("stages", "components"):
        rows = [
            (r["name"], mega(r["params"]), giga(r["flops"]), percent(r["share"], 1))
            for r in report[key]
        ]
        columns = (key[:-1], "params", unit, "share")
        parts += [Text(), table(columns, rows, numeric=f"params {unit} share")]
    if "verified" in report:
        counts = report["verified"]
        parts.append(
            Text(
                f"\nbuilt model: {counts['params']:,} parameters, fvcore counts "
                f"{counts['fvcore_flops']:,} FLOPs: both equal the analytic count"
            )
        )
    if "latency" in report:
        speed = report["latency"]
        parts.append(
            Text(
                f"\ninference {speed['images_per_s']:.1f} images/s "
                f"({speed['device']}, {speed['backend']}, batch {speed['batch']})"
            )
        )
    return Group(*parts)


def presets_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `nas.report.profile.presets`."""
    return table(
        ("preset", "params", "FLOPs"),
        [(r["preset"], mega(r["params"]), giga(r["flops"])) for r in rows],
        numeric="params FLOPs",
    )


def spaces_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `nas.report.spaces.listing`."""
    return table(
        ("space", "designs", "what varies"),
        [(r["space"], f"{r['size']:.2e}", r["description"]) for r in rows],
        numeric="designs",
    )


def space_view(space: dict[str, Any]) -> RenderableType:
    """Render `nas.report.spaces.explain`."""
    rows = [
        (r["choice"], r["about"], r["options"], r["count"], r["when"] or "always")
        for r in space["choices"]
    ]
    points = [
        name if name in space["members"] else f"{name} (outside, a baseline only)"
        for name in space["points"]
    ]
    parts: list[RenderableType] = [
        Text.assemble((space["space"], "bold"), f"  version {space['version']}"),
        Text(space["description"]),
        Text(f"{space['size']:,} designs; widths are {space['widths']}"),
        Text(f"published designs: {', '.join(points) or 'none'}"),
        *(Text(f"always: {rule}") for rule in space["constraints"]),
        Text(),
        table(("choice", "what it is", "options", "count", "exists when"), rows, numeric="count"),
    ]
    return Group(*parts)


def doctor_view(report: dict[str, Any]) -> RenderableType:
    """Render `nas.report.doctor.examine`."""
    devices = [(d["device"], d["name"]) for d in report["devices"]]
    backends = [
        (b["backend"], "yes" if b["available"] else "no", b["reason"]) for b in report["backends"]
    ]
    versions = [(name, version or "not installed") for name, version in report["versions"].items()]
    auto = report["auto"]
    return Group(
        Text(f"Python {report['python']} on {report['platform']}\n"),
        table(("device", "name"), devices),
        Text(),
        table(("scan backend", "available", "reason"), backends),
        Text(f"auto picks {auto['backend']} on {auto['device']}\n"),
        table(("package", "version"), versions),
    )
