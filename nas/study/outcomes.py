"""How a run can end: outcome classes, the exceptions that carry them, and `classify`.

A search learns from its failures only when they are told apart: a model that does not fit in
memory is no bad model, a NaN is, and an interrupted run says nothing at all.
"""

from __future__ import annotations

from enum import Enum

from kernels.errors import ScanNASError


class Outcome(str, Enum):
    """The class of a finished run; the value is what the database stores.

    complete: a score. pruned: stopped on purpose at an epoch boundary. oom: out of memory (host
    or device). nan: the loss was no longer finite. timeout: over its time limit. stalled: it made
    no batch any more. lost: its owner vanished without a result. error: anything else, kept with
    its traceback.
    """

    COMPLETE = "complete"
    PRUNED = "pruned"
    OOM = "oom"
    NAN = "nan"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    LOST = "lost"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value


class NanLoss(ScanNASError):
    """The training loss is no longer finite; names the epoch and step."""


class Stalled(Exception):
    """A training that makes no batch any more is interrupted; says for how long it made none."""


class Stop(Exception):
    """Asks a run to end, from `report` (at an epoch's end) or through `should_stop`.

    Deliberately no ScanNASError: it is a request, not a mistake, and a handler of user errors
    must not swallow it. A stopped run has left a checkpoint of its last whole epoch when it was
    given a directory for one.
    """


# Ends that may be the design's or the place's: a canary says which.
UNCLEAR = frozenset((Outcome.ERROR, Outcome.STALLED))

# What torch, its allocators and the C++ runtime say when memory runs out without a class for it.
# The CUDA libraries ask for their workspaces themselves and report the refusal as a plain error.
_OOM_PHRASES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def classify(exc: BaseException) -> Outcome:
    """Return the outcome class of an exception that ended a run.

    torch is not imported: its out-of-memory errors are RuntimeErrors, known by name or by what
    they say. Causes are followed, so that a wrapped error keeps its class.
    """
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if (outcome := _classify_one(current)) is not Outcome.ERROR:
            return outcome
        current = current.__cause__
    return Outcome.ERROR


def _classify_one(exc: BaseException) -> Outcome:
    if isinstance(exc, Stop):
        return Outcome.PRUNED
    if isinstance(exc, Stalled):
        return Outcome.STALLED
    if isinstance(exc, NanLoss):
        return Outcome.NAN
    if isinstance(exc, TimeoutError):
        return Outcome.TIMEOUT
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return Outcome.OOM
    if isinstance(exc, RuntimeError) and any(p in str(exc).lower() for p in _OOM_PHRASES):
        return Outcome.OOM
    return Outcome.ERROR
