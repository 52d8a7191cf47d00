"""How fast a network answers, and what memory that takes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import torch
from torch import Tensor, nn

_TIMED_S, _LEAST_TIMES = 1.0, 3
_PROCESS = Path("/proc/self")


@torch.no_grad()
def speed(model: nn.Module, images: Tensor) -> tuple[float, float | None]:
    """Return images per second of a batch, and the peak memory in MiB while it answers.

    Memory: what torch has allocated of a GPU; on a CPU, all of this process. None where the
    system does not tell (it is Linux that does).
    """
    on_gpu = images.device.type == "cuda"

    def answer() -> None:
        model(images)
        if on_gpu:
            torch.cuda.synchronize(images.device)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(images.device)
    else:
        _forget_peak()
    answer()
    peak = torch.cuda.max_memory_allocated(images.device) / 2**20 if on_gpu else _peak_mib()
    times, started = 0, time.perf_counter()
    while times < _LEAST_TIMES or time.perf_counter() - started < _TIMED_S:
        answer()
        times += 1
    return times * len(images) / (time.perf_counter() - started), peak


def _forget_peak() -> None:
    reset = _PROCESS / "clear_refs"
    if reset.exists():
        reset.write_text("5")  # the peak is the present from here (man 5 proc)


def _peak_mib() -> float | None:
    status = _PROCESS / "status"
    if not status.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return None if found is None else int(found[1]) / 1024
