"""Where the threads of the CPU backend come from.

Torch's OpenMP threads spin for some milliseconds after each torch operator, waiting for the
next. Threads of our own would fight them for the cores (measured on two cores: the forward
takes up to three times as long). So the scan runs as one more parallel region of that very
pool, through the entry point that GCC compiles `#pragma omp parallel` to; it is looked up in
the running process. Where there is none (another OpenMP, macOS, Windows), or where a fork has
left the pool without its threads, plain Python threads do the work: they sleep when idle.

The number is always `torch.get_num_threads()`, so a DataLoader worker (1), a Ray worker (its
num_cpus) and a user's own setting are all obeyed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

Task = Callable[[int], None]
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_pools: dict[int, ThreadPoolExecutor] = {}
_pool_lock = threading.Lock()
_is_forked = False


def _after_fork() -> None:
    """Forget, in a forked child, every pool: the parent's threads do not exist there."""
    global _pool_lock, _is_forked
    _pool_lock = threading.Lock()
    _pools.clear()
    _is_forked = True


os.register_at_fork(after_in_child=_after_fork)


def _find_openmp() -> Callable[..., None] | None:
    """Return GOMP_parallel of the OpenMP that torch has loaded, or None."""
    try:
        entry = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    entry.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    entry.restype = None
    return entry


_openmp = _find_openmp()


def describe() -> str:
    """Say which threads run the scan: 'openmp' or 'python'."""
    return "openmp" if _openmp is not None and not _is_forked else "python"


def run_slices(task: Task, slices: int) -> None:
    """Call task(0) .. task(slices - 1), each once, on up to torch.get_num_threads() threads.

    Raises: what a task raises, once all have ended.
    """
    threads = min(torch.get_num_threads(), slices)
    if threads <= 1:
        for i in range(slices):
            task(i)
    elif describe() == "openmp":
        _run_openmp(task, slices, threads)
    else:
        _run_python(task, slices, threads)


class _Tickets:
    """Hand out each slice once; the first failure stops the handing out."""

    def __init__(self, task: Task, slices: int) -> None:
        self._task = task
        self._left = iter(range(slices))
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def work(self, _: object = None) -> None:
        """Take slices until none is left."""
        while True:
            with self._lock:
                i = next(self._left, None) if self.failure is None else None
            if i is None:
                return
            try:
                self._task(i)
            except BaseException as error:
                self.failure = error


def _run_openmp(task: Task, slices: int, threads: int) -> None:
    tickets = _Tickets(task, slices)
    _openmp(_REGION(tickets.work), None, threads, 0)  # type: ignore[misc]
    if tickets.failure is not None:
        raise tickets.failure


def _run_python(task: Task, slices: int, threads: int) -> None:
    tickets = _Tickets(task, slices)
    with _pool_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, "scannas-scan")
        pool = _pools[threads]
    others = [pool.submit(tickets.work) for _ in range(threads - 1)]
    tickets.work()
    for other in others:
        other.result()
    if tickets.failure is not None:
        raise tickets.failure
