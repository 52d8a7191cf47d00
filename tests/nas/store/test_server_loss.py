"""PostgreSQL goes away in mid-study and comes back: the study waits and goes on."""

import signal
import threading
import time

import pytest
from doubles import FakeProxy, new_study, settings
from sqlalchemy import select

from nas.driver.running import run
from nas.executors.inline import InlineExecutor
from nas.store.tables import Run
from nas.study.proposals import REPLAY


def restart_after_kill(server, seconds):
    """Kill the server as a crash would; start it again after a while."""
    import psutil

    postmaster = psutil.Process(server.get_pid())
    children = postmaster.children(recursive=True)
    postmaster.send_signal(signal.SIGQUIT)  # immediate shutdown: no checkpoint, recovery follows
    psutil.wait_procs([postmaster, *children], timeout=30)

    def start():
        time.sleep(seconds)
        server.ensure_postgres_running()

    threading.Thread(target=start).start()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_study_outlives_a_restart_of_the_server(own_server):
    study = new_study(own_server.get_uri(), settings(trials=8))
    killed = []

    def kill(n, *_):
        if n in (3, 6) and n not in killed:
            killed.append(n)
            restart_after_kill(own_server, 3)

    last = run(study, InlineExecutor(FakeProxy(raises=kill)))
    assert last.done == 8 and killed == [3, 6]
    rows = study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal))))
    # A design that is proposed again is a row as well, which nobody trains.
    assert sum(r.role != REPLAY for r in rows) == 8
    assert {(r.state, r.attempt, r.told) for r in rows} == {("complete", 1, True)}
    import optuna

    url = study.store.url.render_as_string(hide_password=False)
    trials = optuna.load_study(study_name="s", storage=url).get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"] * len(rows)
    study.close()
