"""Counts of a scan against counts made by hand, and the checks of order tables."""

import pytest
import torch

from kernels import KernelError, check_orders, scan_flops


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
    with pytest.raises(KernelError, match="visits 2 tokens a route; expected 3"):
        check_orders(torch.tensor([[0, 1]]), tokens=3)
    with pytest.raises(KernelError, match="use int32 or int64"):
        check_orders(torch.tensor([[0.0, 1.0]]))
