"""Counts of a scan against counts made by hand, and the checks of order tables."""

from types import SimpleNamespace

import pytest
import torch

from kernels import KernelError, check_orders, scan_flops
from kernels.common import orders
from kernels.s6.op import OPERATOR


def test_counts_equal_those_made_by_hand():
    assert scan_flops(L=7, D=5, N=3, K=1, convention="fvcore") == 9 * 7 * 5 * 3 + 7 * 5
    assert scan_flops(L=7, D=5, N=3, K=4, convention="fvcore") == 4 * (945 + 35)
    assert scan_flops(L=7, D=5, N=3, K=4, convention="macs") == 4 * (420 + 70)


def test_gate_counts_only_as_multiply_adds():
    gated = {c: scan_flops(7, 5, 3, 2, c, gated=True) for c in ("fvcore", "macs")}
    plain = {c: scan_flops(7, 5, 3, 2, c) for c in ("fvcore", "macs")}
    assert gated["fvcore"] == plain["fvcore"]
    assert gated["macs"] - plain["macs"] == 2 * 7 * 5


def test_unknown_convention_is_refused():
    with pytest.raises(KernelError, match="FLOP convention 'flops' is unknown; use 'fvcore' or"):
        scan_flops(1, 1, 1, 1, "flops")


def test_permutations_pass_and_others_are_named():
    check_orders(torch.tensor([[2, 0, 1], [0, 1, 2]]), tokens=3)
    check_orders(torch.tensor([[[1, 0]], [[0, 1]]], dtype=torch.int32))
    with pytest.raises(KernelError, match=r"row 1 is not a permutation of 0\.\.2"):
        check_orders(torch.tensor([[2, 0, 1], [0, 0, 2]]))
    with pytest.raises(KernelError, match="visits 3 tokens a route; there are 2"):
        check_orders(torch.tensor([[0, 1, 2]]), tokens=2)
    with pytest.raises(KernelError, match="use int32 or int64"):
        check_orders(torch.tensor([[0.0, 1.0]]))


def test_rows_that_leave_tokens_out_are_checked_for_repeats():
    check_orders(torch.tensor([[4, 0], [1, 3]]), tokens=5)
    for row in ([2, 2], [0, 5], [-1, 0]):
        with pytest.raises(KernelError, match=r"row 1 visits a token twice, or one that is not in"):
            check_orders(torch.tensor([[0, 1], row]), tokens=5)


def test_a_scan_of_part_of_the_tokens_is_counted_by_its_steps():
    shapes = {"delta": (2, 3, 9, 5), "A": (3, 5, 4), "z": None, "orders": (3, 6)}
    assert OPERATOR.flops(shapes, "fvcore") == 2 * scan_flops(6, 5, 4, 3, "fvcore")
    assert OPERATOR.flops(shapes | {"orders": None}, "macs") == 2 * scan_flops(9, 5, 4, 3, "macs")


def test_table_on_a_device_is_looked_at_only_when_asked(monkeypatch):
    looked = []
    monkeypatch.setattr(orders, "check_orders", lambda table, tokens: looked.append(tokens))
    on_cuda = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    orders.check_on_device(on_cuda, 9)
    assert looked == []
    monkeypatch.setenv("SCANNAS_CHECK_ORDERS", "1")
    orders.check_on_device(on_cuda, 9)
    assert looked == [9]
