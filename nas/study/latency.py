"""On what a design's latency is measured, and how: a part of what a study is."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt


class LatencyDevice(BaseModel):
    """What times are of; times of two that differ in anything do not compare.

    device: of torch. processor: its name. batch: images at a time. threads: of a CPU.
    precision: "fp32", or "bf16" autocast. backend: of the scans. torch: its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    processor: str
    batch: PositiveInt = 1
    threads: PositiveInt | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    backend: str
    torch: str

    @property
    def name(self) -> str:
        """The device in words."""
        threads = "" if self.threads is None else f", {self.threads} threads"
        return f"{self.processor}{threads}"

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all fields."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def difference(self, other: LatencyDevice) -> str | None:
        """Return the first field in which two differ, in words."""
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"latency {name} is {mine}, here it is {theirs}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return self.model_dump(mode="json")


@cache
def processor() -> str:
    """Return the name of the CPU, as far as the system tells (Linux does)."""
    facts = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", facts.read_text()) if facts.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()
