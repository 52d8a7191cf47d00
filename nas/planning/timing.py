"""How long a piece of a network takes on a device, and what it keeps of an image in training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from backbones.image_size import ImageSize, sides
from backbones.outside import TimmConfig
from backbones.pieces import Piece
from kernels import resolve_backend
from nas.errors import StudyError
from nas.study.latency import LatencyDevice, processor

LEAST_S, LEAST_RUNS = 0.1, 5
"""How long a piece is timed, and how often at least."""


def this_device(
    device: str, *, batch: int = 1, precision: str = "fp32", like: LatencyDevice | None = None
) -> LatencyDevice:
    """Describe a device of this machine.

    like: whose threads and precision are taken over.
    Raises: StudyError for an unknown or missing device.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise StudyError(f"latency device {device!r} is unknown; use cpu, cuda or cuda:1")
    if kind == "cuda" and not torch.cuda.is_available():
        raise StudyError(
            f"latency device {device!r}: no CUDA device on this machine; use cpu, or begin the "
            "study where there is one"
        )
    threads = torch.get_num_threads() if like is None else like.threads
    precision = precision if like is None else like.precision
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return LatencyDevice(
        device=device,
        processor=torch.cuda.get_device_name(device) if kind == "cuda" else processor(),
        batch=batch,
        threads=threads if kind == "cpu" else None,
        precision="bf16" if precision == "bf16" else "fp32",
        backend=resolve_backend(kind, dtype),
        torch=torch.__version__,
    )


def time_of(piece: Piece, on: LatencyDevice) -> float:
    """Return how long a piece takes, in ms: its fastest run, which other work disturbs least."""
    model, run, shape = piece.build()
    model.to(on.device)
    return fastest_ms(run, torch.randn(on.batch, *shape, device=on.device), on)


def whole_ms(config: TimmConfig, image_size: ImageSize, on: LatencyDevice) -> float:
    """Return the time of a whole network, in ms."""
    model = config.build(image_size=image_size).eval().to(on.device)
    images = torch.randn(on.batch, 3, *sides(image_size), device=on.device)
    return fastest_ms(model, images, on)


def whole_bytes(config: TimmConfig, image_size: ImageSize) -> int:
    """Return what a whole network keeps of one image for its backward pass, in bytes."""
    model = config.build(image_size=image_size).eval()
    return kept_bytes(model, model, torch.randn(1, 3, *sides(image_size)))


def fastest_ms(run: Callable[[Tensor], Any], x: Tensor, on: LatencyDevice) -> float:
    """Return the time of the fastest run of a function on a device, in ms.

    The CPU runs it alone; a GPU is given many runs at a time, as it is the parts of a network.
    """
    with _as_measured(on):
        timer = Timer("run(x)", globals={"run": run, "x": x}, num_threads=on.threads or 1)
        timer.timeit(2)  # compiles
        least = max(LEAST_S, LEAST_RUNS * timer.timeit(1).median)
        return 1e3 * float(min(timer.blocked_autorange(min_run_time=least).times))


@contextmanager
def _as_measured(on: LatencyDevice) -> Iterator[None]:
    kind = torch.device(on.device).type
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autocast(kind, torch.bfloat16, enabled=on.precision == "bf16"):
            yield


def memory_of(piece: Piece) -> float:
    """Return how many bytes a piece keeps of one image for its backward pass, in float32."""
    model, run, shape = piece.build()
    return float(kept_bytes(model, run, torch.randn(1, *shape)))


def kept_bytes(model: torch.nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> int:
    """Return the bytes of all tensors that a backward pass would read, parameters left out."""
    kept: dict[int, int] = {}
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Integers are tables of orders, which all blocks of a stage share.
        if storage.data_ptr() not in own and tensor.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x.requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run(x)
    return sum(kept.values())
