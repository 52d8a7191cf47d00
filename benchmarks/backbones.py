"""How fast backbones run: images a second, inference and training, side by side.

MambaOut against timm's own implementation, with the same weights (bar: at least as fast), and
VMamba-T against the same network whose routes are materialized and scanned by the PyTorch loop,
which is what the `reference` backend does. The two of a pair take turns in one process, so that
whatever else the machine does meets both; a ratio is the median over rounds.

    python benchmarks/backbones.py [--device cpu|cuda] [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import timm  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import backbones  # noqa: E402
from kernels import resolve_backend, use_backend  # noqa: E402

MAMBAOUT_BAR = 1.0
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest difference of logits that still counts as the same network."""

BATCH = {"cpu": {"mambaout": 8, "vmamba": 1}, "cuda": {"mambaout": 128, "vmamba": 32}}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One pair in one mode: images a second of both, and their ratio (ours over theirs)."""

    model: str
    against: str
    mode: str
    batch: int
    dtype: str
    backend: str
    ours: float
    theirs: float
    ratio: float


def same_weights(name: str) -> tuple[nn.Module, nn.Module]:
    """Return our MambaOut and timm's with equal parameters, told apart by order and shape."""
    torch.manual_seed(0)
    ours, theirs = backbones.create(name), timm.create_model(name)
    mine, other = list(ours.parameters()), list(theirs.parameters())
    assert [p.shape for p in mine] == [p.shape for p in other], "parameter orders differ"
    with torch.no_grad():
        for p, q in zip(mine, other):
            p.copy_(q)
    return ours, theirs


def step(model: nn.Module, images: Tensor, training: bool, backend: str, half: bool) -> Tensor:
    """Run one step and wait for it."""
    with use_backend(backend), torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        if training:
            model.zero_grad()
            logits = model(images)
            logits.float().square().mean().backward()
        else:
            with torch.inference_mode():
                logits = model(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return logits.detach()


def duel(
    ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int
) -> list[list[float]]:
    """Time both in turns, who goes first alternating; seconds per step."""
    for run in (ours, theirs):
        run()
    times: list[list[float]] = [[], []]
    for i in range(rounds):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[which]()
            times[which].append(time.perf_counter() - start)
    return times


def compare(
    model: str,
    against: str,
    pair: tuple[nn.Module, nn.Module],
    batch: int,
    device: str,
    rounds: int,
    their_backend: str,
    half: bool,
) -> list[Result]:
    """Check that a pair agrees, then time inference and training."""
    images = torch.randn(batch, 3, 224, 224, device=device)
    dtype = "bfloat16" if half else "float32"
    results = []
    for mode in ("inference", "training"):
        training = mode == "training"
        for module in pair:
            module.to(device).train(training)

        def run(which: int, training: bool = training) -> Tensor:
            backend = "auto" if which == 0 else their_backend
            return step(pair[which], images, training, backend, half)

        if not training:
            difference = (run(0).float() - run(1).float()).abs().max().item()
            if difference > TOLERANCE[dtype]:
                raise SystemExit(f"{model}: logits differ from {against} by {difference:.2g}")
        mine, other = duel(lambda: run(0), lambda: run(1), rounds)
        results.append(
            Result(
                model=model,
                against=against,
                mode=mode,
                batch=batch,
                dtype=dtype,
                backend=resolve_backend(device),
                ours=round(batch / statistics.median(mine), 2),
                theirs=round(batch / statistics.median(other), 2),
                ratio=round(statistics.median(b / a for a, b in zip(mine, other)), 3),
            )
        )
    return results


def without_drop_path(name: str) -> nn.Module:
    """Return a preset that draws no noise in training."""
    torch.manual_seed(0)
    return backbones.create(name, drop_path_rate=0.0)


def main() -> None:
    """Run the pairs, print a table, and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="*", default=["mambaout_femto", "vmamba_tiny_s1l8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device, results = options.device, []
    for half in (False,) if device == "cpu" else (False, True):
        for name in options.models:
            family = name.split("_")[0]
            batch = BATCH[device][family]
            if family == "mambaout":
                pair, against, backend = same_weights(name), "timm", "auto"
                rounds = options.rounds
            else:
                model = without_drop_path(name)
                pair, against, backend = (model, model), "PyTorch loop", "reference"
                rounds = max(3, options.rounds // 2)
            results += compare(name, against, pair, batch, device, rounds, backend, half)
    table = Table(title=f"images/s on {device}, torch {torch.__version__}")
    for column in (
        "model",
        "against",
        "mode",
        "batch",
        "dtype",
        "backend",
        "ours",
        "theirs",
        "ratio",
    ):
        table.add_column(column)
    for result in results:
        table.add_row(*(str(v) for v in asdict(result).values()))
    Console(width=120).print(table)
    behind = [r for r in results if r.against == "timm" and r.ratio < MAMBAOUT_BAR]
    for result in behind:
        print(f"below the bar of {MAMBAOUT_BAR}x: {result.model} {result.mode} {result.ratio}x")
    if options.json:
        machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
        record = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "results": [asdict(r) for r in results],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(bool(behind))


if __name__ == "__main__":
    main()
