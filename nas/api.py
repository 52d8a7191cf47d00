"""A search from Python: what the command line calls, and a notebook.

    from nas import search
    study = search(space="quadtree", budget="4.5GFLOPs", data="digits", trials=50)
    study.best.config, study.verdict, study.frame(), study.export("best.yaml")

Nothing heavy is imported before a search begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from backbones.config import BackboneConfig
    from backbones.image_size import ImageSize
    from backbones.outside import TimmConfig
    from nas.driver.progress import StudyFinished
    from nas.driver.running import Executor
    from nas.driver.studies import Study as OpenStudy
    from nas.evidence.verdict import Verdict
    from nas.executors.attempt import Proxy
    from nas.study.recipe import Recipe
    from nas.study.settings import Settings

DEFAULT_STORAGE = "sqlite:///runs/nas.db"
# Of a place; the rest of `Where` chooses the executor.
_IN_SECONDS = ("timeout", "trial_timeout", "stall")
_PLACE = (*_IN_SECONDS, "data_dir", "patience", "checkpoints", "max_checkpoint_gb")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a run's trials train, and for how long.

    timeout: no trial starts later, in seconds; trial_timeout: of one. stall: end one that makes no
    batch for so long. patience: end when so many candidates in a row move the best by no more than
    noise. executor: auto, inline or ray; the
    others are for Ray. checkpoints: their folder. max_checkpoint_gb: what they may take together.
    """

    timeout: float | None = None
    trial_timeout: float | None = None
    stall: float | None = None
    patience: int | None = None
    data_dir: str | None = None
    executor: str = "auto"
    workers: int | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: float | None = None
    ray_address: str | None = None
    checkpoints: Path | None = None
    max_checkpoint_gb: float | None = None

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Where:
        """Return what is stated; StudyError for a name that is unknown, with the nearest."""
        from kernels.errors import nearest
        from nas.errors import StudyError

        known = list(cls.__dataclass_fields__)
        for name in stated:
            if name not in known:
                hint = nearest(name, known, f"known: {', '.join(known)}")
                raise StudyError(f"unknown option {name!r}; {hint}")
        return cls(**stated)

    def place(self) -> dict[str, Any]:
        """Return what was stated of a `nas.study.place.Place`; None is not stated."""
        return {n + "_s" * (n in _IN_SECONDS): getattr(self, n) for n in _PLACE}

    def choose(self, settings: Settings, device: str, proxy: Proxy | None = None) -> Executor:
        """Return the executor that trains trials with these settings on a kind of device.

        proxy: what scores a design, where it is not the recipe's own.
        Raises: StudyError as `nas.executors.choice.choose_executor`, and for a folder of
            checkpoints that cannot be made.
        """
        from nas.driver.disk import make_folder
        from nas.executors.choice import choose_executor

        chosen = choose_executor(
            self.executor,
            device=device,
            threads=settings.recipe.threads,
            workers=self.workers,
            cpus_per_trial=self.cpus_per_trial,
            gpus_per_trial=self.gpus_per_trial,
            ray_address=self.ray_address,
            proxy=proxy,
        )
        if self.checkpoints is not None:
            make_folder(self.checkpoints)
        return chosen


@dataclass(frozen=True)
class Design:
    """A design of a study: its trial, score, cost and config; `build` makes the network."""

    trial: int
    name: str
    score: float | None
    flops: int
    params: int
    choices: Mapping[str, Any] | None
    config: BackboneConfig | TimmConfig

    def build(self, **overrides: Any) -> nn.Module:
        """Return the network, freshly initialized; overrides as of `backbones.create`."""
        import backbones

        model: nn.Module = backbones.create(self.config, **overrides)
        return model


class Study:
    """A study of a database, read anew whenever it is asked.

    finished: the last word of the run that this object made; None where it made none.
    """

    def __init__(self, name: str, storage: str, finished: StudyFinished | None = None) -> None:
        self.name, self.storage, self.finished = name, storage, finished

    @classmethod
    def open(cls, name: str, storage: str = DEFAULT_STORAGE) -> Study:
        """Return a study that exists; StudyError for an unknown one, StoreError."""
        study = cls(name, storage)
        study.summary()
        return study

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.storage!r})"

    def summary(self, top: int = 10) -> dict[str, Any]:
        """Return what `show --json` prints; see `nas.store.queries.summary`."""
        from nas.store import queries

        return queries.summary(self.name, self.storage, top=top)

    @property
    def best(self) -> Design | None:
        """The design that is exported: of a confirmation, else by the trials; None before any."""
        from nas.export.trials import chosen_trial

        summary = self.summary(top=1)
        return None if summary["best"] is None else self.design(chosen_trial(summary))

    @property
    def pareto(self) -> list[Design]:
        """The designs that no cheaper one (in FLOPs) equals, best score first."""
        return [self.design(row["trial"]) for row in self.summary(top=1)["pareto"]["flops"]]

    @property
    def baselines(self) -> list[Design]:
        """The published designs at the same budget, best score first."""
        return [self.design(row["trial"]) for row in self.summary(top=1)["baselines"]]

    @property
    def verdict(self) -> Verdict | None:
        """What a confirmation has found, None before one; `sentences` of its module words it."""
        from nas.evidence.verdict import Verdict

        found = self.summary(top=1)["verdict"]
        return None if found is None else Verdict.model_validate(found)

    def design(self, trial: int) -> Design:
        """Return the design of a trial; StudyError for an unknown one."""
        from backbones.outside import read_design
        from nas.store import queries

        row = queries.trial(self.name, self.storage, trial)
        fields = {name: row[name] for name in ("trial", "score", "flops", "params", "choices")}
        config = read_design(row["config"])
        return Design(name=row["label"] or row["kind"], config=config, **fields)

    def frame(self) -> pandas.DataFrame:
        """Return all trials as a table: a row a trial, a column `choices.NAME` a choice."""
        from nas.report.tables import trials_frame
        from nas.store import queries

        return trials_frame(self.name, queries.trials(self.name, self.storage))

    def export(self, path: str | Path | None = None, trial: int | None = None) -> Path:
        """Write a design, the best by default, as a config proven to rebuild it.

        Raises: StudyError as `nas.export.trials.export_trials`.
        """
        from nas.export.trials import export_trials

        which = "best" if trial is None else str(trial)
        out = None if path is None else Path(path)
        [(_, written)] = export_trials(self.name, self.storage, which=which, out=out)
        return written

    def resume(
        self,
        trials: int | None = None,
        *,
        evaluate: str | Callable[..., Any] | None = None,
        plain: bool = False,
        **where: Any,
    ) -> Study:
        """Continue, with `trials` candidates in all; where: fields of `Where`.

        evaluate: again the function that the study began with, if it is in no module.
        """
        asked = Where.of(where)
        return self._again(asked, evaluate, plain, trials=trials)

    def confirm(
        self,
        confirm: str = "auto",
        *,
        evaluate: str | Callable[..., Any] | None = None,
        plain: bool = False,
        **where: Any,
    ) -> Study:
        """Train finalists and baselines again with fresh seeds: auto (3x3) or FINALISTSxSEEDS."""
        return self._again(Where.of(where), evaluate, plain, confirm=confirm)

    def _again(
        self,
        where: Where,
        evaluate: str | Callable[..., Any] | None,
        plain: bool,
        *,
        trials: int | None = None,
        confirm: str | None = None,
    ) -> Study:
        from nas.driver.studies import open_study
        from nas.study.confirmation import parse_confirmation
        from nas.study.place import Place

        asked = None if confirm is None else parse_confirmation(confirm)
        place = Place.of(**where.place())
        opened = open_study(self.name, self.storage, place=place, check_data=True)
        try:
            proxy = _proxy(evaluate, opened.settings.recipe)
            executor = where.choose(opened.settings, opened.place.device, proxy)
            if confirm is not None:
                opened.confirm(asked)
        except BaseException:
            opened.close()
            raise
        return run_opened(opened, self.storage, executor, plain, trials)


def search(
    space: str | Path | Mapping[str, Any],
    budget: str | Sequence[str],
    *,
    data: Any = None,
    trials: int | None = None,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    evaluate: str | Callable[..., Any] | None = None,
    recipe: str | Path | Recipe | None = None,
    epochs: int | None = None,
    strategy: str | Callable[..., Any] | None = None,
    objective: str = "top1",
    warm_start: str = "presets",
    pruner: str = "none",
    confirm: str = "auto",
    image_size: ImageSize | str = 224,
    device: str = "auto",
    backend: str = "auto",
    latency_device: str | None = None,
    latency_batch: int | None = None,
    baseline: str | Sequence[str] = (),
    seed: int = 0,
    plain: bool = False,
    **where: Any,
) -> Study:
    """Search a space under a budget, as the command `search` does; an existing study goes on.

    space: a shipped one's name, a YAML file, or what such a file holds. budget: "4.5GFLOPs", or
    several. data: a name as on the command line, or a torch Dataset of (image, label), whose images
    are written beside the database. evaluate: scores a design in place of a training:
    (config, `nas.training.own.Context`) -> number or dict, or its module:function. strategy: a
    name, or an Optuna sampler's class or its module:Class. plain: lines alone. where: of `Where`.
    Raises: what the command says in one line (`ScanNASError`), before anything is trained.
    """
    from nas.driver.enqueueing import enqueue, wishes
    from nas.driver.studies import start
    from nas.executors.choice import place_for
    from nas.planning.strategies.outside import name_of
    from nas.study.confirmation import parse_confirmation

    asked = Where.of(where)
    place = place_for(device, asked.ray_address, backend=backend, **asked.place())
    from_file = warm_start not in ("presets", "none")
    named = dict[str, Any](space=space, trials=trials, epochs=epochs, seed=seed)
    named |= {"latency_device": latency_device, "latency_batch": latency_batch}
    named |= {"recipe": recipe, "evaluate": evaluate, "objective": objective, "baseline": baseline}
    named |= {"place": place, "pruner": pruner, "image_size": image_size}
    settings = _settings(
        budget=[budget] if isinstance(budget, str) else budget,
        data=_data(data, storage),
        strategy=strategy and name_of(strategy),
        warm_start="presets" if from_file else warm_start,
        **named,
    )
    executor = asked.choose(settings, place.device, _proxy(evaluate, settings.recipe))
    first = wishes([warm_start] if from_file else [], settings)
    opened = start(study, storage, settings, place, confirmation=parse_confirmation(confirm))
    enqueue(opened, first)
    return run_opened(opened, storage, executor, plain)


def _settings(
    *,
    budget: Sequence[str],
    recipe: str | Path | Recipe | None,
    evaluate: str | Callable[..., Any] | None,
    objective: str,
    baseline: str | Sequence[str],
    image_size: ImageSize | str,
    **fields: Any,
) -> Settings:
    """Return settings from the forms that a user may write them in."""
    from backbones.image_size import parse_image_size
    from nas.driver.request import search_settings
    from nas.study.budget import parse_budget

    return search_settings(
        budget=parse_budget(list(budget)),
        recipe=Path(recipe) if isinstance(recipe, str) else recipe,
        evaluate=_name(evaluate),
        objectives=objective.split(","),
        baselines=tuple(baseline.split(",") if isinstance(baseline, str) else baseline),
        image_size=parse_image_size(image_size) if isinstance(image_size, str) else image_size,
        **fields,
    )


def run_opened(
    opened: OpenStudy, storage: str, executor: Executor, plain: bool, trials: int | None = None
) -> Study:
    """Run an open study to its end, showing how it goes; close it."""
    from nas.driver.running import run
    from nas.report.console import console
    from nas.report.live import Live

    try:
        with Live(console, plain=plain) as live:
            finished = run(opened, executor, live, trials=trials)
    finally:
        opened.close()
    return Study(opened.name, storage, finished)


def _data(data: Any, storage: str) -> str | None:
    if data is None or isinstance(data, str):
        return data
    from nas.store.urls import parse_url
    from nas.training.data.keep import keep_dataset

    url = parse_url(storage)
    file = url.database if url.get_backend_name() == "sqlite" else None
    return keep_dataset(data, (Path(file).parent if file else Path("runs")) / "data")


def _name(evaluate: str | Callable[..., Any] | None) -> str | None:
    if evaluate is None:
        return None
    from nas.training.own import name_of

    return name_of(evaluate)


def _proxy(evaluate: str | Callable[..., Any] | None, recipe: Recipe) -> Proxy | None:
    """Return what scores designs where it is not the recipe's training.

    Raises: DataError for a function that cannot be found; StudyError for another one than the
        study's.
    """
    from nas.errors import StudyError
    from nas.training.own import OwnEvaluation, find_evaluation, name_of

    if evaluate is not None and name_of(evaluate) != recipe.evaluate:
        raise StudyError(
            f"the study's designs are scored by {recipe.evaluate or 'its recipe'}, not by "
            f"{name_of(evaluate)}; scores of both do not compare: begin a new study"
        )
    if recipe.evaluate is None:
        return None
    if evaluate is None or isinstance(evaluate, str):
        return find_evaluation(recipe.evaluate)
    return OwnEvaluation(evaluate)
