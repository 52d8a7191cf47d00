"""Studies: make one, open one.

    settings = search_settings(space="quadtree", budget=parse_budget(["4.5GFLOPs"]))
    study = start(None, "sqlite:///runs/nas.db", settings)
    finished = run(study, InlineExecutor(), progress=print)

Everything a study knows is in its database; a `Study` is a handle that any process may open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from nas.store.history import find_study
from nas.store.session import NoStore, Store, open_store, opened
from nas.store.tables import Study as StudyRow
from nas.study.settings import Settings
from search_spaces import SearchSpace

# A name is a folder name as well, and is typed on command lines.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHECKPOINTS = "checkpoints"


class NameTaken(StudyError):
    """A new study was to have the name of another one."""


@dataclass
class Study:
    """An open study. continued: whether it existed before it was opened."""

    name: str
    id: int
    store: Store
    settings: Settings
    clock: Clock
    continued: bool = True

    @property
    def checkpoints(self) -> Path:
        """The folder of this study's checkpoints: beside an SQLite file, or in runs/."""
        beside = Path("runs") if self.store.path is None else self.store.path.parent
        return beside.absolute() / _CHECKPOINTS / self.name

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def start(
    name: str | None, storage: str, settings: Settings, *, clock: Clock | None = None
) -> Study:
    """Make a study, or open the one of that name if it was made with the same settings.

    Raises: as `create_study`; StudyError when the study differs, naming the first difference.
    """
    if name is None or not _exists(name, storage):
        try:
            return create_study(settings, storage, name=name, clock=clock)
        except NameTaken:
            if name is None or not _exists(name, storage):
                raise
            # Another machine began the same study at this moment: continue it.
    study = open_study(name, storage, clock=clock, check_data=True)
    if (changed := study.settings.difference(settings)) is not None:
        study.close()
        raise StudyError(
            f"study {name!r} cannot be continued so: {changed}; `resume {name}` keeps its "
            "settings, another --study makes a new one"
        )
    limited = replace(study.settings, trials=settings.trials, timeout_s=settings.timeout_s)
    return replace(study, settings=limited)


def create_study(
    settings: Settings,
    storage: str,
    *,
    name: str | None = None,
    clock: Clock | None = None,
    check_data: bool = True,
) -> Study:
    """Make a study after checking that it can run; without a name it gets a readable one.

    check_data: whether the recipe's data set is looked at first.
    Raises: StoreError; StudyError for a bad or taken name; DataError; SpaceError or BudgetError
        when no design fits the budget. The database is as before then.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise StudyError(
            f"study name {name!r} must be up to 100 letters, digits, '.', '_' or '-', and begin "
            "with a letter or digit"
        )
    clock = clock or SystemClock()
    if check_data:
        _check_data(settings)
    _check_feasible(settings)
    store = open_store(storage, create=True)
    try:
        taken = _optuna_names(store)
        chosen, study_id = _insert(store, settings, name, taken, clock.now())
    except BaseException:
        store.close()
        raise
    return Study(chosen, study_id, store, settings, clock, continued=False)


def open_study(
    name: str, storage: str, *, clock: Clock | None = None, check_data: bool = False
) -> Study:
    """Open a study with its stored settings.

    check_data: whether the recipe's data set is looked at, as before a training.
    Raises: StoreError; StudyError for an unknown name, or when its space file has changed;
        DataError.
    """
    store = open_store(storage)
    try:
        row = store.read(lambda s: find_study(s, name, store.shown))
        space = SearchSpace.from_text(row.space_text, f"space of study {name}", proven=True)
        source = row.settings.get("space_source")
        _check_unchanged(name, space, source)
        stored = {k: v for k, v in row.settings.items() if k != "space_source"}
        settings = Settings.from_dict(
            stored, space=space, trials=row.trials, seed=row.seed, source=source
        )
        if check_data:
            _check_data(settings)
    except BaseException:
        store.close()
        raise
    return Study(name, row.id, store, settings, clock or SystemClock())


def _check_data(settings: Settings) -> None:
    from nas.training.data.catalog import check_data

    check_data(settings.recipe)


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
    store: Store, settings: Settings, name: str | None, taken: set[str], now: float
) -> tuple[str, int]:
    """Write the study's row under a free name."""
    for candidate in _names(settings) if name is None else [name]:
        if candidate in taken and name is None:
            continue
        row = _row(settings, candidate, now)
        known = store.read(partial(_id_of, name=candidate))
        if known is None and candidate in taken:
            raise NameTaken(
                f"study {candidate!r} exists in this database, made by another program; choose "
                "another --study"
            )
        if known is None:
            try:
                return candidate, store.write(partial(_add, values=row), durable=True)
            except exc.IntegrityError:
                pass  # somebody took the name at this moment
        if name is not None:
            raise NameTaken(f"study {name!r} exists; `resume {name}` continues it")
    raise AssertionError("names do not run out")


def _row(settings: Settings, name: str, now: float) -> dict[str, Any]:
    space = settings.space
    stored: Mapping[str, Any] = settings.to_dict() | {"space_source": settings.source}
    return {
        "name": name,
        "space_name": space.name,
        "space_version": space.version,
        "space_fingerprint": space.fingerprint,
        "space_text": space.source_text,
        "settings": dict(stored),
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
