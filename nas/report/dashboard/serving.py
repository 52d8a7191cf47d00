"""Optuna's dashboard on a database of studies, with what we know of each trial.

The dashboard is Optuna's, and reads Optuna's copy of a study. Here that copy is shown with more
than Optuna stores: the names of the objectives, what is concluded of the study, and a note and
pictures of each trial. They are made when they are looked at, and nothing is written: the dashboard
cannot change a study whose truth is in our own rows.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import lru_cache, partial
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from nas.driver.optuna_copy import open_optuna, sync
from nas.driver.studies import settings_of
from nas.errors import StudyError
from nas.report.dashboard.shown import Shown, note
from nas.report.html.pictures import design_pictures
from nas.store import queries
from nas.store.history import find_study
from nas.store.session import Store, opened

LOOPBACK = "127.0.0.1"
_FRESH_S = 5.0
_METRIC_NAMES = "study:metric_names"


def serve(
    study: str | None, storage: str, port: int, *, ready: Callable[[str], None] = print
) -> None:
    """Serve the dashboard on loopback until interrupted.

    study: whose page is named; None for the list of all. port: 0 for any that is free.
    ready: called with the address.
    Raises: StoreError; StudyError for an unknown study, a port that is taken, or where
        optuna-dashboard is not installed.
    """
    try:
        from optuna_dashboard._app import create_app
    except ModuleNotFoundError as error:
        raise StudyError(
            f"the dashboard needs the package {error.name}; pip install 'scannas[dashboard]'"
        ) from None
    with opened(storage) as store, shown_storage(store, storage, study) as shown:
        app = create_app(shown, artifact_store=Pictures(storage))
        try:
            server = make_server(LOOPBACK, port, app, _Server, _Silent)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StudyError(f"port {port}: {reason}; choose another --port") from None
        place = "" if study is None else f"/studies/{shown.get_study_id_from_name(study)}"
        with server:
            ready(f"http://{LOOPBACK}:{server.server_port}/dashboard{place}")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return


@contextmanager
def shown_storage(store: Store, url: str, study: str | None) -> Iterator[Any]:
    """Bring Optuna's copies up to date, and open them for the dashboard.

    study: whose copy; None for all.
    Raises: StoreError; StudyError for an unknown study.
    """
    from optuna.storages import get_storage

    for name in [study] if study is not None else [row["study"] for row in queries.studies(url)]:
        row = store.read(partial(find_study, name=name, shown=store.shown))
        sync(store, row.id, row.name, settings_of(row), wait_s=0.0)
    with open_optuna(store, writing=False) as copies:
        yield ShownStorage(get_storage(copies), url)


class ShownStorage:
    """Optuna's storage as the dashboard reads it: our notes and pictures in it, and no writing."""

    def __init__(self, storage: Any, url: str) -> None:
        self._storage, self._url = storage, url
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Shown | None]] = {}
        self._trials: dict[int, tuple[str, int]] = {}

    def __getattr__(self, name: str) -> Any:
        """Read all else as Optuna does.

        Raises: StudyError for what would change a study.
        """
        if name.startswith(("set_", "create_", "delete_")):
            raise StudyError("the dashboard only shows studies; change them by the command line")
        return getattr(self._storage, name)

    def get_all_studies(self) -> list[Any]:
        """Return the studies, with what is concluded of each."""
        found = self._storage.get_all_studies()
        for study in found:
            study.system_attrs = self._attrs(study.study_name, study._study_id, study.system_attrs)
        return list(found)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what Optuna knows of a study, and our notes."""
        name = self._storage.get_study_name_from_id(study_id)
        return self._attrs(name, study_id, self._storage.get_study_system_attrs(study_id))

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:
        """Return the trials, each with its pictures."""
        name = self._storage.get_study_name_from_id(study_id)
        found = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        if (shown := self._shown(name)) is None:
            return list(found)
        found = [copy(trial) for trial in found]  # what Optuna caches is not ours to change
        for trial in found:
            self._trials[trial._trial_id] = name, trial.number
            trial._system_attrs = shown.pictures(trial.number)
            if (seconds := shown.seconds.get(trial.number)) is not None:
                trial.user_attrs = trial.user_attrs | {"seconds": round(seconds, 1)}
        return found

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the pictures of a trial that has been shown."""
        name, number = self._trials.get(trial_id, ("", 0))
        shown = self._shown(name)
        return {} if shown is None else shown.pictures(number)

    def _attrs(self, name: str, study_id: int, attrs: dict[str, Any]) -> dict[str, Any]:
        shown = self._shown(name)
        if shown is None:
            return attrs
        found: dict[str, Any] = {**attrs, _METRIC_NAMES: shown.objectives}
        found |= note("dashboard:", shown.note)
        for number, text in shown.notes.items():
            try:
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            except KeyError:  # the copy is behind
                continue
            found |= note(f"dashboard:{trial_id}:", text)
        return found

    def _shown(self, name: str) -> Shown | None:
        """Return what we know of a study, a few seconds old at most; None if it is not ours."""
        with self._lock:
            at, shown = self._known.get(name, (-_FRESH_S, None))
            if time.monotonic() - at >= _FRESH_S:
                try:
                    shown = Shown(name, self._url)
                except StudyError:
                    shown = None
                self._known[name] = (time.monotonic(), shown)
            return shown


class Pictures:
    """An artifact store whose artifacts are drawn when they are asked for."""

    def __init__(self, url: str) -> None:
        # One at a time: Matplotlib's settings are those of the process.
        lock = threading.Lock()

        @lru_cache(maxsize=256)
        def draw(artifact_id: str) -> bytes:
            study, number, place = artifact_id.split("-")
            name = bytes.fromhex(study).decode()
            with lock:
                picture = design_pictures(queries.trial(name, url, int(number)))[int(place)]
                return picture.svg()

        self._draw = draw

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return a picture. Raises: StudyError for one that there is not."""
        return io.BytesIO(self._draw(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refuse: nothing is stored."""
        raise StudyError("the dashboard only shows studies; it stores no file")

    def remove(self, artifact_id: str) -> None:
        """Refuse: pictures are no files."""
        raise StudyError("the dashboard only shows studies; its pictures cannot be removed")


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a request: browsers open connections ahead, which would hold up the only one."""

    daemon_threads = True


class _Silent(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: Any) -> None:
        logging.getLogger(__name__).debug(format, *args)
