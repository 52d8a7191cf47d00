"""How fast a scan runs on the CPU: forward and backward of three shapes, side by side.

The contenders take turns in one process, so that whatever else the machine does meets all of
them; the figure is the median. Compilation is timed apart. Before anything is timed, each
contender is compared with the specification. Last, the scan together with the projection that
makes its steps: what fusing the two could save at most.

    python benchmarks/scan_cpu.py [--repeats 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
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

import numba  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor  # noqa: E402

from kernels import cross_scan  # noqa: E402
from kernels.common import threads  # noqa: E402
from kernels.s6 import reference  # noqa: E402
from kernels.s6.call import ScanCall  # noqa: E402

LOOP, WRITTEN, NUMBA = "PyTorch loop", "loop, written gradient", "numba"
PROJECTED = "numba, steps projected"
TOLERANCE = 2e-5
"""Largest difference from the loop, relative to the largest element, of y and each gradient."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A scan to time, and how many times faster than the loop it has to be."""

    name: str
    B: int
    K: int
    L: int
    D: int
    N: int
    bar: float
    stretch: float


SHAPES = [
    Shape(name="s1", B=8, K=4, L=196, D=192, N=1, bar=9, stretch=20),
    Shape(name="s2", B=8, K=1, L=784, D=192, N=16, bar=15, stretch=30),
    Shape(name="s3", B=1, K=1, L=3136, D=384, N=16, bar=40, stretch=80),
]


def contenders(shape: Shape) -> dict[str, Callable[[], list[Tensor]]]:
    """Return, of each contender, a call that runs one forward and one backward."""
    generator = torch.Generator().manual_seed(0)
    B, K, L, D, N = shape.B, shape.K, shape.L, shape.D, shape.N

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    A = -torch.arange(1.0, N + 1).repeat(K, D, 1)  # Mamba's initial decays.
    bias = torch.full((K, D), -4.6)  # softplus gives steps around 0.01, as Mamba starts with.
    values = [draw(B, L, D), draw(B, K, L, D), A, draw(B, K, L, N), draw(B, K, L, N), draw(K, D)]
    leaves = [value.requires_grad_() for value in (*values, bias)]
    x, delta, A, b, c, skip, bias = leaves
    orders = torch.stack([torch.randperm(L, generator=generator) for _ in range(K)]).int()
    grad_y = draw(B, L, D)

    def through_autograd() -> list[Tensor]:
        y = reference.scan(ScanCall(x, delta, A, b, c, skip, None, bias, orders, True))
        return [y, *torch.autograd.grad(y, leaves, grad_y)]

    def through_operator(backend: str) -> list[Tensor]:
        options = {"orders": orders, "delta_bias": bias, "delta_softplus": True}
        y = cross_scan(x, delta, A, b, c, skip, **options, backend=backend)
        return [y, *torch.autograd.grad(y, leaves, grad_y)]

    return {
        LOOP: through_autograd,
        WRITTEN: lambda: through_operator("reference"),
        NUMBA: lambda: through_operator("numba"),
    }


def projected(shape: Shape) -> Callable[[], object]:
    """Return a call like numba's whose delta is the projection of D / 16 numbers a token."""
    generator = torch.Generator().manual_seed(0)
    B, K, L, D, N = shape.B, shape.K, shape.L, shape.D, shape.N
    rank = max(1, D // 16)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).requires_grad_()

    x, narrow, weight = draw(B, L, D), draw(B, K, L, rank), draw(K, rank, D)
    A, b, c = -torch.arange(1.0, N + 1).repeat(K, D, 1), draw(B, K, L, N), draw(B, K, L, N)
    leaves = [x, narrow, weight, A.requires_grad_(), b, c, draw(K, D), draw(K, D)]
    orders = torch.stack([torch.randperm(L, generator=generator) for _ in range(K)]).int()
    grad_y = torch.randn(B, L, D, generator=generator)

    def call() -> object:
        delta = torch.matmul(narrow, weight)
        options = {"orders": orders, "delta_bias": leaves[7], "delta_softplus": True}
        y = cross_scan(x, delta, A, b, c, leaves[6], **options, backend="numba")
        return torch.autograd.grad(y, leaves, grad_y)

    call()
    return call


def largest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference, relative to the largest element of its tensor."""
    return max(
        float((f - e).detach().abs().max() / e.detach().abs().max())
        for f, e in zip(found, expected)
    )


def measure(shape: Shape, repeats: int) -> dict[str, object]:
    """Check, then time the contenders of one shape in turns."""
    calls = contenders(shape)
    expected = calls[LOOP]()
    found = {name: largest_error(call(), expected) for name, call in calls.items()}
    wrong = {name: error for name, error in found.items() if error > TOLERANCE}
    if wrong:
        raise SystemExit(f"{shape.name}: differs from the loop by more than {TOLERANCE}: {wrong}")
    calls[PROJECTED] = projected(shape)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **asdict(shape),
        "median_ms": {name: 1e3 * value for name, value in medians.items()},
        "min_ms": {name: 1e3 * min(values) for name, values in times.items()},
        "speedup_over_loop": {name: medians[LOOP] / value for name, value in medians.items()},
        "error": found,
        "token_states_per_us": shape.B * shape.K * shape.L * shape.D * shape.N
        / (1e6 * medians[NUMBA]),
    }  # fmt: skip


def processor() -> str:
    """Return the name of the processor where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    name = found.get("model name", platform.processor())
    return f"{name} family {found.get('cpu family', '?')} model {found.get('model', '?')}"


def print_table(report: dict, console: Console) -> None:
    """Print what was measured."""
    table = Table(title="Scan on the CPU, forward + backward, float32, median of a shared run")
    for title in ("shape", "B K L D N", "contender", "ms", "x loop", "bar", "stretch", "error"):
        table.add_column(title, justify="left" if title in ("shape", "contender") else "right")
    for row in report["shapes"]:
        sizes = " ".join(str(row[axis]) for axis in "BKLDN")
        for name, value in row["median_ms"].items():
            is_ours = name == NUMBA
            table.add_row(
                row["name"],
                sizes,
                name,
                f"{value:.1f}",
                f"{row['speedup_over_loop'][name]:.1f}",
                f"{row['bar']:.0f}" if is_ours else "",
                f"{row['stretch']:.0f}" if is_ours else "",
                f"{row['error'][name]:.0e}" if name in row["error"] else "",
            )
    console.print(table)
    console.print(f"{report['device']}, {report['threads']} threads ({report['thread_kind']})")
    console.print(f"first call, compilation or its cache: {report['first_call_s']:.2f} s")


def main() -> None:
    """Measure, print, and write benchmarks/results/scan_cpu_<date>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the JSON, no table")
    options = parser.parse_args()
    warm = contenders(Shape(name="", B=1, K=1, L=3, D=3, N=1, bar=0, stretch=0))
    start = time.perf_counter()
    warm[NUMBA]()
    first_call = time.perf_counter() - start
    now = datetime.now(timezone.utc)
    report = {
        "date": now.isoformat(timespec="seconds"),
        "device": processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numba": numba.__version__,
        },
        "threads": torch.get_num_threads(),
        "thread_kind": threads.describe(),
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("OMP_", "GOMP_", "KMP_"))
        },
        "repeats": options.repeats,
        "first_call_s": first_call,
        "shapes": [measure(shape, options.repeats) for shape in SHAPES],
    }
    path = ROOT / "benchmarks" / "results" / f"scan_cpu_{now:%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        console = Console()
        print_table(report, console)
        console.print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
