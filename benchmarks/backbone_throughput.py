"""How many images a second whole backbones take, and which share of that time is the scan.

VMamba-T, QuadMamba-S, Vim-S and MambaOut-T; inference and training; 224 and 448 px; with and
without torch.compile; bfloat16 autocast on a GPU, float32 on a CPU. A step is timed alone, after a
warm-up that also compiles; the figure is the median. The share comes from the profiler, over the
steps without torch.compile: time inside the scan operator, forward and backward, over the time of
all operators. What is still to do when time is short is left out and said so.

    python benchmarks/backbone_throughput.py [--device cuda] [--budget 480] [--batch 64]
        [--models vmamba_tiny_s1l8 ...] [--sizes 224 448] [--compile yes no]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

import backbones  # noqa: E402
from kernels import resolve_backend  # noqa: E402

MODELS = ("vmamba_tiny_s1l8", "quadmamba_small", "vim_small", "mambaout_tiny")
SCANS = ("scannas::cross_scan", "scannas::cross_scan_backward")
MODES = ("inference", "training")
COLUMNS = ("model", "pixels", "mode", "compiled", "images/s", "ms a step", "scan", "peak MiB")
# Compilation of a training step of a backbone takes a minute or two.
RESERVE_S = {False: 20.0, True: 120.0}


def step_of(
    model: nn.Module, pixels: int, batch: int, device: str, mode: str
) -> Callable[[], None]:
    """Return a call that runs one step and waits for it."""
    images = torch.randn(batch, 3, pixels, pixels, device=device)
    labels = torch.randint(1000, (batch,), device=device)
    half = device != "cpu"
    training = mode == "training"
    model.train(training)

    def step() -> None:
        with (
            torch.inference_mode(not training),
            torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=half),
        ):
            logits = model(images)
            if training:
                loss = nn.functional.cross_entropy(logits.float(), labels)
        if training:
            loss.backward()
            model.zero_grad()
        if half:
            torch.cuda.synchronize()

    return step


def median_s(step: Callable[[], None], seconds: float) -> float:
    """Return the median time of a step, over at least three and about `seconds`."""
    for _ in range(2):
        step()
    started, times = time.monotonic(), []
    while len(times) < 3 or time.monotonic() - started < seconds:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def scan_share(step: Callable[[], None], device: str) -> float:
    """Return the share of a step's operator time that is spent inside the scan."""
    on_gpu = device != "cpu"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=kinds) as recorded:
        step()
    events = recorded.key_averages()
    total = sum(e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in events)
    inside = sum(
        e.device_time_total if on_gpu else e.cpu_time_total for e in events if e.key in SCANS
    )
    return inside / total


def measure(
    name: str, pixels: int, mode: str, compiled: bool, batch: int, device: str
) -> dict[str, object]:
    """Time one backbone in one mode."""
    torch.manual_seed(0)
    torch.compiler.reset()
    model = backbones.create(name, image_size=pixels).to(device)
    runner = torch.compile(model) if compiled else model
    step = step_of(runner, pixels, batch, device, mode)
    step()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = median_s(step, seconds=3.0)
    return {
        "model": name,
        "pixels": pixels,
        "mode": mode,
        "compiled": compiled,
        "batch": batch,
        "images/s": round(batch / seconds, 1),
        "ms a step": round(1e3 * seconds, 1),
        "scan": None if compiled else round(scan_share(step, device), 3),
        "peak MiB": None if device == "cpu" else round(torch.cuda.max_memory_allocated() / 2**20),
    }


def print_table(rows: list[dict[str, object]], title: str) -> None:
    """Print what was measured."""
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        share = "" if row["scan"] is None else f"{row['scan']:.0%}"
        cells = {**row, "scan": share, "peak MiB": row["peak MiB"] or ""}
        table.add_row(*(str(cells[column]) for column in COLUMNS))
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, and write benchmarks/results/backbone_throughput_<device>_<date>.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument("--batch", type=int, help="images a step; default 64, on a CPU 2")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 448])
    parser.add_argument("--compile", nargs="+", default=["no", "yes"], choices=["no", "yes"])
    options = parser.parse_args()
    device = options.device
    batch = options.batch or (2 if device == "cpu" else 64)
    deadline = time.monotonic() + options.budget
    rows: list[dict[str, object]] = []
    left_out: list[str] = []
    failed: list[str] = []
    ways = [word == "yes" for word in options.compile]
    for compiled, pixels, name, mode in product(ways, options.sizes, options.models, MODES):
        label = f"{name} {pixels} px {mode}{' compiled' if compiled else ''}"
        if time.monotonic() > deadline - RESERVE_S[compiled]:
            left_out.append(label)
            continue
        try:
            rows.append(measure(name, pixels, mode, compiled, batch, device))
        except torch._dynamo.exc.TorchDynamoException as error:
            said = " ".join(str(error).split())[:200]
            print(f"{label}: does not compile here: {said}", file=sys.stderr, flush=True)
            failed.append(f"{label}: {said}")
            continue
        print(f"{label}: {rows[-1]['images/s']} images/s", file=sys.stderr, flush=True)
        if device != "cpu":
            torch.cuda.empty_cache()
    machine = torch.cuda.get_device_name() if device != "cpu" else platform.processor()
    print_table(rows, f"{machine or platform.machine()}, torch {torch.__version__}, batch {batch}")
    for label in failed:
        print(f"failed to compile: {label}")
    for label in left_out:
        print(f"left out for lack of time: {label}")
    now = datetime.now(timezone.utc)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "device": machine or platform.machine(),
        "dtype": "float32" if device == "cpu" else "bfloat16 autocast",
        "backend": resolve_backend(torch.device(device)),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "results": rows,
        "left_out_for_time": left_out,
        "failed_to_compile": failed,
    }
    kind = device.partition(":")[0]
    path = ROOT / "benchmarks" / "results" / f"backbone_throughput_{kind}_{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
