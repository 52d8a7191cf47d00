"""Where a search runs: the facts recorded with every run."""

from __future__ import annotations

import os
import platform
import socket
import sys
from functools import cache
from importlib import metadata
from typing import Any

from nas.study.latency import processor

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


def environment() -> dict[str, Any]:
    """Return host, processor, GPUs and versions, as plain data.

    torch is not imported for it; its devices are listed where it is in use.
    """
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "versions": {name: version_of(name) for name in ("scannas", *PACKAGES)},
    }


@cache
def version_of(package: str) -> str | None:
    """Return the installed version of a package, None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
