"""Studies and trials as tables, and the summary that ends a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Group, RenderableType
from rich.text import Text

from backbones.image_size import shown
from nas.evidence.reliability import load_measurements, measured_for
from nas.evidence.verdict import Verdict, sentences
from nas.evidence.words import difference, join
from nas.report.comparisons import comparisons_view
from nas.report.console import table
from nas.report.text import duration, giga, invoked_as, mega, scored
from nas.study.long_sequences import tokens_said
from nas.study.recipe import Recipe
from nas.study.tasks import Metric, metric_of

if TYPE_CHECKING:
    from nas.driver.enqueueing import Enqueued


def studies_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `nas.store.queries.studies`."""
    if not rows:
        return Text(f"no studies yet; `{invoked_as()} search` makes one")
    return table(
        ("study", "space", "budget", "strategy", "done", "running", "best", "score"),
        [
            (
                r["study"],
                r["space"],
                ", ".join(r["budget"]),
                r["strategy"],
                f"{r['done']}/{r['trials']}",
                r["running"],
                scored(r["best_score"], Metric(r["metric"], r["unit"])),
                r["metric"],
            )
            for r in rows
        ],
        numeric="done running best",
    )


def findings_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `nas.store.maintenance.check_database`."""
    if not rows:
        return Text("all is well")
    shown = [(r["problem"], r["count"], r["remedy"]) for r in rows]
    return table(("problem", "count", "remedy"), shown, numeric="count")


def status_view(status: dict[str, Any]) -> RenderableType:
    """Render `nas.driver.status.status`."""
    failed = ", ".join(f"{n} {kind}" for kind, n in status["failed"].items()) or "none"
    lines = [
        f"{status['done']} of {status['trials']} candidates done, {status['waiting']} waiting",
        f"complete {status['complete']}, pruned {status['pruned']}, replayed {status['replayed']}, "
        f"failed {failed}",
        f"{duration(status['seconds_per_trial'])} a trial, ETA {duration(status['eta_s'])}, "
        f"last activity {duration(status['last_activity_s'])} ago",
    ]
    for one in status["failing"]:
        lines.append(f"failing: {one['node']}, also with a known design: {one['error']}")
    if status["blocked"]:
        lines.append(f"blocked: {status['blocked']}")
    if status["advice"]:
        lines.append(status["advice"])
    rows = [
        (
            r["trial"],
            r["label"] or r["role"],
            f"{r['epoch']}/{r['epochs']}",
            r["attempt"],
            duration(r["running_s"]),
            r["owner"],
            "silent" if r["stale"] else "alive",
        )
        for r in status["running"]
    ]
    columns = ("running", "what", "epoch", "attempt", "for", "owner", "driver")
    parts: list[RenderableType] = [Text(status["study"], "bold"), Text("\n".join(lines))]
    if rows:
        parts += [Text(), table(columns, rows, numeric="running epoch attempt for")]
    return Group(*parts)


def summary_view(summary: dict[str, Any]) -> RenderableType:
    """Render `nas.store.queries.summary`."""
    study = summary["study"]
    if study["trials"] == 0:
        return Group(Text(study["study"], "bold"), *comparisons_view(summary))
    metric = metric_of(study["recipe"])
    named = metric.metric
    timed = ("ms",) if study.get("latency") else ()
    columns = ("trial", "design", named, "FLOPs", "params", *timed, "s", "backend", "fingerprint")
    numeric = ("trial", named, "FLOPs", "params", *timed, "s")
    counts = ", ".join(f"{n} {state}" for state, n in study["counts"].items())
    head = (
        f"{study['space']} (version {study['space_version']}), budget {', '.join(study['budget'])} "
        f"at {shown(study['image_size'])} px, {study['strategy']}, seed {study['seed']}; {counts}"
    )
    parts: list[RenderableType] = [Text(study["study"], "bold"), Text(head), Text()]
    for title, key in (("candidates", "leaderboard"), ("published designs, refitted", "baselines")):
        rows = [_row(r, metric, bool(timed)) for r in summary[key]]
        if not rows and key == "baselines":
            continue
        parts += [table(columns, rows, title=title, numeric=numeric), Text()]
    for cost, rows in summary["pareto"].items():
        line = "  ".join(f"trial {r['trial']} {scored(r['score'], metric)}" for r in rows)
        parts.append(Text(f"Pareto front, {named} against {cost}: {line or 'empty'}"))
    parts += [Text(), *findings(summary), verdict(summary)]
    parts += [*unlearned(summary), *comparisons_view(summary), *warnings(study)]
    return Group(*parts)


def findings(summary: dict[str, Any]) -> list[Text]:
    """Say what a confirmation found, and the command that would find more.

    Without one, which of the candidates that one run each cannot tell apart is taken.
    """
    if summary["verdict"] is None:
        from nas.evidence.ties import preferred

        recipe = summary["study"]["recipe"]
        taken = preferred(summary["scored"], recipe)
        why = None if taken is None else taken.sentence(metric_of(recipe).unit)
        return [] if why is None else [Text(why)]
    found = Verdict.model_validate(summary["verdict"])
    lines = sentences(found)[:-1]
    wanted = [c.more_seeds for c in found.against_baselines() if c.word == "not distinguishable"]
    if wanted:
        # Where no number of seeds decides, twice as many at least narrow the interval.
        more = max([n for n in wanted if n is not None], default=found.seeds)
        asked = f"{summary['confirmation']['finalists']}x{found.seeds + more}"
        name = summary["study"]["study"]
        lines.append(f"for more power: {invoked_as()} confirm {name} --confirm {asked}")
    return [Text(line) for line in lines]


def verdict(summary: dict[str, Any]) -> Text:
    """Say whether the search beat the published designs under the same proxy and budget."""
    if summary["verdict"] is not None:
        return Text(sentences(Verdict.model_validate(summary["verdict"]))[-1], "bold")
    best = summary["best"]
    baselines = [b for b in summary["baselines"] if b["score"] is not None and b["learned"]]
    if best is None:
        return Text("no candidate has a score yet")
    metric = metric_of(summary["study"]["recipe"])
    said = f"best: trial {best['trial']}, {scored(best['score'], metric)} {metric.metric}"
    said += " under the proxy"
    if not baselines:
        return Text(f"{said}; no published design was trained beside it", "bold")
    top = baselines[0]
    gap = difference(best["score"] - top["score"], metric.unit)
    return Text(
        f"{said}; {len(summary['beats'])} of {len(baselines)} published designs are below it "
        f"({gap} to the best of them, {top['label']}), by one run each; "
        f"`{invoked_as()} confirm {summary['study']['study']}` says what of it holds",
        "bold",
    )


def unlearned(summary: dict[str, Any]) -> list[Text]:
    """Name the trials whose score says nothing, because the proxy ended before they learned."""
    rows = [*summary["leaderboard"], *summary["baselines"]]
    trials = [str(r["trial"]) for r in rows if r["score"] is not None and not r["learned"]]
    if not trials:
        return []
    said = (
        f"learned next to nothing in a run this short: trial {', '.join(sorted(trials, key=int))}; "
        "read the score as missing, or train longer (--epochs)"
    )
    return [Text(said, "yellow")]


def warnings(study: dict[str, Any]) -> list[Text]:
    """Say what the proxy sees of the study's own space, as measured for its recipe.

    Choices that it does not see are named, and so are those that it sees the other way round than
    is published.
    """
    recipe = Recipe.model_validate(study["recipe"])
    said = tokens_said(study["recipe"], study["image_size"])
    lines = [] if said is None else [said]
    measured = measured_for(recipe.fingerprint(), study["space"])
    if measured is None:
        others = [m.space for m in load_measurements().of(recipe.fingerprint())]
        known = f"for this recipe in the {join(others)} space" if others else "for other recipes"
        lines.append(
            f"how well this proxy ranks designs of the {study['space']} space has not been "
            f"measured ({known} it has: benchmarks/proxy_reliability.py)"
        )
        return [Text(line, "yellow") for line in lines]
    unit = metric_of(study["recipe"]).unit
    lines += [
        f"one run's score ranks designs with intraclass correlation {measured.icc:.2f} "
        f"({measured.icc_low:.2f}-{measured.icc_high:.2f}); noise of one run "
        f"{difference(measured.noise, unit, sign=False)}"
    ]
    if unseen := measured.unseen():
        lines.append(
            f"this proxy does not see: {', '.join(unseen)}; do not read differences between "
            "designs that differ in these alone"
        )
    lines += [
        f"this proxy sees {d.kind} reversed: {d.better} over {d.worse} is published, it says "
        f"{difference(d.estimate, unit)} ({d.source})"
        for d in measured.reversed()
    ]
    return [Text(line, "yellow") for line in lines]


def contents_lines(held: dict[str, Any]) -> list[str]:
    """Say what goes with a study, as `nas.driver.keeping.contents` tells it, and what stays."""
    best = (
        "no score"
        if held["best_score"] is None
        else f"best {scored(held['best_score'], metric_of(held['recipe']))}"
    )
    lines = [
        f"{held['study']}: {held['trials']} trials ({held['ended']} ended, {best}), "
        f"{held['attempts']} attempts, {held['epochs']} epochs, {held['hours']:.1f} hours trained"
    ]
    if held["checkpoints"]:
        lines.append(f"its checkpoints in {held['checkpoints']}")
    if held["exports"]:
        lines.append(f"what was exported stays: {', '.join(held['exports'])}")
    return lines


def wish_line(wish: Enqueued, metric: Metric) -> str:
    """Say what became of a design that was to be trained next."""
    if wish.new:
        how = ", its widths refitted to the budget" if wish.refitted else ""
        return f"{wish.source}: trial {wish.trial} waits{how}"
    known = f", {scored(wish.score, metric)}" if wish.score is not None else ""
    return f"{wish.source}: is trial {wish.trial} already ({wish.state}{known})"


def trial_view(trial: dict[str, Any]) -> RenderableType:
    """Render `nas.store.queries.trial`."""
    from search_spaces.fit import said

    metric = metric_of(trial["recipe"])
    head = (
        f"{trial['label'] or trial['kind']}, {trial['role']}, {trial['state']}, "
        f"{metric.metric} {scored(trial['score'], metric)}; {giga(trial['flops'])} FLOPs "
        f"({trial['convention']}, {shown(trial['image_size'])} px), "
        f"{mega(trial['params'])} parameters"
    )
    where = f"{trial['backend']} on {trial['device']}, {trial['dtype']}, seed {trial['seed']}"
    epochs = [
        (
            e["epoch"],
            f"{e['train_loss']:.4f}",
            f"{e['val_loss']:.4f}",
            scored(e["val_top1"] if e.get("score") is None else e["score"], metric),
            f"{e['seconds']:.1f}",
        )
        for e in trial["epochs"]
    ]
    columns = ("epoch", "train loss", "val loss", metric.metric, "s")
    parts: list[RenderableType] = [
        Text(f"{trial['study']} trial {trial['trial']}", "bold"),
        Text(head),
        Text(where),
        Text(f"fingerprint {trial['fingerprint']}", "dim"),
    ]
    if trial["replay_of"] is not None:
        parts.append(Text(f"same design as trial {trial['replay_of']}; not trained again"))
    for one in trial.get("measured", ()):
        name = one["metric"].partition("_")[0]
        parts.append(Text(f"{name} {said(one['value'], name)} ({one['device']})"))
    for note in (trial["metrics"] or {}).get("notes", []):
        parts.append(Text(f"note: {note}", "yellow"))
    if scores := (trial["metrics"] or {}).get("scores"):
        parts.append(Text("  ".join(f"{name} {value:.4f}" for name, value in scores.items())))
    if epochs:
        parts += [Text(), table(columns, epochs, numeric=columns)]
    if trial["choices"]:
        chosen = yaml.safe_dump(trial["choices"], sort_keys=False, default_flow_style=None)
        parts.append(Text(f"\nchoices\n{chosen}"))
    if trial["error"]:
        parts.append(Text(f"\n{trial['error']}\n{trial['traceback'] or ''}", "red"))
    parts.append(Text(f"train it again, alone: {trial['rerun']}"))
    return Group(*parts)


def _row(r: dict[str, Any], metric: Metric, timed: bool) -> tuple[Any, ...]:
    score = scored(r["score"], metric) if r["score"] is not None else r["state"]
    ms = "-" if r.get("latency_ms") is None else f"{r['latency_ms']:.3g}"
    return (
        r["trial"],
        r["label"] or r["kind"],
        score,
        giga(r["flops"]),
        mega(r["params"]),
        *([ms] if timed else []),
        "-" if r["seconds"] is None else f"{r['seconds']:.0f}",
        r["backend"] or "-",
        r["fingerprint"][:12],
    )
