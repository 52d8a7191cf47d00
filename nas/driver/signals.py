"""Signals: the first asks a search to stop cleanly, the second stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# What SLURM sends ahead of a time limit (sbatch --signal=B:USR1@120) is on the list.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


@contextmanager
def on_signal(stop: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `stop` with the signal's name at the first one.

    The second SIGINT or SIGTERM raises KeyboardInterrupt in the main thread. Outside of the main
    thread nothing is changed: the program that runs us there owns the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        name = signal.Signals(number).name
        if name != "SIGUSR1":
            seen += 1
        if seen > 1:
            raise KeyboardInterrupt(name)
        stop(name)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
