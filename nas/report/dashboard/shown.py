"""What the dashboard shows of a study beside what Optuna stores: notes, pictures, seconds."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

from backbones.config import BackboneConfig
from backbones.image_size import shown as image_size
from backbones.outside import read_design
from nas.report.html.pictures import MOST_ORDERS, scan_orders
from nas.report.studies import findings, unlearned, verdict, warnings
from nas.report.text import duration, giga, invoked_as, mega, scored
from nas.store import queries
from nas.study.tasks import Metric, metric_of

MOST_NOTES = 200
"""Trials of a study that have a note: the dashboard looks through all notes for each trial."""

_ORDERS: dict[str, list[str]] = {}
"""Fingerprint -> kinds of scan orders: a design never changes."""


class Shown:
    """What the dashboard shows of a study beside what Optuna stores.

    note: on the study; notes: trial -> its note, in Markdown. seconds: trial -> of its training.
    """

    def __init__(self, study: str, url: str) -> None:
        """Read it. Raises: StudyError for an unknown study."""
        self.study, self._url = study, url
        summary = queries.summary(study, url, top=MOST_NOTES)
        trials = queries.trials(study, url)
        self.objectives: list[str] = list(summary["study"]["objectives"])
        self.note = _about_study(summary)
        self.seconds = {t["trial"]: t["seconds"] for t in trials}
        metric = metric_of(summary["study"]["recipe"])
        noted = _most_telling(trials)
        self._foreign = {t["trial"] for t in trials if t["kind"] == "timm"}
        self.notes = {t["trial"]: _about_trial(study, t, metric) for t in noted}
        self._prints = {t["trial"]: t["fingerprint"] for t in noted}

    @cached_property
    def _orders(self) -> dict[int, list[str]]:
        """Trial -> the kinds of its scan orders, of those that have a note."""
        unknown = [n for n, print_ in self._prints.items() if print_ not in _ORDERS]
        for number, config in queries.designs(self.study, self._url, unknown).items():
            design = read_design(config)
            orders = scan_orders(design) if isinstance(design, BackboneConfig) else []
            _ORDERS[self._prints[number]] = [order.kind for order in orders[:MOST_ORDERS]]
        return {number: _ORDERS[print_] for number, print_ in self._prints.items()}

    def pictures(self, number: int) -> dict[str, str]:
        """Return the pictures of a trial as Optuna describes artifacts.

        None of a confirmation, and of a network that is not ours.
        """
        if number not in self.seconds or number in self._foreign:
            return {}
        orders = [f"order-{n}-{kind}" for n, kind in enumerate(self._orders.get(number, ()), 1)]
        found = {}
        for place, name in enumerate(["architecture", *orders]):
            picture = f"{self.study.encode().hex()}-{number}-{place}"
            found[f"artifacts:{picture}"] = json.dumps(
                {
                    "artifact_id": picture,
                    "filename": f"{name}.svg",
                    "mimetype": "image/svg+xml",
                    "encoding": None,
                }
            )
        return found


def _most_telling(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials to have a note: published designs, failures, and those of best score."""
    return sorted(
        trials, key=lambda t: (t["label"] is None, t["error"] is None, -(t["score"] or 0.0))
    )[:MOST_NOTES]


def _about_study(summary: dict[str, Any]) -> str:
    study = summary["study"]
    lines = [*findings(summary), verdict(summary), *unlearned(summary), *warnings(study)]
    said = "\n".join(f"- {_escaped(text.plain)}" for text in lines)
    return (
        f"Space {study['space']} (version {study['space_version']}), budget "
        f"{', '.join(study['budget'])} at {image_size(study['image_size'])} px, "
        f"{study['strategy']}, seed {study['seed']}.\n\n{said}\n"
    )


def _about_trial(study: str, trial: dict[str, Any], metric: Metric) -> str:
    """Return a trial's note: what it is, what came of it, what it costs, how to run it again."""
    score = ""
    if trial["score"] is not None:
        score = f", {metric.metric} {scored(trial['score'], metric)}"
        score += "" if trial["learned"] else " (learned next to nothing in a run this short)"
    lines = [
        f"**{_escaped(trial['label'] or trial['kind'])}**, {trial['role']}: {trial['state']}{score}"
    ]
    if trial["error"]:
        lines.append(_escaped(trial["error"].splitlines()[0]))
    lines.append(f"{giga(trial['flops'])} FLOPs, {mega(trial['params'])} parameters")
    if trial["seconds"] is not None:
        lines.append(f"trained in {duration(trial['seconds'])} by {trial['backend']}")
    lines.append(f"again: `{invoked_as()} run-trial {study} {trial['trial']}`")
    return "\n\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|~])", r"\\\1", text)


def note(prefix: str, text: str) -> dict[str, Any]:
    """Return a note as the dashboard stores one: in pieces, with a version."""
    from optuna_dashboard._note import SYSTEM_ATTR_MAX_LENGTH as SIZE

    pieces = range(0, len(text), SIZE)
    stored = {f"{prefix}note_str:{at // SIZE}": text[at : at + SIZE] for at in pieces}
    return {f"{prefix}note_ver": 1, **stored}
