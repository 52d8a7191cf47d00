"""How an architecture's latency and memory grow with its input, beside others of timm."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

import backbones
from backbones.errors import ConfigError
from backbones.image_size import parse_image_size
from backbones.image_size import sides as sides_of
from nas.errors import StudyError
from nas.report.console import table
from nas.report.text import giga, mega

Size = tuple[int, int]
STEP, STRIDE = math.sqrt(2), 32
MODES = ("eager", "compiled")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement. latency_ms: of a batch; peak_mb: as `nas.full_training.speed` says.

    failed: why there is none, as running out of memory.
    """

    model: str
    mode: str
    size: Size
    batch: int
    latency_ms: float | None = None
    images_per_s: float | None = None
    peak_mb: float | None = None
    failed: str | None = None


def parse_sweep(text: str) -> list[Size]:
    """Return the sizes of "224:1024", in steps of the square root of two, or "224,512x2048".

    Raises: StudyError for anything else.
    """
    try:
        if ":" in text:
            first, last = (int(side) for side in text.split(":"))
            count = math.ceil(round(math.log(last / first, STEP), 6))
            sides = [STRIDE * round(first * STEP**i / STRIDE) for i in range(count)]
            sizes = [(side, side) for side in dict.fromkeys([first, *sides[1:], last])]
        else:
            sizes = [sides_of(parse_image_size(part, STRIDE)) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, ConfigError):
        sizes = []
    if not sizes or min(map(min, sizes)) < STRIDE or sizes != sorted(sizes, key=math.prod):
        raise StudyError(
            f"--sweep {text!r} names no sizes; give the first and the last side, 224:1024, or "
            f"rising sizes of {STRIDE} pixels and more, 224,512x2048"
        )
    return sizes


def parse_batches(text: str) -> list[int]:
    """Return the batch sizes of "1,8"; StudyError for anything else."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise StudyError(f"--batches {text!r} is no list of numbers from 1; use 1,8")
    return [int(part) for part in parts]


def sweep(
    arch: str,
    sizes: Sequence[Size],
    *,
    batches: Sequence[int] = (1,),
    against: Sequence[str] = (),
    modes: Sequence[str] = ("eager",),
    device: str | None = None,
) -> dict[str, Any]:
    """Measure inference of a design and of timm's models at every size and batch.

    device: cpu or cuda; None takes the GPU where there is one. Peak memory on the CPU is that of
        the whole process.
    Returns: device, models (params, flops at the first size), points, crossings.
    Raises: ConfigError for an unknown arch, StudyError for an unknown timm model or device.
    """
    import torch

    from nas.training.environment import environment

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise StudyError(f"--device {device!r} is not here; use cpu")
    where = environment()
    names = [Path(arch).stem if Path(arch).is_file() else arch, *against]
    models, points = [], []
    for n, name in enumerate(names):
        model = backbones.create(arch) if n == 0 else _of_timm(name)
        model = model.eval().to(device)
        models.append({"model": name, **_cost(model, sizes[0])})
        for mode in modes:
            for size in sizes:
                for batch in batches:
                    points.append(_measured(model, name, mode, size, batch, device))
        del model
        gc.collect()
    return {
        "device": device,
        "processor": where["gpus"][0] if device == "cuda" else where["processor"],
        "threads": torch.get_num_threads(),
        "models": models,
        "points": [asdict(point) for point in points],
        "crossings": crossings(points, names),
    }


def _of_timm(name: str) -> Any:
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise StudyError(f"--against {name!r} is no model of timm{hint}")
    return timm.create_model(name)


def _cost(model: Any, size: Size) -> dict[str, Any]:
    import torch

    from backbones.flop_handles import count_flops

    _resize(model, size)
    with torch.no_grad():
        flops = int(count_flops(model, size))
    return {"params": sum(p.numel() for p in model.parameters()), "flops": flops}


def _resize(model: Any, size: Size) -> None:
    """Bring a model that holds a table for one size to another; the others take any."""
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=size)


def _measured(model: Any, name: str, mode: str, size: Size, batch: int, device: str) -> Point:
    import torch

    from nas.full_training.speed import speed

    at: dict[str, Any] = {"model": name, "mode": mode, "size": size, "batch": batch}
    try:
        _resize(model, size)
        model.to(device)
        called: Any = torch.compile(model) if mode == "compiled" else model
        images = torch.randn(batch, 3, *size, device=device)
        with torch.no_grad():
            called(images)  # compiles
        rate, peak = speed(called, images)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        return Point(**at, failed="out of memory")
    finally:
        torch.compiler.reset()
    return Point(**at, latency_ms=1e3 * batch / rate, images_per_s=rate, peak_mb=peak)


def crossings(points: Sequence[Point], names: Sequence[str]) -> list[dict[str, Any]]:
    """Say for the first model against each other, by mode and batch, where it becomes faster.

    Returns: per pair the side in pixels of a square image of as many pixels from which on it is
        faster (None where it never is, 0 where it always is), and a sentence.
    """
    times = {(p.model, p.mode, p.batch, p.size): p.latency_ms for p in points}
    found = []
    for other in names[1:]:
        for mode, batch in dict.fromkeys((p.mode, p.batch) for p in points):
            sizes = dict.fromkeys(p.size for p in points)
            pairs = [
                (math.sqrt(math.prod(size)), times[names[0], mode, batch, size], theirs)
                for size in sizes
                if (theirs := times[other, mode, batch, size]) is not None
            ]
            ratios = [(side, math.log(ours / t)) for side, ours, t in pairs if ours is not None]
            side = _crossing(ratios)
            said = f"{names[0]} {_says(side)} {other} ({mode}, batch {batch})"
            found.append(
                {"against": other, "mode": mode, "batch": batch, "side": side, "sentence": said}
            )
    return found


def _crossing(ratios: Sequence[tuple[float, float]]) -> float | None:
    """Return the side from which on the logarithm of the ratio of times stays below 0."""
    if not ratios or ratios[-1][1] >= 0:
        return None
    above = [i for i, (_, ratio) in enumerate(ratios) if ratio >= 0]
    if not above:
        return 0.0
    (low, before), (high, after) = ratios[above[-1]], ratios[above[-1] + 1]
    return float(np.exp(np.interp(0, [-before, -after], np.log([low, high]))))


def _says(side: float | None) -> str:
    if side is None:
        return "is not faster at the largest size than"
    return "is faster at every size than" if side == 0 else f"is faster from {side:.0f} px on than"


def sweep_view(report: dict[str, Any]) -> RenderableType:
    """Render `sweep`."""
    parts: list[RenderableType] = [
        Text(f"{report['device']}: {report['processor']}, {report['threads']} threads\n"),
        table(
            ("model", "params", "FLOPs"),
            [(m["model"], mega(m["params"]), giga(m["flops"])) for m in report["models"]],
            numeric="params FLOPs",
        ),
        Text(),
    ]
    rows = [
        (
            p["model"],
            p["mode"],
            f"{p['size'][0]}x{p['size'][1]}",
            p["batch"],
            p["failed"] or f"{p['latency_ms']:.1f}",
            "" if p["failed"] else f"{p['images_per_s']:.1f}",
            "" if p["peak_mb"] is None else f"{p['peak_mb']:.0f}",
        )
        for p in report["points"]
    ]
    columns = ("model", "mode", "size", "batch", "ms", "images/s", "MB")
    parts.append(table(columns, rows, numeric="size batch ms images/s MB"))
    parts += [Text(line["sentence"]) for line in report["crossings"]]
    return Group(*parts)
