"""The pictures of a report: the best candidate and its scan orders, and for print the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.config import BackboneConfig, resolve_blocks
from backbones.orders.base import ScanOrder
from nas.evidence.findings import Analysis, analysis_sentences
from nas.evidence.verdict import Verdict, sentences
from nas.report.drawings.architectures import (
    architecture_alternative,
    architecture_figure,
    order_of,
)
from nas.report.drawings.orders import (
    describe_order,
    order_alternative,
    order_figure,
    visited,
)
from nas.report.drawings.results import (
    cloud_figure,
    course_figure,
    effects_figure,
    outcomes_figure,
    verdict_figure,
)
from nas.report.drawings.style import Picture
from nas.report.html.facts import Facts, best_so_far
from nas.report.text import scored
from nas.study.tasks import Metric

MOST_ORDERS = 6
_GRID, _LEARNED_GRID = (8, 8), (16, 16)


def design_pictures(trial: dict[str, Any]) -> list[Picture]:
    """Return the architecture of a trial, then its scan orders: the first few where many."""
    config = BackboneConfig.model_validate(trial["config"])
    name = trial["label"] or f"trial {trial['trial']}"
    size = trial["image_size"]
    pictures = [
        Picture(
            "architecture",
            architecture_figure(config, name=name, image_size=size),
            architecture_alternative(config, name, size),
        )
    ]
    for number, order in enumerate(scan_orders(config)[:MOST_ORDERS], start=1):
        routes = visited(order, _LEARNED_GRID if order.learned else _GRID)
        said = order_alternative(order, routes)
        pictures.append(Picture(f"order-{number}-{order.kind}", order_figure(order, routes), said))
    return pictures


def partitions(trial: dict[str, Any], weights: Path | None) -> Picture | None:
    """Return the windows that a trial's quadtrees choose over photographs, None without any.

    weights: of the trained design; without them, the network as it begins under the trial's seed.
    Raises: as `nas.report.inspection.subjects.trained`.
    """
    config = BackboneConfig.model_validate(trial["config"])
    if not any(order.learned for order in scan_orders(config)):
        return None
    from nas.report.inspection.figures import partitions_of
    from nas.report.inspection.scans import record
    from nas.report.inspection.subjects import as_input, sample_images, trained, untrained

    names, photos = sample_images((), trial["image_size"])
    seed = trial["seed"]
    model = untrained(config, seed) if weights is None else trained(config, weights)
    return partitions_of(record(model, as_input(photos, config.in_chans)), names, photos)


def scan_orders(config: BackboneConfig) -> list[ScanOrder]:
    """Return the distinct scan orders of a design, in the order of its blocks."""
    found: dict[str, ScanOrder] = {}
    for blocks in resolve_blocks(config):
        for placed in blocks:
            if (order := order_of(placed.block.mixer)) is not None:
                found.setdefault(describe_order(order), order)
    return list(found.values())


def result_pictures(facts: Facts) -> list[Picture]:
    """Return the figures of the results, those for which there are data."""
    if not facts.trials:
        return []
    said = figure_words(facts)
    pictures = [Picture("outcomes", outcomes_figure(facts.trials), said["outcomes"])]
    if facts.confirmed is not None:
        pictures.append(verdict_picture(facts.confirmed))
    if facts.scored:
        for cost in facts.costs:
            figure = cloud_figure(facts.scored, facts.pareto[cost], cost, facts.metric)
            pictures.append(Picture(f"score-against-{cost}", figure, said[cost]))
        noise = None if facts.reliability is None else facts.reliability.noise
        if facts.effects is not None:
            pictures.append(effects_picture(facts.effects, facts.metric))
        figure = course_figure(facts.scored, best_so_far(facts.trials), noise, facts.metric)
        pictures.append(Picture("course", figure, said["course"]))
    return pictures


def effects_picture(effects: Analysis, metric: Metric) -> Picture:
    """Return what the choices do to the score."""
    said = " ".join(analysis_sentences(effects))
    return Picture("effects", effects_figure(effects, metric), said)


def verdict_picture(verdict: Verdict) -> Picture:
    """Return how the confirmed leader differs from the others, with intervals."""
    return Picture("verdict", verdict_figure(verdict), " ".join(sentences(verdict)))


def figure_words(facts: Facts) -> dict[str, str]:
    """Return what each figure of the results shows, in words."""
    candidates = [t for t in facts.scored if t["label"] is None]
    words = {}
    for cost in facts.costs:
        front = "; ".join(
            f"trial {row['trial']} {scored(row['score'], facts.metric)} at {row[cost]:.3g} {cost}"
            for row in facts.pareto[cost]
        )
        words[cost] = (
            f"Scatter plot of {len(candidates)} candidates and "
            f"{len(facts.scored) - len(candidates)} published designs, score against {cost}. "
            f"On the Pareto front: {front or 'none'}."
        )
    risen = "; ".join(
        f"{scored(s, facts.metric)} with trial {t}" for t, s in best_so_far(facts.trials)
    )
    words["course"] = (
        f"Scores in the order proposed. The best so far rises to {risen or 'nothing'}."
    )
    counts: dict[str, int] = {}
    for trial in facts.trials:
        counts[trial["state"]] = counts.get(trial["state"], 0) + 1
    words["outcomes"] = "Trials by outcome: " + ", ".join(f"{n} {s}" for s, n in counts.items())
    return words
