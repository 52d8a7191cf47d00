"""What the choices of a study do to its score, from its own trials, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from nas.evidence.findings import Analysis, analysis_sentences
from nas.evidence.words import difference
from nas.report.console import table

if TYPE_CHECKING:
    from nas.study.recipe import Recipe
    from search_spaces import SearchSpace


def analyze_study(study: str, storage: str) -> dict[str, Any]:
    """Return the analysis of a study's trials, as plain data, under its name.

    Raises: StudyError for an unknown study, fewer than 8 designs, or none that differ.
    """
    from nas.driver.studies import open_study
    from nas.evidence.effects import Sample, analyze
    from nas.evidence.finalists import noise_of
    from nas.store import queries
    from nas.study.tasks import metric_of

    opened = open_study(study, storage)
    settings = opened.settings
    opened.close()
    samples = [
        Sample(
            design=row["fingerprint"],
            choices={name: str(value) for name, value in row["choices"].items()},
            score=row["score"],
            cost=float(row["flops"]),
        )
        for row in queries.trials(study, storage)
        if row["state"] == queries.COMPLETE and row["score"] is not None and row["choices"]
    ]
    recipe: Recipe = settings.recipe
    noise = noise_of(recipe)
    found = analyze(
        samples,
        unit=metric_of(recipe.to_dict()).unit,
        noise=None if noise is None else noise.sd,
        stages=stages_of(settings.space),
    )
    return {"study": study, "runs": len(samples), **found.model_dump(mode="json", by_alias=True)}


def stages_of(space: SearchSpace) -> dict[str, int]:
    """Return the stage, counted from 1, of each choice that writes to one stage alone."""
    stages = {}
    for name, choice in space.choices.items():
        parts = [path.split(".") for path in choice.sets]
        places = {p[1] if p[0] == "stages" else "" for p in parts}
        if len(places) == 1 and (place := places.pop()).isdigit():
            stages[name] = int(place) + 1
    return stages


def analysis_view(data: dict[str, Any]) -> RenderableType:
    """Render `analyze_study`: the strongest level of each choice, then what stands out."""
    fields = {k: v for k, v in data.items() if k not in ("study", "runs")}
    found = Analysis.model_validate(fields)
    rows = []
    for factor in sorted(found.factors, key=lambda f: (f.p_holm, f.p_value)):
        for level in factor.levels:
            rows.append(
                (
                    factor.factor,
                    "-" if factor.stage is None else factor.stage,
                    f"{level.level} ({level.designs})",
                    factor.reference,
                    difference(level.estimate, found.unit, bare=True),
                    f"{difference(level.low, found.unit, bare=True)} to "
                    f"{difference(level.high, found.unit, bare=True)}",
                    f"{factor.p_holm:.3f}",
                    "-" if factor.importance is None else f"{100 * factor.importance:.0f} %",
                )
            )
    columns = ("choice", "stage", "level (designs)", "against", "effect", "95 %", "p", "importance")
    head = f"{data['study']}: {found.designs} designs, effects at equal FLOPs"
    parts: list[RenderableType] = [
        Text(head, "bold"),
        table(columns, rows, numeric=("stage", "effect", "p", "importance")),
        Text(),
    ]
    if any(not f.adjusted for f in found.factors):
        said = (
            "too few designs for all choices at once: each is fitted alone, and choices that went "
            "together cannot be told apart"
        )
        parts.append(Text(said, "yellow"))
    return Group(*parts, *(Text(line) for line in analysis_sentences(found)))
