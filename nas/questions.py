"""What a choice or a proxy is worth, from Python: what `ablate`, `fidelity` and `analyze` call.

    from nas import ablate
    answer = ablate("vmamba_tiny_s1l8", choice="scan", levels=["cross", "raster"])
    answer.found.outcome, answer.sentences

A study keeps the trainings, and the same call goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api import DEFAULT_STORAGE, Study, Where, run_opened

if TYPE_CHECKING:
    from backbones.image_size import ImageSize
    from nas.driver.running import Executor
    from nas.driver.studies import Study as OpenStudy
    from nas.evidence.findings import Ablation, Fidelities, PublishedTable
    from nas.study.comparison import Asked
    from nas.study.place import Place
    from nas.study.recipe import Recipe
    from nas.study.settings import Settings

MARGIN, SEEDS, TABLE_SEEDS, DESIGNS = 0.02, 12, 5, 8


@dataclass(frozen=True)
class Answer:
    """What was asked, and what was found. done: whether that is the last word.

    study: holds the trainings. found: None where nothing is known yet.
    """

    study: Study
    asked: Asked
    found: Ablation | PublishedTable | Fidelities | None
    done: bool

    @property
    def sentences(self) -> list[str]:
        """What was found, in words, the most important first."""
        from nas.evidence import findings

        match self.found:
            case findings.Ablation():
                return findings.ablation_sentences(self.found)
            case findings.PublishedTable():
                return findings.table_sentences(self.found)
            case findings.Fidelities():
                return [s for one in self.found.longer for s in findings.fidelity_sentences(one)]
            case _:
                return []


def ablate(
    arch: str | None = None,
    *,
    choice: str | None = None,
    space: str | None = None,
    levels: Sequence[str] | None = None,
    table: str | None = None,
    data: str | None = None,
    recipe: Path | Recipe | None = None,
    epochs: int | None = None,
    margin: float | None = None,
    seeds: int | None = None,
    controls: bool = True,
    budget: str | None = None,
    image_size: ImageSize = 224,
    device: str = "auto",
    backend: str = "auto",
    seed: int = 0,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    plain: bool = False,
    **where: Any,
) -> Answer:
    """Say whether one choice matters, or how a paper's table comes out, as the command `ablate`.

    where: fields of `nas.api.Where`; the rest as the command's options.
    Raises: what the command says in one line (`ScanNASError`), before anything is trained.
    """
    asked: dict[str, Any] = {"choice": choice, "space": space, "levels": levels, "table": table}
    asked |= {"margin": margin, "seeds": seeds, "controls": controls, "seed": seed}
    asked |= {"data": data, "recipe": recipe, "epochs": epochs, "budget": budget}
    opened, question, executor = ask_ablation(
        arch,
        Where.of(where),
        device=device,
        backend=backend,
        study=study,
        storage=storage,
        image_size=image_size,
        **asked,
    )
    return _answer(opened, question, storage, executor, plain)


def ask_ablation(
    arch: str | None,
    where: Where,
    *,
    device: str,
    backend: str,
    study: str | None,
    storage: str,
    **asked: Any,
) -> tuple[OpenStudy, Asked, Executor]:
    """Return the study of an ablation, what it is to be asked, and what trains it."""
    from nas.driver.studies import start
    from nas.executors.choice import place_for

    place = place_for(device, where.ray_address, backend=backend, **where.place())
    name, settings, question = _ablation(arch, place, **asked)
    executor = where.choose(settings, place.device)
    opened = start(study or name, storage, settings, place)
    return opened, question, executor


def _ablation(
    arch: str | None,
    place: Place,
    *,
    choice: str | None,
    space: str | None,
    levels: Sequence[str] | None,
    table: str | None,
    margin: float | None,
    seeds: int | None,
    controls: bool,
    **training: Any,
) -> tuple[str, Settings, Asked]:
    """Return a study's name, its settings, and what is asked of it."""
    from nas.driver.ablating import ablation_of, question, table_of
    from nas.errors import StudyError

    if (table is None) == (choice is None):
        raise StudyError("nothing to compare: give --choice (with ARCH or --space), or --table")
    if table is not None:
        if arch is not None or space is not None:
            raise StudyError("--table brings its own designs; leave out ARCH and --space")
        settings, _ = question(table=table, place=place, **training)
        return f"ablate-{table}", settings, table_of(settings, seeds or TABLE_SEEDS)
    assert choice is not None
    settings, point = question(arch=arch, space=space, choice=choice, place=place, **training)
    asked = ablation_of(
        settings,
        point,
        choice,
        subject=arch or f"the base of {settings.space.name}",
        margin=MARGIN if margin is None else margin,
        seeds=seeds or SEEDS,
        only=levels,
        controls=controls,
    )
    return f"ablate-{settings.space.name}-{choice}", settings, asked


def fidelity(
    study: str | Study,
    storage: str = DEFAULT_STORAGE,
    *,
    designs: int = DESIGNS,
    times: Sequence[float] | None = None,
    recipe: str | Path | Recipe | None = None,
    plain: bool = False,
    **where: Any,
) -> Answer:
    """Say whether a study's proxy ranks as longer trainings do, as the command `fidelity`.

    where: fields of `nas.api.Where`; the rest as the command's options.
    """
    name, storage = _named(study, storage)
    asked: dict[str, Any] = {"designs": designs, "times": times, "recipe": recipe}
    opened, question, executor = ask_fidelity(name, Where.of(where), storage=storage, **asked)
    return _answer(opened, question, storage, executor, plain)


def ask_fidelity(
    study: str,
    where: Where,
    *,
    storage: str,
    designs: int,
    times: Sequence[float] | None,
    recipe: str | Path | Recipe | None,
) -> tuple[OpenStudy, Asked, Executor]:
    """Return a study, what it is to be asked of longer trainings, and what trains it."""
    from nas.driver.sampling import TIMES, fidelity_of
    from nas.driver.studies import open_study
    from nas.study.place import Place
    from nas.study.recipe import Recipe

    longer = recipe if recipe is None or isinstance(recipe, Recipe) else Recipe.load(recipe)
    opened = open_study(study, storage, place=Place.of(**where.place()), check_data=True)
    try:
        executor = where.choose(opened.settings, opened.place.device)
        question = fidelity_of(
            opened.store,
            opened.id,
            opened.settings.recipe,
            designs=designs,
            times=times or TIMES,
            longer=longer,
        )
    except BaseException:
        opened.close()
        raise
    return opened, question, executor


def analyze(study: str | Study, storage: str = DEFAULT_STORAGE) -> dict[str, Any]:
    """Return what each choice does to the score, as `analyze --json`; nothing is trained."""
    from nas.report.analyses import analyze_study

    return analyze_study(*_named(study, storage))


def _named(study: str | Study, storage: str) -> tuple[str, str]:
    return (study, storage) if isinstance(study, str) else (study.name, study.storage)


def _answer(
    opened: OpenStudy, question: Asked, storage: str, executor: Executor, plain: bool
) -> Answer:
    """Ask a study, train what it takes, return what was found."""
    from nas.evidence.findings import Ablation, Fidelities, PublishedTable
    from nas.study.comparison import NO_FINDING, Held

    try:
        opened.compare(question)
    except BaseException:
        opened.close()
        raise
    study = run_opened(opened, storage, executor, plain)
    every = [Held.model_validate(data) for data in study.summary(top=1)["comparisons"]]
    held = next(one for one in every if one.asked.kind == question.kind)
    records: dict[str, type[Ablation | PublishedTable | Fidelities]] = {
        "ablation": Ablation,
        "table": PublishedTable,
        "fidelity": Fidelities,
    }
    known = held.found is not None and NO_FINDING not in held.found
    found = records[held.asked.kind].model_validate(held.found) if known else None
    return Answer(study, held.asked, found, held.done)
