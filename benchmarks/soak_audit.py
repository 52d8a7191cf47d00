"""What the rows of a study say of what happened to it; every sentence is something wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import optuna
from sqlalchemy import select

from nas.store.maintenance import check_database
from nas.store.runs import MAX_ATTEMPTS
from nas.store.tables import Run

_GONE = re.compile(r"driver (\S+) is gone")


def audit(
    study: Any,
    last: Any,
    seen: dict[int, float | None],
    disturbed: set[int],
    score_of: Callable[[str], float],
) -> list[str]:
    """Return what is wrong with a study that has just been completed.

    last: what the driver said that completed it. seen: scores that were read while it ran.
    disturbed: processes to which something was done. score_of: what a design's score must be.
    """
    query = select(Run).where(Run.study_id == study.id).order_by(Run.proposal, Run.attempt)
    rows = study.store.read(lambda s: list(s.scalars(query)))
    found = [] if last.complete else [f"the study did not end: {last.reason}"]
    found += _finished(rows, seen)
    found += _once(rows, score_of)
    found += [f"run {r.id} is {r.state}" for r in rows if r.state in ("running", "waiting")]
    for row in rows:
        if (odd := _unexplained(row, disturbed)) is not None:
            found.append(f"run {row.id} (proposal {row.proposal}, attempt {row.attempt}): {odd}")
    found += _numbers(rows)
    url = study.store.url.render_as_string(hide_password=False)
    found += [f"db check: {f['count']} {f['problem']}" for f in check_database(url)]
    found += _copy(study, rows, url)
    return found


def _finished(rows: list[Run], seen: dict[int, float | None]) -> list[str]:
    now = {r.id: r for r in rows}
    return [
        f"run {i} had score {score} and is {now[i].state if i in now else 'gone'} now"
        for i, score in seen.items()
        if i not in now or now[i].state != "complete" or now[i].score != score
    ]


def _once(rows: list[Run], score_of: Callable[[str], float]) -> list[str]:
    """Say which design was trained twice under valid leases, or has another's score."""
    found = []
    trained = [r for r in rows if r.role != "replay"]
    designs = Counter(r.fingerprint for r in trained if r.newest)
    found += [f"design {f[:12]} was proposed {n} times" for f, n in designs.items() if n > 1]
    finished = Counter(r.fingerprint for r in trained if r.state == "complete")
    found += [f"design {f[:12]} finished {n} times" for f, n in finished.items() if n > 1]
    for a, b in pairwise(trained):
        if a.proposal != b.proposal:
            continue
        if a.finished_at is None or (b.started_at is not None and b.started_at < a.finished_at):
            found.append(f"attempts {a.attempt} and {b.attempt} at {a.proposal} overlap")
        if a.newest:
            found.append(f"attempt {a.attempt} at {a.proposal} counts beside a later one")
    found += [
        f"run {r.id} has score {r.score}, its design {score_of(r.fingerprint)}"
        for r in rows
        if r.state == "complete" and r.score != score_of(r.fingerprint)
    ]
    return found


def _unexplained(row: Run, disturbed: set[int]) -> str | None:
    """Return what nothing that was done explains; None where all is well."""
    if row.state == "complete":
        return None
    if row.state == "lost":
        named = _GONE.match(row.error or "")
        owner = named[1].split("/") if named else []
        if len(owner) < 3 or int(owner[3 if len(owner) == 6 else 1]) not in disturbed:
            return f"lost, but its driver was left alone: {row.error}"
        if row.newest and row.role != "replay" and row.attempt < MAX_ATTEMPTS:
            return f"given up after {row.attempt} attempts"
        return None
    if row.state == "error" and "No space left" in (row.error or ""):
        return None  # the disk was full; it had room again when somebody looked
    return f"{row.state}: {row.error}"


def _numbers(rows: list[Run]) -> list[str]:
    proposals = sorted({r.proposal for r in rows})
    numbers = sorted(r.trial_number for r in rows if r.newest)
    found = [] if proposals == list(range(len(proposals))) else ["proposals are not dense"]
    if numbers != list(range(len(numbers))):
        found.append("trial numbers are not dense")
    for proposal in proposals:
        attempts = [r.attempt for r in rows if r.proposal == proposal]
        if attempts != list(range(1, len(attempts) + 1)):
            found.append(f"attempts at {proposal} are {attempts}")
    return found


def _copy(study: Any, rows: list[Run], url: str) -> list[str]:
    trials = optuna.load_study(study_name=study.name, storage=url).get_trials(deepcopy=False)
    shown = [
        (t.number, t.state.name == "COMPLETE", t.user_attrs.get("fingerprint")) for t in trials
    ]
    truth = [(r.trial_number, r.state == "complete", r.fingerprint) for r in rows if r.newest]
    return [] if shown == sorted(truth) else ["Optuna's copy shows other trials than the rows"]
