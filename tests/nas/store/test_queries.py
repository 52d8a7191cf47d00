"""Reading a study: rows, fronts, one trial, what is going on."""

import subprocess
import sys
from dataclasses import replace
from io import StringIO

import pytest
from doubles import CONDITIONAL, FakeProxy, driver, new_study, settings
from rich.console import Console
from sqlalchemy import select, update

from nas.commands.main import main
from nas.driver.running import run
from nas.driver.status import status
from nas.errors import StoreError, StudyError
from nas.evidence.finalists import Noise
from nas.executors.inline import InlineExecutor
from nas.export.trials import chosen_trial
from nas.report.studies import findings, summary_view
from nas.store import queries
from nas.store.leases import LEASE_S
from nas.store.queries import front
from nas.store.tables import Measurement, Run
from nas.study.outcomes import NanLoss


@pytest.fixture
def study(url, clock):
    """Five candidates and a baseline, one of them a failure."""
    study = new_study(url, settings(CONDITIONAL, trials=5, warm_start="presets"), clock=clock)
    run(
        study,
        InlineExecutor(
            FakeProxy(raises=lambda n, *_: NanLoss("nan in epoch 1") if n == 3 else None)
        ),
    )
    yield study
    study.close()


def test_leaderboard_is_by_score_and_baselines_apart(study, url):
    found = queries.summary("s", url, top=3)
    scores = [row["score"] for row in found["leaderboard"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    assert {row["role"] for row in found["leaderboard"]} == {"candidate"}
    assert [row["label"] for row in found["baselines"]] == ["mambaout_femto"]
    assert found["best"] == found["leaderboard"][0]
    beaten = found["best"]["score"] > found["baselines"][0]["score"]
    assert found["beats"] == (["mambaout_femto"] if beaten else [])
    assert found["study"]["counts"] == {"complete": 5, "nan": 1}
    assert found["study"]["budget"] == ["80-100MFLOPs"]


def test_design_that_has_not_learned_is_named_and_not_beaten(url, clock):
    class NearChance(FakeProxy):
        def __call__(self, config, recipe, **options):
            done = super().__call__(config, recipe, **options)
            top1 = 0.19 if len(self.calls) == 1 else 0.5
            return replace(done, score=top1, top1=top1, chance=0.1)

    made = settings(CONDITIONAL, trials=2, warm_start="presets")
    study = new_study(url, made, clock=clock)
    run(study, InlineExecutor(NearChance()))
    found = queries.summary("s", url)
    assert [row["learned"] for row in found["baselines"]] == [False]
    assert found["beats"] == []
    out = StringIO()
    Console(file=out, width=200).print(summary_view(found))
    assert "learned next to nothing in a run this short: trial 0" in out.getvalue()
    assert "published designs are below it" not in out.getvalue()
    study.close()


@pytest.mark.parametrize(
    ("chance", "least"),
    [(1 / 2, 0.612), (1 / 3, 0.482), (1 / 10, 0.3), (1 / 100, 0.03), (0.0, 0.02)],
    ids=["2 classes", "3 classes", "10 classes", "100 classes", "skill"],
)
def test_what_counts_as_learned_can_be_reached_whatever_the_number_of_classes(chance, least):
    def learned(top1):
        return queries.learned({"top1": top1, "chance": chance})

    assert not learned(chance) and not learned(least - 0.002)
    assert learned(least + 0.001) and learned(1.0)
    assert not learned(-0.1) and not learned(float("nan"))


def test_run_that_kept_no_metrics_is_taken_as_learned():
    assert queries.learned({})


def test_front_holds_what_nothing_beats(study, url):
    found = queries.summary("s", url)
    everything = found["leaderboard"] + found["baselines"]
    for cost, rows in found["pareto"].items():
        numbers = {row["trial"] for row in rows}
        for row in everything:
            beaten = any(
                other["score"] >= row["score"]
                and other[cost] <= row[cost]
                and (other["score"], other[cost]) != (row["score"], row[cost])
                for other in everything
            )
            if row["score"] is not None:
                assert (row["trial"] in numbers) == (not beaten)


@pytest.mark.parametrize(
    ("called", "named"), [("cli.py", "python cli.py"), ("/b/scannas", "scannas")]
)
def test_command_that_trains_again_is_named_as_this_one_was_called(
    study, url, monkeypatch, capsys, called, named
):
    for more in ([], ["--json"]):
        monkeypatch.setattr(
            sys, "argv", [called, "show", "s", "--trial", "1", "--storage", url, *more]
        )
        with pytest.raises(SystemExit, match="0"):
            main()
        out = " ".join(capsys.readouterr().out.split())
        assert f"{named} run-trial s 1 --storage" in out, out


def test_front_of_points():
    points = [(1, 0.9, 10.0), (2, 0.8, 5.0), (3, 0.8, 6.0), (4, 0.7, 7.0), (5, 0.9, 10.0)]
    assert front(points) == [1, 2]
    assert front([]) == []


def test_trial_has_all_that_is_known(study, url):
    found = queries.trial("s", url, 1)
    assert found["state"] == "complete" and found["role"] == "candidate"
    assert [e["epoch"] for e in found["epochs"]] == [1, 2, 3]
    assert found["recipe"]["epochs"] == 3 and found["convention"] == "fvcore"
    assert found["config"]["stages"] and found["choices"]
    assert found["environment"]["versions"]["sqlalchemy"]
    assert found["rerun"].startswith("run-trial s 1 --storage ")
    assert [a["attempt"] for a in found["attempts"]] == [1]
    failed = queries.trial("s", url, 2)
    assert failed["state"] == "nan" and "NanLoss: nan in epoch 1" in failed["traceback"]
    with pytest.raises(StudyError, match="has no trial 77"):
        queries.trial("s", url, 77)


def test_status_of_a_finished_study(study, url, clock):
    found = status("s", url, now=clock.now() + 60)
    assert (found["done"], found["trials"], found["running"]) == (5, 5, [])
    assert found["failed"] == {"nan": 1}
    assert (found["eta_s"], found["advice"], found["last_activity_s"]) == (0.0, None, 60.0)


def test_status_of_a_running_study(url, clock):
    study = new_study(url, settings(trials=4), clock=clock)
    work = driver(study)
    for _ in range(2):
        task = work.next()
        clock.time += 10
        work.finish(task, _complete())
    task = work.next()
    work.epoch(task, _epoch())
    found = status("s", url, now=clock.now() + 5)
    (running,) = found["running"]
    assert (running["trial"], running["epoch"], running["stale"]) == (2, 1, False)
    assert running["running_s"] == 5.0
    assert (found["seconds_per_trial"], found["eta_s"]) == (10.0, 20.0)
    found = status("s", url, now=clock.now() + LEASE_S + 1)
    assert found["running"][0]["stale"]
    assert found["advice"] == "a driver has gone silent; `resume s` continues its trials"
    work.release(task, "test")
    found = status("s", url, now=clock.now())
    assert (found["waiting"], found["advice"]) == (1, "nothing is running; `resume s` continues")
    work.close()
    study.close()


def test_killed_driver_of_this_machine_is_silent_at_once(url, clock):
    code = "from nas.driver.clock import SystemClock; print(SystemClock().owner())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    study = new_study(url, settings(trials=2), clock=clock)
    work = driver(study)
    work.next()
    study.store.write(lambda s: s.execute(update(Run).values(lease_owner=dead.stdout.strip())))
    found = status("s", url, now=clock.now() + 1)
    assert found["running"][0]["stale"] and "resume s" in found["advice"]
    work.close()
    study.close()


def test_studies_are_listed_newest_first(url, clock):
    for name in ("first", "second"):
        clock.time += 1
        new_study(url, settings(trials=2), name=name, clock=clock).close()
    found = queries.studies(url)
    assert [(s["study"], s["done"], s["best_score"]) for s in found] == [
        ("second", 0, None),
        ("first", 0, None),
    ]
    assert found[0]["created_at"] > found[1]["created_at"]


def test_password_is_not_in_what_is_shown(postgres_url, clock):
    new_study(postgres_url, settings(trials=1), clock=clock).close()
    study_url = postgres_url.replace("postgres:@", "postgres:hush@")
    study = new_study(study_url, settings(trials=1), name="t", clock=clock)
    run(study, InlineExecutor(FakeProxy()))
    assert "hush" not in study.store.shown
    assert "hush" not in str(queries.trial("t", study_url, 0))
    study.close()


def test_missing_database_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="no database at"):
        queries.studies(f"sqlite:///{tmp_path}/none.db")


def _complete():
    from nas.study.attempts import Result
    from nas.study.outcomes import Outcome

    return Result(Outcome.COMPLETE, score=0.5, objectives=(0.5,), metrics={})


def _epoch():
    from doubles import EpochMetrics

    return EpochMetrics(1, 3, 1.0, 1.0, 0.5, 0.1)


def test_of_candidates_that_noise_does_not_tell_apart_the_cheapest_is_taken(
    study, url, monkeypatch
):
    before = queries.summary("s", url)
    assert chosen_trial(before) == before["best"]["trial"]  # the noise of this recipe is not known
    assert not findings(before)
    monkeypatch.setattr("nas.evidence.ties.noise_of", lambda recipe: Noise(1.0, 22))
    least = min(before["scored"], key=lambda row: row["params"])
    assert chosen_trial(before) == least["trial"]
    (said,) = findings(before)
    assert f"by parameters is taken, trial {least['trial']}" in said.plain
    assert said.plain in " ".join(summary_view_text(before).split())

    fast = max(before["scored"], key=lambda row: row["params"])

    def time(session):
        for row in before["scored"]:
            design = session.scalars(
                select(Run.architecture_id).where(Run.trial_number == row["trial"])
            ).first()
            ms = 1.0 if row["trial"] == fast["trial"] else 2.0
            session.merge(
                Measurement(
                    id=design, architecture_id=design, metric=queries.LATENCY, device="cpu",
                    setup_id="x", setup={}, value=ms, at=0.0,
                )
            )  # fmt: skip

    study.store.write(time)
    timed = queries.summary("s", url)
    assert chosen_trial(timed) == fast["trial"]
    assert "cheapest of them by latency is taken" in findings(timed)[0].plain


def summary_view_text(summary):
    console = Console(file=StringIO(), width=100)
    console.print(summary_view(summary))
    return console.file.getvalue()
