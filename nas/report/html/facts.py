"""What a report shows of a study, gathered once, as plain data."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import yaml

from backbones.image_size import shown
from nas.errors import StudyError
from nas.evidence.effects import Sample, analyze
from nas.evidence.findings import Analysis
from nas.evidence.reliability import Reliability, measured_for
from nas.evidence.verdict import Verdict
from nas.report.comparisons import fidelity_lines
from nas.report.studies import findings, unlearned, verdict, warnings
from nas.report.text import INSTALLED
from nas.store import queries
from nas.study.attempts import ENDED, RUNNING, WAITING
from nas.study.outcomes import Outcome
from nas.study.recipe import Recipe
from nas.study.tasks import Metric, metric_of

LEADERS = 20
# Flag of `search` -> setting of a study that it sets.
_FLAGS = {
    "--trials": "trials",
    "--strategy": "strategy",
    "--seed": "seed",
    "--image-size": "image_size",
    "--warm-start": "warm_start",
    "--pruner": "pruner",
    "--device": "device",
    "--backend": "backend",
}


@dataclass(frozen=True)
class Facts:
    """A study, as a report shows it.

    study, baselines, leaders: as `nas.store.queries.summary` gives them. trials: all candidates
    and baselines. winner: the best candidate in full, None without a score. reliability: of the
    recipe, None where it was not measured. effects: of the choices, None where there are too few
    designs. confirmed: the verdict of a confirmation, None without one; findings: it in words, a
    line each; asked: what was confirmed, as `--confirm` takes it. state: empty, running, failed
    or scored, and in words. fidelity: what longer trainings said of the ranking, a line each.
    """

    study: dict[str, Any]
    trials: list[dict[str, Any]]
    leaders: list[dict[str, Any]]
    baselines: list[dict[str, Any]]
    pareto: dict[str, list[dict[str, Any]]]
    winner: dict[str, Any] | None
    reliability: Reliability | None
    effects: Analysis | None
    state: str
    said: str
    verdict: str
    findings: list[str]
    asked: str | None
    confirmed: Verdict | None
    cautions: list[str]
    fidelity: list[str] = field(default_factory=list)

    @property
    def scored(self) -> list[dict[str, Any]]:
        """Trials that have a score."""
        return [t for t in self.trials if t["score"] is not None]

    @property
    def costs(self) -> list[str]:
        """The costs that scores are drawn against: latency where it was measured."""
        return [cost for cost, front in self.pareto.items() if front or cost in ("flops", "params")]

    @property
    def metric(self) -> Metric:
        """What the scores are."""
        return metric_of(self.study["recipe"])


def gather(study: str, storage: str) -> Facts:
    """Read what a report shows.

    Raises: StoreError; StudyError for an unknown study.
    """
    summary = queries.summary(study, storage, top=LEADERS)
    trials = queries.trials(study, storage)
    best = summary["best"]
    state, said = _state(summary["study"], trials)
    recipe = summary["study"]["recipe"]
    measured = measured_for(Recipe.model_validate(recipe).fingerprint(), summary["study"]["space"])
    stored = summary["verdict"]
    cautions = [*unlearned(summary), *warnings(summary["study"])]
    return Facts(
        study=summary["study"],
        trials=trials,
        leaders=summary["leaderboard"],
        baselines=summary["baselines"],
        pareto={**summary["pareto"], queries.LATENCY: _fastest(trials)},
        winner=None if best is None else queries.trial(study, storage, best["trial"]),
        reliability=measured,
        effects=_effects(trials, metric_of(recipe), None if measured is None else measured.noise),
        state=state,
        said=said,
        verdict=verdict(summary).plain,
        asked=None if stored is None else "{finalists}x{seeds}".format(**summary["confirmation"]),
        confirmed=None if stored is None else Verdict.model_validate(stored),
        findings=[text.plain for text in findings(summary)],
        cautions=[text.plain for text in cautions],
        fidelity=fidelity_lines(summary),
    )


def _fastest(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the Pareto front of score and measured latency, best score first."""
    timed = [(t["score"], t[queries.LATENCY]) for t in trials]
    points = [(n, s, ms) for n, (s, ms) in enumerate(timed) if s is not None and ms is not None]
    return [trials[number] for number in queries.front(points)]


def _effects(trials: list[dict[str, Any]], metric: Metric, noise: float | None) -> Analysis | None:
    """Return what each choice does to the score, from the candidates that learned."""
    samples = [
        Sample(
            design=trial["fingerprint"],
            choices={name: _shown(value) for name, value in trial["choices"].items()},
            score=trial["score"],
            cost=trial["flops"],
        )
        for trial in trials
        if trial["score"] is not None and trial["learned"] and trial["label"] is None
    ]
    try:
        return analyze(samples, unit=metric.unit, noise=noise, importance=False)
    except StudyError:  # too few designs, or all alike
        return None


def _state(study: dict[str, Any], trials: list[dict[str, Any]]) -> tuple[str, str]:
    if not trials:
        return "empty", "No trial has begun yet: there is nothing to show but what was asked for."
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial["state"]] = counts.get(trial["state"], 0) + 1
    open_ = counts.get(RUNNING, 0) + counts.get(WAITING, 0)
    ended = sum(n for state, n in counts.items() if state in ENDED)
    scored = counts.get(Outcome.COMPLETE.value, 0)
    if open_:
        running = f"{counts.get(RUNNING, 0)} running, {counts.get(WAITING, 0)} waiting"
        return "running", f"The study is not done: {ended} trials ended, {running}."
    if not scored:
        classes = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        return "failed", f"No trial has a score: {classes}. The table below gives the reasons."
    return "scored", f"{ended} trials ended, {scored} of them with a score."


def search_command(study: dict[str, Any]) -> str:
    """Return the command that makes this study again, recipe.yaml holding its recipe."""
    words = [INSTALLED, "search", "--space", study.get("space_source") or study["space"]]
    for budget in study["budget"]:
        words += ["--budget", budget]
    for flag, setting in _FLAGS.items():
        value = study[setting]
        words += [flag, shown(value) if setting == "image_size" else str(value)]
    words += ["--objective", ",".join(study["objectives"]), "--recipe", "recipe.yaml"]
    return shlex.join(words)


def as_yaml(data: Any) -> str:
    """Return plain data as YAML."""
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=88))


def columns(facts: Facts) -> dict[str, Any]:
    """Return the trials by columns, names of kinds and options written once: what a page holds.

    The keys: trial, score, flops, params, seconds (lists, in the order proposed); label (None for
    candidates); kind, state (indices into kinds, states); learned (0 or 1); choices: per name,
    options (as text) and of (index per trial, -1 where the design has no such choice).
    """
    trials = facts.trials
    kinds, states = _indexed([t["kind"] for t in trials]), _indexed([t["state"] for t in trials])
    names = list(dict.fromkeys(name for t in trials for name in t["choices"] or {}))
    choices = {}
    for name in names:
        shown = [_shown((t["choices"] or {}).get(name)) for t in trials]
        absent = [name not in (t["choices"] or {}) for t in trials]
        options, of = _indexed([s for s, gone in zip(shown, absent) if not gone])
        rest = iter(of)
        choices[name] = {
            "options": options,
            "of": [-1 if gone else next(rest) for gone in absent],
        }
    return {
        "trial": [t["trial"] for t in trials],
        "score": [_rounded(t["score"]) for t in trials],
        "flops": [t["flops"] for t in trials],
        "params": [t["params"] for t in trials],
        "latency_ms": [t["latency_ms"] for t in trials] if "latency_ms" in facts.costs else None,
        "seconds": [None if t["seconds"] is None else round(t["seconds"], 1) for t in trials],
        "label": [t["label"] for t in trials],
        "learned": [int(t["learned"]) for t in trials],
        "kinds": kinds[0],
        "kind": kinds[1],
        "states": states[0],
        "state": states[1],
        "choices": choices,
    }


def _indexed(values: list[Any]) -> tuple[list[Any], list[int]]:
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return list(places), [places[value] for value in values]


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def best_so_far(trials: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return where the best score of the candidates rises: (trial, score), in order proposed."""
    risen: list[tuple[int, float]] = []
    for trial in trials:
        score = trial["score"]
        if trial["label"] is None and score is not None and (not risen or score > risen[-1][1]):
            risen.append((trial["trial"], score))
    return risen
