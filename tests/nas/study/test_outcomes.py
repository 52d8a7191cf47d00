"""Outcome classes: every way in which a run can end is told apart."""

import pytest
import torch

from kernels.errors import ScanNASError
from nas.study.outcomes import NanLoss, Outcome, Stop, classify


def chained(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("exc", "outcome"),
    [
        (Stop("pruned at epoch 2"), Outcome.PRUNED),
        (NanLoss("loss is nan at epoch 1"), Outcome.NAN),
        (TimeoutError("limit of 60 s"), Outcome.TIMEOUT),
        (MemoryError(), Outcome.OOM),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Outcome.OOM),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), Outcome.OOM),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), Outcome.OOM),
        (RuntimeError("shape mismatch"), Outcome.ERROR),
        (ScanNASError("a user's mistake"), Outcome.ERROR),
        (ValueError("the words out of memory in another class"), Outcome.ERROR),
        (chained(ValueError("worker failed"), NanLoss("loss is inf")), Outcome.NAN),
    ],
    ids=lambda v: v.value if isinstance(v, Outcome) else type(v).__name__,
)
def test_classify_gives_the_class(exc, outcome):
    assert classify(exc) is outcome


def test_classify_ends_on_a_circular_cause():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert classify(a) is Outcome.ERROR


def test_real_cpu_allocation_failure_is_oom():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert classify(caught.value) is Outcome.OOM


def test_outcome_value_is_what_the_database_stores():
    assert [str(o) for o in Outcome] == [
        "complete", "pruned", "oom", "nan", "timeout", "stalled", "lost", "error"
    ]  # fmt: skip


def test_stop_is_no_user_error():
    assert not issubclass(Stop, ScanNASError)
    assert issubclass(NanLoss, ScanNASError)
