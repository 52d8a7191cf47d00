"""Proposals and attempts: numbered one after the other, each design trained once."""

import threading

import pytest
from doubles import proposal
from sqlalchemy import func, select

from nas.store import history, leases, runs
from nas.store.leases import LEASE_S
from nas.store.runs import Refusal
from nas.store.session import open_store
from nas.store.tables import Epoch, Run, Study
from nas.study.attempts import LeaseLost, Result
from nas.study.outcomes import Outcome

NOW = 1000.0
PLACE = {"device": "cpu"}


@pytest.fixture
def store(url):
    store = open_store(url, create=True)
    yield store
    store.close()


@pytest.fixture
def study_id(store):
    return add_study(store, "s")


def add_study(store, name, trials=100):
    def add(session):
        row = Study(
            name=name,
            space_name="grid",
            space_version="1",
            space_fingerprint="f" * 64,
            space_text="",
            settings={},
            trials=trials,
            seed=7,
            created_at=NOW,
        )
        session.add(row)
        session.flush()
        return row.id

    return store.write(add)


def propose(store, study_id, new, owner="me", now=NOW):
    return store.write(lambda s: runs.propose(s, study_id, new, owner, now, PLACE))


def end(store, run, score=0.5, outcome=Outcome.COMPLETE):
    result = Result(outcome, score=score, objectives=(score,))
    store.write(lambda s: leases.finish(s, runs.lease_of(run), result, NOW + 10))


def rows(store):
    return store.read(lambda s: list(s.scalars(select(Run).order_by(Run.id))))


def test_proposal_is_a_running_run_with_a_lease(store, study_id):
    run = propose(store, study_id, proposal(0))
    assert (run.state, run.attempt, run.role) == ("running", 1, "candidate")
    assert (run.lease_owner, run.lease_expires) == ("me", NOW + LEASE_S)
    assert run.trial_number == 0


def test_one_design_is_trained_once_for_each_purpose(store, study_id):
    """The same design again: for another role, seed, split, repeat or recipe it is no replay."""
    other = ("role", "confirmation"), ("seed_index", 1), ("split", "test"), ("repeat", 1)
    changes = [
        {},
        *(dict([change]) for change in other),
        {"recipe": {"epochs": 9}, "recipe_id": "9"},
    ]
    made = [propose(store, study_id, proposal(i, "a", **c)) for i, c in enumerate(changes)]
    assert [r.role == "replay" for r in made] == [False] * 6
    assert [r.stage for r in made] == ["search", "confirmation", *["search"] * 4]
    for change in changes:
        assert propose(store, study_id, proposal(6, "a", **change)) is Refusal.IN_FLIGHT
    for run in made:
        end(store, run, 0.25)
    again = propose(store, study_id, proposal(6, "a", **changes[5]))
    assert (again.role, again.replay_of, again.recipe_id) == ("replay", made[5].id, "9")


def test_another_attempt_serves_the_same_purpose(store, study_id):
    new = proposal(0, "a", role="confirmation", seed_index=2, split="test", recipe={"epochs": 9})
    run = propose(store, study_id, new)
    store.write(lambda s: leases.revoke(s, run, Outcome.LOST, "gone", NOW))
    again = store.write(lambda s: runs.retry(s, s.get_one(Run, run.id), now=NOW))
    assert (again.stage, again.seed_index, again.split) == ("confirmation", 2, "test")
    assert again.recipe == {"epochs": 9}


def test_index_that_is_taken_is_stale(store, study_id):
    propose(store, study_id, proposal(0, "a"))
    assert propose(store, study_id, proposal(0, "b"), "other") is Refusal.STALE
    assert propose(store, study_id, proposal(2, "b"), "other") is Refusal.STALE
    assert len(rows(store)) == 1


def test_design_in_training_is_not_proposed_twice(store, study_id):
    propose(store, study_id, proposal(0, "a"))
    assert propose(store, study_id, proposal(1, "a"), "other") is Refusal.IN_FLIGHT


def test_trained_design_is_replayed(store, study_id):
    first = propose(store, study_id, proposal(0, "a"))
    end(store, first, 0.75)
    again = propose(store, study_id, proposal(1, "a"), "other")
    assert (again.role, again.state, again.score) == ("replay", "complete", 0.75)
    assert again.replay_of == first.id
    assert not again.told
    third = propose(store, study_id, proposal(2, "a"))
    assert third.replay_of == first.id


def test_study_takes_no_more_candidates_than_wanted(store):
    study_id = add_study(store, "small", trials=1)
    propose(store, study_id, proposal(0, "a"))
    assert propose(store, study_id, proposal(1, "b")) is Refusal.FULL
    assert propose(store, study_id, proposal(1, "b", role="baseline", label="p")).id


def test_commit_that_went_through_unseen_is_recognized(store, study_id):
    first = propose(store, study_id, proposal(0, "a"))
    assert propose(store, study_id, proposal(0, "a")).id == first.id
    assert len(rows(store)) == 1


def test_two_studies_share_an_architecture(store, study_id):
    first = propose(store, study_id, proposal(0))
    second = propose(store, add_study(store, "t"), proposal(0))
    assert first.architecture_id == second.architecture_id
    assert first.id != second.id


def test_eight_drivers_at_once_train_each_design_once(store, study_id):
    """R4: two workers that propose the same architecture at once train it once."""
    names = "abcdefghijkl"
    answers = []

    def work(owner):
        for name in names:
            while True:
                index = store.read(lambda s: runs.next_index(s, study_id))
                answer = propose(store, study_id, proposal(index, name), owner)
                if answer is not Refusal.STALE:
                    answers.append(answer)
                    break

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = rows(store)
    assert sorted(r.fingerprint[0] for r in made) == list(names)
    assert [r.proposal for r in made] == list(range(len(names)))
    assert sum(isinstance(a, Run) for a in answers) == len(names)


# --- leases ------------------------------------------------------------------------------------


def test_renewal_moves_the_expiry(store, study_id):
    lease = runs.lease_of(propose(store, study_id, proposal(0)))
    store.write(lambda s: leases.renew(s, lease, NOW + 30))
    assert rows(store)[0].lease_expires == NOW + 30 + LEASE_S


def test_former_owner_can_write_nothing(store, study_id):
    """R2: a late write from a dead worker is refused by its fencing token."""
    run = propose(store, study_id, proposal(0), "dead")
    old = runs.lease_of(run)
    store.write(lambda s: leases.revoke(s, run, Outcome.LOST, "gone", NOW + 100))
    again = store.write(lambda s: runs.retry(s, s.get_one(Run, run.id), now=NOW + 100))
    fresh = store.write(lambda s: leases.claim(s, again, "alive", NOW + 100, PLACE))
    for write in (
        lambda s: leases.renew(s, old, NOW + 101),
        lambda s: leases.record_epoch(s, old, 1, {}, NOW + 101),
        lambda s: leases.finish(s, old, Result(Outcome.COMPLETE, score=1.0), NOW + 101),
        lambda s: leases.release(s, old),
    ):
        with pytest.raises(LeaseLost, match="no longer belongs to dead"):
            store.write(write)
    assert store.read(lambda s: s.scalar(select(func.count()).select_from(Epoch))) == 0
    store.write(lambda s: leases.finish(s, fresh, Result(Outcome.COMPLETE, score=0.5), NOW + 102))
    states = [(r.state, r.score, r.newest) for r in rows(store)]
    assert states == [("lost", None, False), ("complete", 0.5, True)]


def test_same_run_claimed_again_refuses_the_owner_before(store, study_id):
    old = runs.lease_of(propose(store, study_id, proposal(0), "first"))
    store.write(lambda s: leases.release(s, old))
    waiting = store.read(lambda s: runs.first_waiting(s, study_id))
    new = store.write(lambda s: leases.claim(s, waiting, "first", NOW, PLACE))
    assert new.token == old.token + 1
    with pytest.raises(LeaseLost):
        store.write(lambda s: leases.renew(s, old, NOW))


def test_waiting_run_is_claimed_by_one(store, study_id):
    lease = runs.lease_of(propose(store, study_id, proposal(0)))
    store.write(lambda s: leases.release(s, lease))
    waiting = store.read(lambda s: runs.first_waiting(s, study_id))
    answers = []

    def work(owner):
        answers.append(store.write(lambda s: leases.claim(s, waiting, owner, NOW, PLACE)))

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(a is not None for a in answers) == 1


def test_renewed_lease_is_not_revoked(store, study_id):
    run = propose(store, study_id, proposal(0))
    store.write(lambda s: leases.renew(s, runs.lease_of(run), NOW + 30))
    # `run` is what a reconciling driver read before the renewal.
    assert not store.write(lambda s: leases.revoke(s, run, Outcome.LOST, "gone", NOW + 50))


def test_finishing_twice_is_finishing_once(store, study_id):
    """A commit whose answer was lost is tried again and recognized."""
    run = propose(store, study_id, proposal(0))
    end(store, run)
    end(store, run)
    with pytest.raises(LeaseLost):
        end(store, run, outcome=Outcome.NAN)


def test_epoch_written_again_replaces_the_first(store, study_id):
    lease = runs.lease_of(propose(store, study_id, proposal(0)))
    for loss in (2.0, 1.0):
        store.write(lambda s, v=loss: leases.record_epoch(s, lease, 1, {"loss": v}, NOW))
    found = store.read(lambda s: list(s.scalars(select(Epoch))))
    assert [(e.epoch, e.metrics) for e in found] == [(1, {"loss": 1.0})]


def test_retry_keeps_design_seed_and_number(store, study_id):
    run = propose(store, study_id, proposal(0))
    store.write(lambda s: leases.revoke(s, run, Outcome.LOST, "gone", NOW))
    again = store.write(lambda s: runs.retry(s, s.get_one(Run, run.id), now=NOW))
    assert (again.trial_number, again.attempt, again.state) == (0, 2, "waiting")
    assert (again.fingerprint, again.seed) == (run.fingerprint, run.seed)


def test_journal_gives_new_and_asked_for_entries(store, study_id):
    for index, name in enumerate("abc"):
        propose(store, study_id, proposal(index, name))
    first = store.read(lambda s: history.entries(s, study_id))
    assert [(e.index, e.state) for e in first] == [(0, "running"), (1, "running"), (2, "running")]
    end(store, rows(store)[0])
    later = store.read(lambda s: history.entries(s, study_id, after=2, also=[0, 1]))
    assert [(e.index, e.state) for e in later] == [(0, "complete")]
