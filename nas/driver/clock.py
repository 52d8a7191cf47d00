"""Time and the identity of processes, behind one interface so that tests can bend both."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import Protocol

import psutil

from nas.store.now import Now, Time

# Boot time, of which a start is told, comes in whole seconds and may be rounded either way.
_SAME_START_S = 2.0


class Clock(Protocol):
    """What the search knows of time and of who is alive."""

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        ...

    def stamp(self) -> Time:
        """Return the present for rows, which drivers on other machines compare with theirs."""
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

    def stamp(self) -> Time:
        """Return the time of the database, as it will be when a statement runs."""
        return Now()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def owner(self) -> str:
        """Return a new owner id for this process."""
        pid = os.getpid()
        return f"{_machine()}/{pid}/{_start_of(pid):.0f}/{uuid.uuid4().hex[:8]}"

    def is_dead(self, owner: str) -> bool:
        """Whether `owner` was a process of this machine that has ended."""
        parts = owner.rsplit("/", 3)
        if len(parts) != 4 or parts[0] != _machine() or not parts[1].isdigit():
            return False
        # A process id is used again after a while, but not at once.
        start = _start_of(int(parts[1]))
        return start is None or abs(start - float(parts[2])) > _SAME_START_S


def _machine() -> str:
    """Name host, boot and process namespace: within these three a process id means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = space = "-"
    return f"{socket.gethostname()}/{boot}/{space}"


def _start_of(pid: int) -> float | None:
    """Return when a process started, in seconds since boot; None without a living process.

    Since boot, because a clock that is set moves the times of day of both.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time() - psutil.boot_time())
    except psutil.NoSuchProcess:
        return None
