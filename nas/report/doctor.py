"""What works on this machine, and why something does not."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from nas.report.console import table
from nas.study.latency import processor
from nas.training.environment import PACKAGES, version_of

OURS = ("kernels", "backbones", "search_spaces", "nas")


def examine() -> dict[str, Any]:
    """Return devices, scan backends with reasons, and package versions, as plain data."""
    import torch

    from kernels import backend_report, resolve_backend

    devices: list[dict[str, Any]] = [
        {"device": "cpu", "name": processor(), "threads": torch.get_num_threads()}
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
        "versions": {name: version_of(name) for name in PACKAGES},
        "conflicts": _conflicts(),
    }


def _conflicts() -> list[dict[str, str]]:
    """Return the other distributions that install a package under the name of one of ours.

    On PyPI `kernels` is another project; installed beside this one, either may hide the other.
    """
    owners = metadata.packages_distributions()
    return [
        {"package": package, "distribution": owner, "version": version_of(owner) or "unknown"}
        for package in OURS
        for owner in sorted(set(owners.get(package, ())) - {"scannas"})
    ]


def doctor_view(report: dict[str, Any]) -> RenderableType:
    """Render `examine`."""
    devices = [(d["device"], d["name"]) for d in report["devices"]]
    backends = [
        (b["backend"], "yes" if b["available"] else "no", b["reason"]) for b in report["backends"]
    ]
    versions = [(name, version or "not installed") for name, version in report["versions"].items()]
    auto = report["auto"]
    conflicts = [
        Text(
            f"\n{c['distribution']} {c['version']} installs a package `{c['package']}` too, and "
            "one hides the other; use an environment of its own, or: pip uninstall "
            f"{c['distribution']}",
            "red",
        )
        for c in report["conflicts"]
    ]
    return Group(
        Text(f"Python {report['python']} on {report['platform']}\n"),
        table(("device", "name"), devices),
        Text(),
        table(("scan backend", "available", "reason"), backends),
        Text(f"auto picks {auto['backend']} on {auto['device']}\n"),
        table(("package", "version"), versions),
        *conflicts,
    )
