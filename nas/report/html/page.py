"""Writes the page of a report: template, style and script put together with what they show."""

from __future__ import annotations

import base64
import gzip
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from backbones import cost
from backbones.config import BackboneConfig
from backbones.image_size import shown as image_size
from nas.evidence.findings import Analysis, analysis_sentences
from nas.evidence.reliability import Reliability
from nas.evidence.words import Unit, difference
from nas.report.drawings.style import Picture, put
from nas.report.html.facts import Facts, as_yaml, best_so_far, columns, gather, search_command
from nas.report.html.pictures import (
    design_pictures,
    effects_picture,
    figure_words,
    partitions,
    result_pictures,
    verdict_picture,
)
from nas.report.text import INSTALLED, duration, giga, mega, percent, scored
from nas.store.urls import parse_url, shown
from nas.study.tasks import Metric, metric_of
from nas.training.environment import version_of

MOST_FAILURES = 50


def write_report(
    study: str, storage: str, out: Path, png: Path | None = None, weights: Path | None = None
) -> list[Path]:
    """Write the report of a study to `out`, and to the folder `png` its single figures.

    weights: of the best candidate, trained; its quadtrees are drawn with them.
    Returns: the files written.
    Raises: StoreError; StudyError for an unknown study, weights that do not fit, or a file that
        cannot be written; ConfigError for weights that cannot be read.
    """
    facts = gather(study, storage)
    windows = None if facts.winner is None else partitions(facts.winner, weights)
    page = render(facts, shown(parse_url(storage)), windows, trained=weights is not None)
    put(page.encode(), out)
    if png is None:
        return [out]
    pictures = result_pictures(facts)
    if facts.winner is not None:
        pictures += design_pictures(facts.winner)
    if windows is not None:
        pictures.append(windows)
    return [out, *(picture.write(png) for picture in pictures)]


def render(
    facts: Facts, database: str, windows: Picture | None = None, *, trained: bool = False
) -> str:
    """Return the page: self-contained, every name escaped.

    database: as it may be shown, without a password. windows: what the best candidate's quadtrees
    choose over photographs, trained or as they begin.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    winner, measured, named = facts.winner, facts.reliability, facts.metric.metric
    failures, said = [t for t in facts.trials if t["error"]], figure_words(facts)
    noise = None if measured is None else measured.noise
    return environment.from_string(_file("page.html.jinja")).render(
        facts=facts,
        style=Markup(_file("page.css")),
        script=Markup(_file("page.js")),
        plotly=_plotly() if facts.trials else "",
        data={
            "columns": columns(facts),
            "pareto": {
                name: sorted((row[name], row["score"]) for row in rows)
                for name, rows in facts.pareto.items()
            },
            "best": best_so_far(facts.trials),
            "noise": noise,
            "metric": facts.metric._asdict(),
        },
        sections=_sections(facts),
        asked=_asked(facts.study),
        says=said | {"designs": " ".join(said[cost] for cost in facts.costs)},
        windows=None if windows is None else _shown(windows),
        trained=trained,
        course_title="Scores in the order proposed, and the best so far"
        + (" with the noise of one run" if noise is not None else ""),
        heads=("trial", "design", named, "FLOPs", "parameters", "training", "fingerprint"),
        leaders=[_row(t, facts.metric) for t in facts.leaders],
        baselines=[_row(t, facts.metric) for t in facts.baselines],
        confirmed=None if facts.confirmed is None else _shown(verdict_picture(facts.confirmed)),
        effects=None if facts.effects is None else _effects(facts.effects, facts.metric),
        winner=None if winner is None else _winner(winner, facts.metric),
        reliability_said=facts.cautions[-1]
        if measured is None
        else _measured(measured, facts.metric.unit),
        seen=[] if measured is None else _seen(measured, facts.metric.unit),
        signs=[] if measured is None else _signs(measured, facts.metric.unit),
        failures=[
            (t["trial"], t["label"] or t["kind"], t["state"], t["error"].splitlines()[0])
            for t in failures[:MOST_FAILURES]
        ],
        more_failures=len(failures) > MOST_FAILURES,
        command=search_command(facts.study),
        again=None if winner is None else _again(facts, winner, database),
        recipe=as_yaml(facts.study["recipe"]),
        environment=None if winner is None else as_yaml(winner["environment"]),
        version=version_of("scannas") or "from a checkout",
        database=database,
    )


def _file(name: str) -> str:
    return resources.files("nas.report.html").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Return Plotly's script, packed: plain it would be four fifths of the file."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, mtime=0)).decode()


def _sections(facts: Facts) -> list[tuple[str, str]]:
    """Return (id, title) of the sections that the page has."""
    there = [("asked", "asked", True), ("designs", "designs", bool(facts.scored))]
    there += [
        ("course", "course", bool(facts.scored)),
        ("leaders", "leaderboard", bool(facts.scored)),
    ]
    there += [("effects", "effects of choices", facts.effects is not None)]
    there += [("winner", "best candidate", facts.winner is not None)]
    there += [("proxy", "what the proxy sees", bool(facts.scored))]
    there += [("outcomes", "outcomes", bool(facts.trials)), ("again", "every number again", True)]
    return [(name, title) for name, title, shown in there if shown]


def _asked(study: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, metric = study["recipe"], metric_of(study["recipe"]).metric
    return [
        ("search space", f"{study['space']}, version {study['space_version']}"),
        ("budget", f"{', '.join(study['budget'])} at {image_size(study['image_size'])} px"),
        ("strategy", f"{study['strategy']}, seed {study['seed']}"),
        ("objectives", ", ".join({"top1": metric}.get(o, o) for o in study["objectives"])),
        ("candidates wanted", str(study["trials"])),
        ("proxy", f"{recipe['epochs']} epochs of {recipe['dataset']} at {recipe['image_size']} px"),
        ("trained on", f"{study['device']}, scans by {study['backend']}"),
        ("trials", ", ".join(f"{n} {state}" for state, n in study["counts"].items()) or "none"),
    ]


def _row(trial: dict[str, Any], metric: Metric) -> tuple[str, ...]:
    score = trial["state"] if trial["score"] is None else scored(trial["score"], metric)
    if trial["score"] is not None and not trial["learned"]:
        score += " (learned next to nothing)"
    return (
        str(trial["trial"]),
        trial["label"] or trial["kind"],
        score,
        giga(trial["flops"]),
        mega(trial["params"]),
        duration(trial["seconds"]),
        trial["fingerprint"][:12],
    )


def _winner(trial: dict[str, Any], metric: Metric) -> dict[str, Any]:
    config = BackboneConfig.model_validate(trial["config"])
    counted = cost(config, image_size=trial["image_size"], convention=trial["convention"])
    first, *rest = design_pictures(trial)
    return {
        "trial": trial["trial"],
        "said": f"{scored(trial['score'], metric)} {metric.metric} under the proxy; "
        f"{giga(trial['flops'])} FLOPs "
        f"({trial['convention']}, {image_size(trial['image_size'])} px), "
        f"{mega(trial['params'])} parameters; fingerprint {trial['fingerprint']}",
        **_shown(first),
        "orders": [_shown(picture) for picture in rest],
        "stages": [
            (name, mega(params), giga(flops), percent(flops / counted.flops, 1))
            for name, (params, flops) in counted.by_stage.items()
        ],
        "choices": as_yaml(trial["choices"]) if trial["choices"] else "",
    }


def _effects(effects: Analysis, metric: Metric) -> dict[str, Any]:
    return {
        **_shown(effects_picture(effects, metric)),
        "sentences": analysis_sentences(effects),
        "designs": effects.designs,
        "adjusted": all(factor.adjusted for factor in effects.factors),
    }


def _shown(picture: Picture) -> dict[str, str]:
    return {"picture": picture.inline(), "alternative": picture.alternative}


def _measured(measured: Reliability, unit: Unit) -> str:
    return (
        f"{measured.designs} designs, {measured.seeds} seeds each, {measured.date}, "
        f"{measured.device}: one run ranks designs of the {measured.space} space with intraclass "
        f"correlation {measured.icc:.2f} ({measured.icc_low:.2f} to {measured.icc_high:.2f}); its "
        f"noise is {difference(measured.noise, unit, sign=False)}."
    )


def _seen(measured: Reliability, unit: Unit) -> list[tuple[str, ...]]:
    return [
        (
            choice.kind,
            ", ".join(choice.levels),
            f"{max(choice.epsilon_squared, 0.0):.2f}",
            f"{choice.p_holm:.3f}" if choice.p_holm >= 0.001 else "< 0.001",
            difference(choice.spread, unit, sign=False),
            "-" if choice.detectable is None else difference(choice.detectable, unit, sign=False),
            "yes" if choice.seen else "no",
        )
        for choice in measured.choices
    ]


def _signs(measured: Reliability, unit: Unit) -> list[tuple[str, ...]]:
    return [
        (
            d.kind,
            f"{d.better} over {d.worse}",
            f"{difference(d.estimate, unit)} ({difference(d.low, unit, bare=True)} to "
            f"{difference(d.high, unit, bare=True)})",
            d.proxy,
            d.source,
        )
        for d in measured.directions
    ]


def _again(facts: Facts, trial: dict[str, Any], database: str) -> str:
    name, number = facts.study["study"], str(trial["trial"])
    where = ["--storage", database]
    return "\n".join(
        shlex.join([INSTALLED, *words, *where])
        for words in (
            *([["confirm", name, "--confirm", facts.asked]] if facts.asked else []),
            ("run-trial", name, number),
            ("export", name, "--trial", number),
        )
    )
