"""What works on this machine, and why something does not."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "triton",
    "numba",
    "numpy",
    "optuna",
    "ray",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "fvcore",
    "mamba-ssm",
)


def examine() -> dict[str, Any]:
    """Return devices, scan backends with reasons, and package versions, as plain data."""
    import torch

    from kernels import backend_report, resolve_backend

    devices: list[dict[str, Any]] = [
        {"device": "cpu", "name": _processor(), "threads": torch.get_num_threads()}
    ]
    for index in range(torch.cuda.device_count()):
        props = torch.cuda.get_device_properties(index)
        devices.append(
            {"device": f"cuda:{index}", "name": props.name, "memory_gib": props.total_memory >> 30}
        )
    best = "cuda" if torch.cuda.is_available() else "cpu"
    backends = [
        {"backend": name, "available": said == "available", "reason": said}
        for name, said in backend_report().items()
    ]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "devices": devices,
        "backends": backends,
        "auto": {"device": best, "backend": resolve_backend(torch.device(best), torch.float32)},
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
