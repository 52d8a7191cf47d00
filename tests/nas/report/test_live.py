"""The view of a running search: lines for logs, charts below them where there is a terminal."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nas.driver.progress import StudyStarted, TrialFinished, TrialStarted
from nas.report.charts import front, rise
from nas.report.live import Live
from nas.study.outcomes import Outcome

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
    assert f"best so far {rise(SCORES)}" in shown.getvalue()
    assert f"top-1 against FLOPs {front(live.scores)}" in shown.getvalue()
    assert "failed: 1 nan" in shown.getvalue()
    assert "5/6" in shown.getvalue()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_best_so_far_never_falls_and_ends_at_its_top(scores):
    drawn = rise(scores)
    assert list(drawn) == sorted(drawn) and drawn[-1] == "█"
    assert len(drawn) == min(24, len(scores))


@given(st.lists(st.tuples(st.integers(1, 10**10), st.floats(0, 1)), min_size=1, max_size=100))
def test_front_rises_with_the_cost_and_holds_the_best_design(points):
    drawn = front(points)
    assert list(drawn) == sorted(drawn) and drawn[-1] == "█"


def test_front_shows_where_the_score_is_reached():
    assert front([(1.0, 0.2), (5.0, 0.2), (9.0, 0.9)], width=4) == "▁▁▁█"
    assert front([(1.0, 0.9), (9.0, 0.2)], width=3) == "███"
