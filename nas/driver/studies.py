"""Studies: make one, open one.

    settings = search_settings(space="quadtree", budget=parse_budget(["4.5GFLOPs"]))
    study = start(None, "sqlite:///runs/nas.db", settings, Place(device="cuda"))
    finished = run(study, InlineExecutor(), progress=print)

Everything a study knows is in its database; a `Study` is a handle that any process may open.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import exc, select
from sqlalchemy.orm import Session

from nas.driver.clock import Clock, SystemClock
from nas.driver.optuna_copy import open_optuna
from nas.errors import StudyError
from nas.planning.proposals import Nothing, Planner
from nas.store import comparisons, confirmations, runs
from nas.store.history import find_study
from nas.store.session import NoStore, Store, open_store, opened
from nas.store.tables import Study as StudyRow
from nas.study.comparison import Asked
from nas.study.confirmation import Confirmation
from nas.study.place import Place
from nas.study.settings import Settings, stored_settings
from search_spaces import SearchSpace

# A name is a folder name as well, and is typed on command lines.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHECKPOINTS = "checkpoints"
_HERE = Place()


class NameTaken(StudyError):
    """A new study was to have the name of another one."""


@dataclass
class Study:
    """An open study. continued: whether it existed before it was opened."""

    name: str
    id: int
    store: Store
    settings: Settings
    place: Place
    clock: Clock
    created_at: float
    continued: bool = True

    @property
    def checkpoints(self) -> Path:
        """The folder of this study's checkpoints: beside an SQLite file, or in runs/.

        Its name says which database it belongs to: another one may hold a study of this name.
        """
        folder, path = self.place.checkpoints, self.store.path
        if folder is None:
            folder = (Path("runs") if path is None else path.parent) / _CHECKPOINTS
        database = self.store.url.database if path is None else path.resolve()
        key = hashlib.sha256(f"{database}/{self.id}/{self.created_at!r}".encode()).hexdigest()[:8]
        return folder.absolute() / f"{self.name}-{key}"

    def want(self, trials: int) -> None:
        """Change how many candidates the study wants, for every driver of it."""
        self.settings = self.settings.model_copy(update={"trials": trials})

        def change(session: Session) -> None:
            if runs.wanted(session, self.id) == trials:
                return
            runs.change_study(session, self.id, trials=trials)
            confirmations.ask_again(session, self.id)

        self.store.write(change)

    def confirm(self, asked: Confirmation | None) -> None:
        """Ask for a confirmation when the search is over, or for none."""
        self.store.write(lambda s: confirmations.ask(s, self.id, asked))

    def compare(self, asked: Asked) -> None:
        """Ask something of designs when the search, if there is one, is over."""
        self.store.write(lambda s: comparisons.ask(s, self.id, asked))

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def start(
    name: str | None,
    storage: str,
    settings: Settings,
    place: Place = _HERE,
    *,
    confirmation: Confirmation | None = None,
    clock: Clock | None = None,
) -> Study:
    """Make a study, or open the one of that name if it was made with the same settings.

    place: where this driver runs it; what it does not state is as the first driver had it.
    confirmation: of a new study.
    Raises: as `create_study`; StudyError when the study differs, naming the first difference.
    """
    if name is None or not _exists(name, storage):
        try:
            return create_study(
                settings,
                storage,
                name=name,
                place=place,
                confirmation=confirmation,
                clock=clock,
            )
        except NameTaken:
            if name is None or not _exists(name, storage):
                raise
            # Another machine began the same study at this moment: continue it.
    study = open_study(name, storage, place=place, clock=clock, check_data=True)
    if (changed := study.settings.difference(settings)) is not None:
        study.close()
        raise StudyError(
            f"study {name!r} cannot be continued so: {changed}; `resume {name}` keeps its "
            "settings, another --study makes a new one"
        )
    if "trials" in settings.model_fields_set:
        study.want(settings.trials)
    return study


def create_study(
    settings: Settings,
    storage: str,
    *,
    name: str | None = None,
    place: Place = _HERE,
    confirmation: Confirmation | None = None,
    clock: Clock | None = None,
    check_data: bool = True,
) -> Study:
    """Make a study after checking that it can run; without a name it gets a readable one.

    confirmation: what trains again when the search is over; None for nothing.
    check_data: whether the recipe's data set is looked at first.
    Raises: StoreError; StudyError for a bad or taken name; DataError; SpaceError or BudgetError
        when no design fits the budget. The database is as before then.
    """
    if name is not None:
        check_name(name)
    clock = clock or SystemClock()
    if check_data:
        _check_data(settings, place)
    _check_feasible(settings)
    store = open_store(storage, create=True)
    try:
        taken = _optuna_names(store)
        now = clock.now()
        stored = None if confirmation is None else confirmation.model_dump(mode="json")
        row = _row(settings, place, now) | {"confirmation": stored}
        chosen, study_id = _insert(store, settings, row, name, taken)
    except BaseException:
        store.close()
        raise
    return Study(chosen, study_id, store, settings, place, clock, now, continued=False)


def check_name(name: str) -> None:
    """Raise StudyError for what can be no study's name."""
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"study name {name!r} must be up to 100 letters, digits, '.', '_' or '-', and begin "
            "with a letter or digit"
        )


def open_study(
    name: str,
    storage: str,
    *,
    place: Place = _HERE,
    clock: Clock | None = None,
    check_data: bool = False,
) -> Study:
    """Open a study with its stored settings.

    place: where this driver runs it; what it does not state is as the first driver had it.
    check_data: whether the recipe's data set is looked at, as before a training.
    Raises: StoreError; StudyError for an unknown name, for stored settings that this version
        cannot read, when the space file has changed, or for a place whose scores would not
        compare; DataError.
    """
    store = open_store(storage)
    try:
        row = store.read(lambda s: find_study(s, name, store.shown))
        settings = settings_of(row)
        _check_unchanged(name, settings.space, settings.space_source)
        first = Place.of(**row.place)
        if (changed := first.difference(place)) is not None:
            raise StudyError(
                f"study {name!r} cannot be continued so: {changed}; scores of different hardware "
                f"do not compare: `resume {name}` goes on as before, another --study begins anew"
            )
        place = place.over(first)
        if check_data:
            _check_data(settings, place)
    except BaseException:
        store.close()
        raise
    return Study(name, row.id, store, settings, place, clock or SystemClock(), row.created_at)


def settings_of(row: StudyRow) -> Settings:
    """Return the settings with which a study was made.

    Raises: StudyError for settings that this version cannot read.
    """
    space = SearchSpace.from_text(row.space_text, f"space of study {row.name}", proven=True)
    return stored_settings(
        row.settings, study=row.name, space=space, trials=row.trials, seed=row.seed
    )


def _check_data(settings: Settings, place: Place) -> None:
    from nas.training.data.catalog import check_data

    check_data(place.recipe(settings.recipe))


def _exists(name: str, storage: str) -> bool:
    try:
        with opened(storage) as store:
            return store.read(partial(_id_of, name=name)) is not None
    except NoStore:
        return False


def _check_feasible(settings: Settings) -> None:
    """Raise unless the strategy's first proposal can be made: before any row exists."""
    answer = Planner("feasible", settings, None).candidate()
    if isinstance(answer, Nothing):
        raise StudyError(answer.reason)


def _check_unchanged(name: str, stored: SearchSpace, source: str | None) -> None:
    """Refuse to continue under a space file that says something else than it did."""
    if source is None or not Path(source).is_file():
        return
    changed = stored.diff(SearchSpace.load(source))
    if changed is not None:
        raise StudyError(
            f"the space file {source} has changed since study {name!r} began: {changed}; restore "
            "the file, or begin a new study with it"
        )


def _optuna_names(store: Store) -> set[str]:
    """Return the names that other programs have given to Optuna studies in this database."""
    with open_optuna(store) as storage:
        return set(optuna.get_all_study_names(storage))


def _insert(
    store: Store,
    settings: Settings,
    row: dict[str, Any],
    name: str | None,
    taken: set[str],
) -> tuple[str, int]:
    """Write the study's row under a free name."""
    for candidate in _names(settings) if name is None else [name]:
        if candidate in taken and name is None:
            continue
        known = store.read(partial(_id_of, name=candidate))
        if known is None and candidate in taken:
            raise NameTaken(
                f"study {candidate!r} exists in this database, made by another program; choose "
                "another --study"
            )
        if known is None:
            try:
                return candidate, store.write(
                    partial(_add, values=row | {"name": candidate}), durable=True
                )
            except exc.IntegrityError:
                pass  # somebody took the name at this moment
        if name is not None:
            raise NameTaken(f"study {name!r} exists; `resume {name}` continues it")
    raise AssertionError("names do not run out")


def _row(settings: Settings, place: Place, now: float) -> dict[str, Any]:
    space = settings.space
    return {
        "space_name": space.name,
        "space_version": space.version,
        "space_fingerprint": space.fingerprint,
        "space_text": space.source_text,
        "settings": settings.to_dict(),
        "place": place.to_dict(),
        "trials": settings.trials,
        "seed": settings.seed,
        "planner": None,
        "created_at": now,
    }


def _add(session: Session, values: dict[str, Any]) -> int:
    row = StudyRow(**values)
    session.add(row)
    session.flush()
    return row.id


def _id_of(session: Session, name: str) -> int | None:
    return session.scalar(select(StudyRow.id).where(StudyRow.name == name))


def _names(settings: Settings) -> Any:
    """Yield space-budget, space-budget-2, ..."""
    budget = "-".join(settings.budget.text)
    base = re.sub(r"[^A-Za-z0-9._-]+", "", f"{settings.space.name}-{budget}")[:80]
    yield base
    for number in range(2, 1_000_000):
        yield f"{base}-{number}"
