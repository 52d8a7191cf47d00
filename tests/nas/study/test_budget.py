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
        ("8ms", "unknown unit 'ms'"),
        ("-1GFLOPs", "is negative"),
        ("0GFLOPs", "is zero"),
        ("4.5-4.2GFLOPs", "below the high end"),
        ("GFLOPs", "cannot read"),
        ("1e9FLOPs", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_ambiguous_budget_is_an_error_that_shows_the_grammar(text, reason):
    with pytest.raises(BudgetError, match=r"e\.g\. 4\.5GFLOPs") as caught:
        parse_budget([text])
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


def test_same_quantity_twice_is_an_error():
    with pytest.raises(BudgetError, match="a second time"):
        parse_budget(["4.5GFLOPs", "4GMACs"])
