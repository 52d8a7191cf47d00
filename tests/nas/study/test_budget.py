import pytest

from nas.errors import BudgetError
from nas.study.budget import parse_budget


@pytest.mark.parametrize(
    ("text", "metric", "low", "high"),
    [
        ("4.5GFLOPs", "flops", 4.275e9, 4.5e9),
        ("4.2-4.5GFLOPs", "flops", 4.2e9, 4.5e9),
        ("30Mparams", "params", 28.5e6, 30e6),
        ("800 MFLOPs", "flops", 760e6, 800e6),
        ("1.gflops", "flops", 0.95e9, 1e9),
        ("8ms", "latency", 7.6, 8.0),
        ("6-8 ms", "latency", 6.0, 8.0),
        ("500us", "latency", 0.475, 0.5),
        ("1.5s", "latency", 1425.0, 1500.0),
        ("2GiB", "memory", 0.95 * 2**31, 2**31),
        ("150MiB", "memory", 142.5 * 2**20, 150 * 2**20),
    ],
)
def test_budget_reads_as_band(text, metric, low, high):
    (band,) = parse_budget([text]).bands
    assert band.metric == metric
    assert band.lo == pytest.approx(low)
    assert band.hi == pytest.approx(high)


def test_macs_select_their_convention():
    assert parse_budget(["4.5GMACs"]).convention == "macs"
    assert parse_budget(["30Mparams"]).convention == "fvcore"


def test_two_budgets_bind_together():
    budget = parse_budget(["4.5GFLOPs", "30Mparams"])
    assert budget.admits(flops=4.4e9, params=29e6)
    assert not budget.admits(flops=4.4e9, params=31e6)
    assert not budget.admits(flops=4.6e9, params=29e6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4.5", "has no unit"),
        ("4.5G", "has no unit"),
        ("4.5GB", "unknown unit 'GB'"),
        ("8ns", "unknown unit 'ns'"),
        ("8", "has no unit"),
        ("-1GFLOPs", "is negative"),
        ("0GFLOPs", "is zero"),
        ("4.5-4.2GFLOPs", "below the high end"),
        ("GFLOPs", "cannot read"),
        ("1e9FLOPs", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_ambiguous_budget_is_an_error_that_shows_the_grammar(text, reason):
    with pytest.raises(BudgetError, match=r"e\.g\. 4\.5GFLOPs.*8ms or 150MiB") as caught:
        parse_budget([text])
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


def test_same_quantity_twice_is_an_error():
    with pytest.raises(BudgetError, match="a second time"):
        parse_budget(["4.5GFLOPs", "4GMACs"])


@pytest.mark.parametrize("texts", [["4.5GFLOPs", "8ms"], ["8ms", "4.5GFLOPs"]])
def test_a_latency_beside_what_is_counted_is_a_limit(texts):
    budget = parse_budget(texts)
    assert budget.text == ("4.5GFLOPs", "8ms")
    assert [(b.metric, b.lo) for b in budget.bands] == [("flops", 0.95 * 4.5e9), ("latency", 0)]
    assert [str(b) for b in budget.bands] == ["4.275-4.5GFLOPs", "at most 8ms"]
    assert budget.admits(flops=4.4e9, params=1, latency=0.1)
    assert not budget.admits(flops=4.4e9, params=1, latency=8.1)


def test_a_stated_low_end_is_kept_beside_others():
    bands = parse_budget(["30Mparams", "6-8ms", "1.5GiB"]).bands
    assert [str(b) for b in bands[1:]] == ["6-8ms", "at most 1.5GiB"]


def test_of_two_that_are_measured_the_first_is_filled():
    assert [b.lo for b in parse_budget(["8ms", "1GiB"]).bands] == [7.6, 0]
    assert [str(b) for b in parse_budget(["100MiB", "8ms"]).bands] == ["95-100MiB", "at most 8ms"]
