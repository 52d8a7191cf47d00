"""How a worker died decides what becomes of its trial: by Ray's word, the kernel's, its own."""

import socket

import pytest
from doubles import driver, new_study, settings
from sqlalchemy import select

from nas.errors import StudyError
from nas.executors.deaths import death_of, fault_log, last_word, last_word_of, oom_kills
from nas.executors.ray_desk import Autopsy, Desk
from nas.executors.ray_head import GIVE_UP_S, Head
from nas.executors.wire import FINAL, PROGRESS, REFUSED, WHERE, result_to
from nas.store.tables import Run
from nas.study.attempts import CANARY, Result
from nas.study.outcomes import Outcome

HERE = {PROGRESS: 0, WHERE: {"host": "h", "node": "n", "oom_kills": 3}}


def rows(study):
    return study.store.read(lambda s: list(s.scalars(select(Run).order_by(Run.proposal, Run.id))))


class Found(Autopsy):
    """An autopsy with a given result."""

    def __init__(self, killed=False, trouble=None):
        self.answers = killed, trouble

    def kernel_killed(self, where):
        assert where["oom_kills"] == 3
        return self.answers[0]

    def trouble(self, where, attempt):
        return self.answers[1]


@pytest.fixture
def dies(sqlite_url, clock, tmp_path):
    """A function: a worker trains, then dies; gives the rows and the breaker."""

    def dies(error=None, found=None, word=None):
        study = new_study(sqlite_url, settings(trials=1), clock=clock, checkpoints=tmp_path / "c")
        work = driver(study)
        desk = Desk(work, "", lambda: False, found or Found())
        attempt = desk.hand_out("a")
        desk.began("a")
        assert desk.epoch("a", dict(HERE))
        if word is not None:
            path = fault_log(attempt.checkpoint)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"null\n{word}")
        desk.died("a", error)
        desk.ended("a", failed=True)
        assert not desk.attempts
        made = rows(study)
        work.close()
        study.close()
        return made, work.breaker

    return dies


class OutOfMemoryError(Exception):
    """By its name Ray's."""


class Preempted(Exception):
    preempted = True


def test_death_for_lack_of_memory_halves_the_batch(dies):
    (gone, again), _ = dies(OutOfMemoryError("Task was killed\nsecond line"))
    assert (gone.state, again.state, again.halvings) == ("oom", "waiting", 1)
    assert gone.error == "Ray ended its worker process for lack of memory: Task was killed"


def test_death_by_the_kernel_halves_the_batch(dies):
    (gone, again), _ = dies(found=Found(killed=True))
    assert (gone.state, again.halvings) == ("oom", 1)
    assert gone.error == "the kernel killed its worker process for lack of memory"


def test_preemption_costs_no_attempt(dies):
    (back,), _ = dies(Preempted("drained"))
    assert (back.state, back.attempt) == ("waiting", 1)


def test_segfault_is_an_error_and_the_canary_says_whose(dies):
    word = "Fatal Python error: Segmentation fault\n\nThread 0x1:\n  File x in train\n"
    (gone, again), breaker = dies(word=word)
    assert (gone.state, again.state, gone.metrics) == ("error", "waiting", {CANARY: True})
    assert gone.error == "its worker process died: Segmentation fault" and "train" in gone.traceback
    assert gone.node == "h" and breaker.pause_s == 0


def test_segfault_where_a_known_design_dies_as_well_is_the_places(dies):
    (gone, _), breaker = dies(found=Found(trouble="WorkerCrashedError: x"), word="Fatal: y\n")
    assert gone.metrics == {CANARY: False} and breaker.pause_s > 0
    assert "a known design fails on h as well: WorkerCrashedError: x" in breaker.reason


def test_death_without_a_word_is_a_loss(dies):
    (gone, again), _ = dies()
    assert (gone.state, again.attempt) == ("lost", 2)


def test_fault_log_is_gone_when_nothing_happened(tmp_path):
    with last_word(str(tmp_path / "x" / "y")):
        assert fault_log(str(tmp_path / "x" / "y")).exists()
    assert list((tmp_path / "x").iterdir()) == []
    assert last_word_of(str(tmp_path / "x" / "y")) == (None, "")
    with last_word(str(tmp_path / "z"), {"host": "h"}):
        assert last_word_of(str(tmp_path / "z")) == ({"host": "h"}, "")
    assert death_of(None, "", False).outcome is None


def test_kernel_counts_are_read_where_there_are_any(tmp_path):
    counters = (tmp_path / "a", tmp_path / "b", tmp_path / "none")
    counters[0].write_text("low 0\noom_kill 2\noom_group_kill 9\n")
    counters[1].write_text("nr_free_pages 1\noom_kill 40\n")
    assert oom_kills(counters) == 42
    assert oom_kills() >= 0


def test_broken_node_is_left_out_and_hands_back_what_it_gets(sqlite_url, clock):
    """One of two machines fails three times in a row: the other one trains the study."""
    study = new_study(sqlite_url, settings(trials=3), clock=clock)
    work = driver(study)
    work.breaker.places = 2
    desk = Desk(work, "", lambda: False)
    bad = Result(Outcome.ERROR, error="x", place="no device", environment={"host": "bad"})
    good = Result(Outcome.COMPLETE, score=0.5, objectives=(0.5,), environment={"host": "good"})
    for n in range(3):
        desk.hand_out(f"bad{n}")
        desk.epoch(f"bad{n}", {FINAL: result_to(bad)})
    attempt = desk.hand_out("x")
    assert attempt.avoid == ("bad",) and work.breaker.tripped is None
    assert desk.epoch("x", {REFUSED: "bad"})
    desk.ended("x", failed=False)
    for n in range(3):
        attempt = desk.hand_out(f"good{n}")
        desk.epoch(f"good{n}", {FINAL: result_to(good)})
    assert desk.hand_out("end").complete
    newest = [r for r in rows(study) if r.newest]
    assert [r.state for r in newest] == ["complete"] * 3
    work.close()
    study.close()


def test_head_is_given_up_when_it_has_been_silent_for_a_while(sqlite_url, clock):
    """Then trials wait as they are, before Ray ends this process."""
    study = new_study(sqlite_url, settings(trials=2), clock=clock)
    work = driver(study)
    desk = Desk(work, "", lambda: False)
    attempts = [desk.hand_out(name) for name in "ab"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        assert head.answers and not head.look(0.0)
    assert not head.answers
    assert not head.look(10.0) and not head.look(10.0 + GIVE_UP_S - 1)
    assert head.look(10.0 + GIVE_UP_S) and "has not answered for 25 s" in head.lost
    desk.leave(StudyError(head.lost))
    assert not desk.attempts and str(desk.trouble) == head.lost == desk.hand_out("c").reason
    assert [(r.state, r.attempt) for r in rows(study)] == [("waiting", 1)] * len(attempts)
    work.close()
    study.close()


def test_trial_of_a_worker_that_dies_with_the_head_spends_no_attempt(dies):
    class Headless(Found):
        def headless(self):
            return True

    (back,), _ = dies(RuntimeError("The actor died."), Headless())
    assert (back.state, back.attempt) == ("waiting", 1)


def test_stalled_worker_is_killed_from_outside(sqlite_url, clock, monkeypatch):
    study = new_study(sqlite_url, settings(trials=1), clock=clock, stall_s=4)
    work = driver(study)
    desk = Desk(work, "", lambda: False, Found())
    desk.hand_out("a")
    killed, now = [], [0.0]
    monkeypatch.setattr("nas.executors.ray_desk.time.monotonic", lambda: now[0])
    desk.began("a", lambda: killed.append(1))
    desk.epoch("a", dict(HERE))
    for _ in range(8):
        now[0] += 1
        desk.watch_pace()
    assert killed == [1]
    desk.died("a", RuntimeError("The actor is dead because it was killed by `ray.kill`."))
    desk.ended("a", failed=True)
    gone, again = rows(study)
    assert (gone.state, again.state) == ("stalled", "waiting")
    assert gone.error == "no batch for 4 s (limit 4 s, --stall); its worker was killed"
    work.close()
    study.close()


def test_looking_into_a_death_is_held_against_no_other_worker(sqlite_url, clock, monkeypatch):
    """Nobody takes its reports meanwhile; afterwards its time counts again."""
    study = new_study(sqlite_url, settings(trials=2), clock=clock, stall_s=4)
    work = driver(study)
    killed, now = [], [0.0]
    monkeypatch.setattr("nas.executors.ray_desk.time.monotonic", lambda: now[0])

    def wait(seconds):
        for _ in range(seconds):
            now[0] += 1
            desk.watch_pace()

    class Slow(Autopsy):
        def kernel_killed(self, where):
            wait(60)
            return False

    desk = Desk(work, "", lambda: False, Slow())
    for name in "ab":
        desk.hand_out(name)
        desk.began(name, lambda name=name: killed.append(name))
        desk.epoch(name, dict(HERE))
    desk.died("a", None)
    desk.ended("a", failed=True)
    assert killed == []
    wait(8)
    assert killed == ["b"]
    work.close()
    study.close()
