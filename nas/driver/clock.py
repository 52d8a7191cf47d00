"""Time and the identity of processes, behind one interface so that tests can bend both."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the search knows of time and of who is alive."""

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def owner(self) -> str:
        """Return a new owner id for this process: host/boot/pid/start/random."""
        ...

    def is_dead(self, owner: str) -> bool:
        """Whether the process behind an owner id is known to be gone.

        False also where that cannot be known, as for a process on another host.
        """
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def owner(self) -> str:
        """Return a new owner id for this process."""
        pid = os.getpid()
        return f"{_machine()}/{pid}/{_start_of(pid)}/{uuid.uuid4().hex[:8]}"

    def is_dead(self, owner: str) -> bool:
        """Whether `owner` was a process of this machine that has ended."""
        parts = owner.rsplit("/", 3)
        if len(parts) != 4 or parts[0] != _machine() or not parts[1].isdigit():
            return False
        if parts[2] == _UNKNOWN:
            return False
        # A process id is reused after a while; its start time is not.
        return _start_of(int(parts[1])) != parts[2]


_UNKNOWN = "-"


def _machine() -> str:
    """Name host, boot and process namespace: within these three a process id means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = space = _UNKNOWN
    return f"{socket.gethostname()}/{boot}/{space}"


def _start_of(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; "gone" without a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return "gone" if Path("/proc/self/stat").exists() else _UNKNOWN
    except OSError:
        return _UNKNOWN
    # The second field is a name in brackets that may hold blanks and brackets itself.
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]
