"""Latency in a study: stored with its designs, its table shared by drivers."""

import pytest
from doubles import GRID, FakeProxy, new_study, settings
from sqlalchemy import func, select

from nas.driver.running import run
from nas.driver.studies import open_study
from nas.executors.inline import InlineExecutor
from nas.planning import timing
from nas.planning.meters import times_on
from nas.planning.timing import this_device
from nas.store import measurements, queries
from nas.store.tables import Piece
from nas.study.budget import parse_budget


@pytest.fixture
def timed(monkeypatch):
    """How many pieces were timed; each takes as long as it is wide."""
    asked = []

    def time(piece, on):
        asked.append(piece.key)
        return 1e-3 * piece.widths[-1]

    monkeypatch.setattr(timing, "time_of", time)
    times_on.cache_clear()
    yield asked
    times_on.cache_clear()


def made(**changes):
    return settings(
        GRID, latency=this_device("cpu"), objectives=("top1", "latency"), image_size=64, **changes
    )


def test_latency_is_an_objective_and_shown(url, timed):
    study = new_study(url, made(trials=4, strategy="nsga2"))
    run(study, InlineExecutor(FakeProxy()))
    rows = queries.trials("s", url)
    for row in rows:
        trial = queries.trial("s", url, row["trial"])
        assert trial["objectives"] == [row["score"], row["latency_ms"]]
        (one,) = trial["measured"]
        assert (one["metric"], one["value"]) == ("latency_ms", row["latency_ms"])
    assert min(row["latency_ms"] for row in rows) > 0
    summary = queries.summary("s", url)
    front = summary["pareto"]["latency_ms"]
    assert [r["latency_ms"] for r in front] == sorted(
        (r["latency_ms"] for r in front), reverse=True
    )
    assert summary["leaderboard"][0]["latency_ms"] is not None
    study.close()


def test_parts_are_timed_once_a_database(url, timed):
    study = new_study(url, made(trials=2))
    run(study, InlineExecutor(FakeProxy()))
    before = list(timed)
    assert len(set(before)) == len(before)
    assert study.store.read(lambda s: s.scalar(select(func.count(Piece.id)))) == len(before)
    study.close()
    times_on.cache_clear()  # as a new process
    again = open_study("s", url)
    run(again, InlineExecutor(FakeProxy()), trials=4)
    assert not set(timed[len(before) :]) & set(before)
    again.close()


def test_of_two_times_of_a_part_the_first_one_counts(url, timed):
    study = new_study(url, made(trials=1))
    on = study.settings.latency
    first = study.store.write(
        lambda s: measurements.add_times(s, on, {"a": ({"kind": "stem"}, 1.0)}, 0.0)
    )
    other = {"a": ({"kind": "stem"}, 2.0), "b": ({"kind": "head"}, 3.0)}
    then = study.store.write(lambda s: measurements.add_times(s, on, other, 0.0))
    assert (first, then) == ({"a": 1.0}, {"a": 1.0, "b": 3.0})
    elsewhere = on.model_copy(update={"batch": 8})
    assert study.store.read(lambda s: measurements.times(s, elsewhere)) == {}
    study.close()


def test_a_latency_bound_holds_for_baselines_too(sqlite_url, timed):
    both = settings(
        GRID + "points:\n  mambaout_femto:\n",
        budget=parse_budget(["80-100MFLOPs", "20ms"]),
        latency=this_device("cpu"),
        warm_start="presets",
        trials=2,
    )
    study = new_study(sqlite_url, both)
    run(study, InlineExecutor(FakeProxy()))
    rows = queries.trials("s", sqlite_url)
    assert {row["role"] for row in rows} == {"candidate", "baseline"}
    assert all(row["latency_ms"] <= 20 and 80e6 <= row["flops"] <= 100e6 for row in rows)
    study.close()
