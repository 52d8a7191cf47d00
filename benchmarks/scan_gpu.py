"""How fast a scan runs on a GPU: the shapes of VMamba and Vim, against what users run today.

One command, at most eight minutes: what is still to do when time is short is left out and
said so. First the backend is checked against float64; then the ceilings of this device are
measured (copy bandwidth, exponentials a second); then each shape is timed forward and
forward + backward, L2 flushed, median of up to 50:

    triton          the fused scan
    materialized    routes permuted and copied, our plain scan of each, then merged
    mamba_ssm       the CUDA extension on materialized routes, where it imports
    loop            plain PyTorch, on the smallest shape only

    python benchmarks/scan_gpu.py [--budget 480] [--json] [--shapes s1r1n1,vim-s]
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

import torch  # noqa: E402
import triton  # noqa: E402
from torch import Tensor  # noqa: E402

from kernels import backend_report, cross_scan  # noqa: E402
from kernels.common.conformance import failures  # noqa: E402
from kernels.s6.cases import ScanShape  # noqa: E402

CHECKS = [
    ScanShape(B=2, K=4, L=49, D=96, N=1, orders="shared"),
    ScanShape(B=2, K=2, L=197, D=100, N=16, merge="mean", orders="per-sample"),
    ScanShape(B=1, K=2, L=300, D=64, N=4, merge="none", route_inputs=True),
    ScanShape(B=1, K=1, L=1, D=9, N=3, orders="raster", gated=False),
]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A layer of a published network at 224 px and batch 128."""

    name: str
    D: int
    L: int
    N: int
    K: int
    B: int = 128


SHAPES = [
    Shape(name="s1r1n1", D=96, L=3136, N=1, K=4),
    Shape(name="s1r1n16", D=96, L=3136, N=16, K=4),
    Shape(name="vim-s", D=768, L=197, N=16, K=2),
    Shape(name="s3r1n1", D=384, L=196, N=1, K=4),
    Shape(name="s3r1n16", D=384, L=196, N=16, K=4),
    Shape(name="s2r1n1", D=192, L=784, N=1, K=4),
    Shape(name="s2r1n16", D=192, L=784, N=16, K=4),
    Shape(name="s4r1n1", D=768, L=49, N=1, K=4),
    Shape(name="s4r1n16", D=768, L=49, N=16, K=4),
    Shape(name="vim-t", D=384, L=197, N=16, K=2),
    Shape(name="s1r2n1", D=192, L=3136, N=1, K=4),
    Shape(name="s1r2n16", D=192, L=3136, N=16, K=4),
    Shape(name="s1r1n16-b1", D=96, L=3136, N=16, K=4, B=1),
    Shape(name="loop", D=192, L=49, N=1, K=4, B=8),
]


class Stopwatch:
    """Times calls on the device with its L2 cache flushed before each."""

    def __init__(self) -> None:
        self._flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")

    def median_ms(self, call: Callable[[], object], seconds: float = 0.5) -> dict[str, float]:
        """Return median and 20th and 80th percentile of up to 50 calls after a warm-up."""
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        started, times = time.monotonic(), []
        while len(times) < 50 and (len(times) < 5 or time.monotonic() - started < seconds):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._flush.zero_()
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        times.sort()
        low, high = times[len(times) // 5], times[len(times) * 4 // 5]
        return {"median": statistics.median(times), "p20": low, "p80": high}


def measure_ceilings(watch: Stopwatch) -> dict[str, float]:
    """Return the bandwidth of a copy and the rate of exponentials that this device reaches."""
    source = torch.empty(2**28, dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    copy_ms = watch.median_ms(lambda: target.copy_(source))["median"]
    small = source[: 2**24]
    sink = torch.empty_like(small)
    grid = (small.numel() // 1024,)
    exp_ms = watch.median_ms(lambda: _exponentials[grid](small, sink, 1024, 256, num_warps=4))
    return {
        "copy_gb_per_s": 2 * source.numel() * 4 / copy_ms / 1e6,
        "exp_g_per_s": small.numel() * 256 / exp_ms["median"] / 1e6,
    }


@triton.jit
def _exponentials(source, sink, BLOCK: triton.language.constexpr, TIMES: triton.language.constexpr):  # type: ignore[no-untyped-def]
    at = triton.language.program_id(0) * BLOCK + triton.language.arange(0, BLOCK)
    value = triton.language.load(source + at)
    for _ in range(TIMES):
        value = triton.language.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;",
            "=f,f",
            [value],
            dtype=triton.language.float32,
            is_pure=True,
            pack=1,
        )
    triton.language.store(sink + at, value)


def make_inputs(shape: Shape, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draw the inputs of a layer as training starts with them, an order table and a gradient."""
    torch.manual_seed(0)
    B, K, L, D, N = shape.B, shape.K, shape.L, shape.D, shape.N

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, device="cuda", dtype=dtype)

    inputs = {
        "x": draw(B, L, D),
        "delta": draw(B, K, L, D),
        "A": -torch.arange(1.0, N + 1, device="cuda").repeat(K, D, 1),
        "B": draw(B, K, L, N),
        "C": draw(B, K, L, N),
        "D": torch.ones(K, D, device="cuda"),
        "delta_bias": torch.full((K, D), -4.6, device="cuda"),
    }
    orders = torch.stack([torch.randperm(L, device="cuda") for _ in range(K)]).int()
    return {name: t.requires_grad_() for name, t in inputs.items()}, orders, draw(B, L, D)


def contenders(
    inputs: dict[str, Tensor], orders: Tensor, shape: Shape
) -> dict[str, Callable[[], Tensor]]:
    """Return the forward of each contender."""
    order = orders.long()
    raster = torch.arange(shape.L, device="cuda", dtype=torch.int32).expand(shape.K, -1)

    def fused(backend: str) -> Tensor:
        return cross_scan(**inputs, orders=orders, delta_softplus=True, backend=backend)

    def visit(tensor: Tensor) -> Tensor:
        index = order[None, :, :, None].expand_as(tensor)
        return tensor.gather(2, index)

    def materialized() -> Tensor:
        routed = inputs["x"].unsqueeze(1).expand(-1, shape.K, -1, -1)
        copies = {name: visit(inputs[name]) for name in ("delta", "B", "C")}
        y = cross_scan(
            **{**inputs, **copies, "x": visit(routed)},
            orders=raster,
            delta_softplus=True,
            merge="none",
            backend="triton",
        )
        index = order[None, :, :, None].expand_as(y)
        return torch.zeros_like(y).scatter(2, index, y).sum(1)

    calls = {"triton": lambda: fused("triton"), "materialized": materialized}
    if backend_report()["mamba_ssm"] == "available":
        calls["mamba_ssm"] = lambda: fused("mamba_ssm")
    if shape.name == "loop":
        calls["loop"] = lambda: fused("reference")
    return calls


def limits(shape: Shape, dtype: torch.dtype, ceilings: dict[str, float]) -> dict[str, float]:
    """Return the time that memory and exponentials need at least, forward and with backward.

    With it what is counted: bytes and exponentials, forward and with backward.

    Units: milliseconds, bytes, exponentials.
    Bytes: x, delta, B, C and y once in their dtype, forward; backward reads them and the
    gradient, and writes gradients in their dtype; states once in 32 tokens, written and read.
    Exponentials: one a token-state and two a softplus forward; as many and one more a
    token-state, and four a softplus, backward.
    """
    B, K, L, D, N = shape.B, shape.K, shape.L, shape.D, shape.N
    size = torch.tensor([], dtype=dtype).element_size()
    routed = B * K * L * (D + 2 * N) * size
    forward = routed + 2 * B * L * D * size
    states = B * K * -(-L // 32) * N * D * 4
    both = forward + states + routed * 2 + 3 * B * L * D * size + states
    per_route = B * K * L * D
    exps, all_exps = per_route * (N + 2), per_route * (N + 2 + 2 * N + 4)
    copy, rate = ceilings["copy_gb_per_s"] * 1e6, ceilings["exp_g_per_s"] * 1e6
    return {
        "forward_memory": forward / copy,
        "forward_exp": exps / rate,
        "both_memory": both / copy,
        "both_exp": all_exps / rate,
        "forward_bytes": forward,
        "forward_exps": exps,
        "both_bytes": both,
        "both_exps": all_exps,
    }


def measure(
    shape: Shape, dtype: torch.dtype, watch: Stopwatch, ceilings: dict[str, float]
) -> dict[str, object]:
    """Time every contender on one shape; memory is what a training step adds at its peak."""
    inputs, orders, grad_y = make_inputs(shape, dtype)
    leaves = list(inputs.values())
    bounds = limits(shape, dtype, ceilings)
    row: dict[str, object] = {**asdict(shape), "dtype": str(dtype), "limits": bounds}
    results: dict[str, object] = {}
    for name, call in contenders(inputs, orders, shape).items():

        def step(call: Callable[[], Tensor] = call) -> None:
            torch.autograd.grad(call(), leaves, grad_y)

        with torch.no_grad():
            forward = watch.median_ms(call)
        both = watch.median_ms(step)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        results[name] = {
            "forward_ms": forward,
            "both_ms": both,
            "peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20,
        }
        if name == "triton":
            binding = max(bounds["forward_memory"], bounds["forward_exp"])
            both_binding = max(bounds["both_memory"], bounds["both_exp"])
            row["share_of_limit_forward"] = binding / forward["median"]
            row["share_of_limit_both"] = both_binding / both["median"]
            for kind, spent in (("forward", forward["median"]), ("both", both["median"])):
                row[f"gb_per_s_{kind}"] = bounds[f"{kind}_bytes"] / spent / 1e6
                row[f"exp_g_per_s_{kind}"] = bounds[f"{kind}_exps"] / spent / 1e6
    row["results"] = results
    return row


def print_row(row: dict) -> None:
    """Print one shape: milliseconds, distance to the limit, and speed over the others."""
    ours = row["results"]["triton"]
    print(
        f"{row['name']:>10} {row['dtype'][6:]:>9}  forward {ours['forward_ms']['median']:8.3f} ms "
        f"({row['share_of_limit_forward']:.0%} of limit)  with backward "
        f"{ours['both_ms']['median']:8.3f} ms ({row['share_of_limit_both']:.0%})  "
        f"peak {ours['peak_mib']:.0f} MiB"
    )
    for kind in ("forward", "both"):
        print(
            f"{'':>21} {kind}: {row[f'gb_per_s_{kind}']:.0f} GB/s, "
            f"{row[f'exp_g_per_s_{kind}']:.0f} G exp/s"
        )
    for name, other in row["results"].items():
        if name == "triton":
            continue
        forward = other["forward_ms"]["median"] / ours["forward_ms"]["median"]
        both = other["both_ms"]["median"] / ours["both_ms"]["median"]
        memory = ours["peak_mib"] / max(other["peak_mib"], 1e-9)
        print(f"{'':>21} x {forward:.2f} forward, x {both:.2f} both, memory {memory:.2f} of {name}")


def main() -> int:
    """Check, measure, print, and write benchmarks/results/scan_gpu_<date>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--shapes", default="", help="comma-separated names; all by default")
    options = parser.parse_args()
    deadline = time.monotonic() + options.budget
    if not torch.cuda.is_available():
        print("no CUDA device is visible: nothing was measured", file=sys.stderr)
        return 2
    for dtype in (torch.float32, torch.bfloat16):
        for check in CHECKS:
            wrong = failures(check, "triton", "cuda", dtype)
            if wrong:
                print(f"wrong results, not timed: {check.label} {dtype}: {wrong}", file=sys.stderr)
                return 1
    watch = Stopwatch()
    ceilings = measure_ceilings(watch)
    now = datetime.now(timezone.utc)
    report: dict[str, object] = {
        "date": now.isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "processors": torch.cuda.get_device_properties(0).multi_processor_count,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "cuda": torch.version.cuda,
        },
        "backends": backend_report(),
        "ceilings": ceilings,
    }
    chosen = set(filter(None, options.shapes.split(",")))
    rows, left_out = [], []
    print(f"{report['device']}: {ceilings}", file=sys.stderr)
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES:
            if chosen and shape.name not in chosen:
                continue
            if time.monotonic() > deadline - 25:
                left_out.append(f"{shape.name} {dtype}")
                continue
            rows.append(measure(shape, dtype, watch, ceilings))
            if not options.json:
                print_row(rows[-1])
            torch.cuda.empty_cache()
    report |= {"shapes": rows, "left_out_for_time": left_out}
    path = ROOT / "benchmarks" / "results" / f"scan_gpu_{now:%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2) if options.json else f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
