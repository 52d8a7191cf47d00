"""The view of a running search: lines for logs, charts below them where there is a terminal."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nas.driver.progress import Confirming, EpochDone, StudyStarted, TrialFinished, TrialStarted
from nas.report.charts import bars, front, labeled, rise
from nas.report.live import Live
from nas.study.outcomes import Outcome
from nas.study.proposals import CONFIRMATION
from nas.study.tasks import metric_of

SCORES = [0.5, 0.4, 0.7, 0.6]


def story():
    yield StudyStarted("night", "sqlite:///nas.db", 6, 0, 0, False)
    for trial, score in enumerate([*SCORES, None]):
        yield TrialStarted(
            trial, "candidate", None, "random", "f", 10**9 * (trial + 1), 10**6, 3, 1, False
        )
        outcome = Outcome.COMPLETE if score is not None else Outcome.NAN
        error = None if score is not None else "loss is nan"
        best = score is not None and score == max(SCORES[: trial + 1])
        yield TrialFinished(
            trial, "candidate", None, outcome, score, 2.0, error, best, trial + 1, 6
        )


def told(**options):
    out = StringIO()
    plain = options.pop("plain", False)
    live = Live(Console(file=out, width=120, **options), plain=plain)
    with live:
        for event in story():
            live(event)
    return live, out.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"force_terminal": True, "plain": True, "color_system": None}]
)
def test_log_has_a_line_a_trial_and_no_control_characters(options):
    _, text = told(**options)
    lines = text.splitlines()
    assert len(lines) == 2 + 5
    assert "\x1b" not in text and "\r" not in text and "█" not in text
    assert lines[4].endswith("70.00%    2.0 s  best so far")
    assert lines[6].endswith("nan: loss is nan")


def test_terminal_shows_charts_and_failures_below_the_same_lines():
    live, text = told(force_terminal=True, color_system=None)
    assert "\x1b" in text
    _, plain = told()
    assert all(line in text for line in plain.splitlines())
    shown = StringIO()
    Console(file=shown, width=120).print(live.view())
    charts = shown.getvalue()
    assert "top-1, best so far" in charts and "after 1 to 4 candidates" in charts
    assert "top-1, at most so many FLOPs" in charts and "FLOPs 1.000G to 4.000G" in charts
    assert all(line.rstrip() in charts for line in bars(rise(SCORES)) + bars(front(live.scores)))
    assert "70.00%" in charts and "50.00%" in charts  # the ends of both
    assert "an hour; failed: 1 nan" in charts
    assert "5/6" in charts


def test_confirmation_has_a_bar_of_its_own():
    live, _ = told()
    live(Confirming(("trial 2", "published"), 3, 0))
    ended = TrialFinished(9, CONFIRMATION, None, Outcome.COMPLETE, 0.7, 2.0, None, False, 6, 6)
    live(ended)
    shown = StringIO()
    Console(file=shown, width=120).print(live.view())
    (line,) = [line for line in shown.getvalue().splitlines() if "confirming" in line]
    assert "1/6" in line


def test_score_is_called_by_its_name_and_is_no_share_where_it_is_none():
    skill = metric_of({"task": "reconstruct", "score": "skill"})
    out = StringIO()
    live = Live(Console(file=out, width=120))
    live(StudyStarted("night", "sqlite:///nas.db", 6, 0, 0, False, skill))
    live(TrialStarted(0, "candidate", None, "random", "f", 10**9, 10**6, 3, 1, False))
    live(EpochDone(0, 1, 3, {"val_top1": 0.25, "score": 0.25}))
    live(TrialFinished(0, "candidate", None, Outcome.COMPLETE, 0.4321, 2.0, None, True, 1, 6))
    Console(file=out, width=120).print(live.view())
    assert "0.4321    2.0 s  best so far" in out.getvalue()
    assert "skill (R²), best so far" in out.getvalue()
    assert "%" not in out.getvalue() and "top-1" not in out.getvalue()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_best_so_far_never_falls_and_ends_at_its_top(scores):
    drawn = rise(scores)
    assert drawn == sorted(drawn) and drawn[-1] == max(scores)
    assert len(drawn) == min(32, len(scores))
    columns = ["".join(column) for column in zip(*bars(drawn))]
    assert all(column.strip() for column in columns) and columns[-1] == "████"


@given(st.lists(st.tuples(st.integers(1, 10**10), st.floats(0, 1)), min_size=1, max_size=100))
def test_front_rises_with_the_cost_and_holds_the_best_design(points):
    drawn = front(points)
    assert drawn == sorted(drawn) and drawn[-1] == max(score for _, score in points)


def test_front_shows_where_the_score_is_reached():
    assert front([(1.0, 0.2), (5.0, 0.2), (9.0, 0.9)], width=4) == [0.2, 0.2, 0.2, 0.9]
    assert front([(1.0, 0.9), (9.0, 0.2)], width=3) == [0.9] * 3
    assert bars([0.2, 0.2, 0.2, 0.9], 1) == ["▁▁▁█"]
    assert labeled("t", bars([0.0, 1.0], 2), ("0%", "100%"), "by cost") == (
        "t\n100%  █\n  0% ▁█\n     by cost"
    )
