"""How a scan runs: one operator, a reference that is its specification, fast backends.

Public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernels.errors import KernelError, ScanNASError

if TYPE_CHECKING:
    from kernels.backends import backend_report, resolve_backend, use_backend
    from kernels.dispatch import cross_scan, selective_scan
    from kernels.flops import scan_flops
    from kernels.shapes import check_orders

_HOME = {
    "selective_scan": "kernels.dispatch",
    "cross_scan": "kernels.dispatch",
    "check_orders": "kernels.shapes",
    "backend_report": "kernels.backends",
    "resolve_backend": "kernels.backends",
    "use_backend": "kernels.backends",
    "scan_flops": "kernels.flops",
}

__all__ = [
    "KernelError",
    "ScanNASError",
    "backend_report",
    "check_orders",
    "cross_scan",
    "resolve_backend",
    "scan_flops",
    "selective_scan",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'kernels' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
