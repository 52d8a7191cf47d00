"""Designs of a study as exports: the best, the Pareto front, or one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.evidence.ties import preferred
from nas.evidence.verdict import Verdict, sentences
from nas.export.document import write_export
from nas.store import queries
from nas.store.exports import record_export
from nas.study.tasks import metric_of

_SOURCE = (
    "study",
    "trial",
    "role",
    "label",
    "score",
    "metrics",
    "seed",
    "space",
    "space_version",
    "choices",
)


def export_trials(
    study: str,
    storage: str,
    *,
    which: str = "best",
    out: Path | None = None,
    weights: bool = False,
) -> list[tuple[int, Path]]:
    """Export the best trial, the Pareto front, or one trial, each proven to rebuild.

    which: "best" (what a confirmation chose, where there is one), "pareto" (top-1 against FLOPs
        and against parameters) or a trial number.
    out: file to write, or with "pareto" a folder; by default runs/exports.
    Returns: (trial number, path) of every file written.
    Raises: StoreError; StudyError for an unknown study or trial, a study without a score, or a
        design that does not rebuild.
    """
    folder = Path("runs") / "exports" if out is None or which != "pareto" else out
    written = []
    summary = queries.summary(study, storage, top=1)
    for number in _numbers(summary, which):
        trial = queries.trial(study, storage, number)
        if trial["kind"] == "timm":
            raise StudyError(
                f"trial {number} is {trial['label']}, a network of timm that timm.create_model "
                "makes; export another trial"
            )
        path = out if out is not None and which != "pareto" else None
        path = path or folder / f"{study}-trial{number}.yaml"
        write_export(
            path,
            BackboneConfig.model_validate(trial["config"]),
            image_size=trial["image_size"],
            convention=trial["convention"],
            source={key: trial[key] for key in _SOURCE} | _verdict(summary, number),
            recipe=trial["recipe"],
            environment={
                **{key: trial[key] for key in ("backend", "device", "dtype")},
                **(trial["environment"] or {}),
            },
            weights_seed=trial["seed"] if weights else None,
        )
        record_export(storage, study, number, path, at=time.time())
        written.append((number, path))
    return written


def _verdict(summary: dict[str, Any], trial: int) -> dict[str, Any]:
    """Return why a design was chosen, for its file: by a confirmation, or the cheapest of ties."""
    if summary["best"] is None or chosen_trial(summary) != trial:
        return {}
    if summary["verdict"] is not None:
        return {"verdict": sentences(Verdict.model_validate(summary["verdict"]))}
    recipe = summary["study"]["recipe"]
    taken = preferred(summary["scored"], recipe)
    why = None if taken is None else taken.sentence(metric_of(recipe).unit)
    return {} if why is None else {"verdict": [why]}


def chosen_trial(summary: dict[str, Any]) -> int:
    """Return the trial of the design that was chosen: by a verdict, or by scores of one run.

    Of designs that these cannot tell apart it is the cheapest.
    """
    if summary["verdict"] is None:
        taken = preferred(summary["scored"], summary["study"]["recipe"])
        assert taken is not None  # the caller has a best candidate
        return taken.trial
    name = summary["verdict"]["chosen"]
    entrants = summary["confirmation"]["entrants"]
    return next(int(e["trial"]) for e in entrants if e["name"] == name)


def _numbers(summary: dict[str, Any], which: str) -> list[int]:
    if which.isdecimal():
        return [int(which)]
    if which not in ("best", "pareto"):
        raise StudyError(f"trial {which!r} is no trial; use a number, best or pareto")
    if summary["best"] is None:
        study = summary["study"]["study"]
        raise StudyError(
            f"study {study!r} has no candidate with a score yet; `status {study}` says where it is"
        )
    if which == "best":
        return [chosen_trial(summary)]
    fronts = summary["pareto"].values()
    return sorted({row["trial"] for front in fronts for row in front if row["kind"] != "timm"})
