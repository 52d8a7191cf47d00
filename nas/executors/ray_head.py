"""The head of a Ray cluster, without which Ray ends every driver a minute later, unasked.

So this one ends first: what it trains goes back to the queue, at the cost of no attempt.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# How long a head may be silent, e.g. while it is started anew. Ray ends a driver after 60 s.
GIVE_UP_S = 25.0
_ANSWER_S = 3.0
_INTERRUPT = signal.SIGUSR2


class HeadLost(BaseException):
    """Nobody will answer whoever waits for Ray; no Exception, which Tune might catch."""


class Head:
    """Looks whether the head is there, and gets a driver out of Ray when it is not.

    address: host:port of its control store. lost: why the driver has to end.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.lost: str | None = None
        self._silent_since: float | None = None
        self._waiting = False
        self._main = threading.main_thread().ident or 0

    @property
    def answers(self) -> bool:
        """Whether it takes connections at this moment."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        except OSError:
            return False
        return True

    def look(self, now: float) -> bool:
        """Whether it has been silent for GIVE_UP_S. now: monotonic, in seconds."""
        if self.answers:
            self._silent_since = None
            return False
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since < GIVE_UP_S:
            return False
        self.lost = (
            f"the head of Ray at {self.address} has not answered for "
            f"{now - self._silent_since:.0f} s"
        )
        return True

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let `interrupt` end the block, in the main thread; in another one Ray's minute runs."""
        if threading.get_ident() != self._main:
            yield
            return
        before = signal.signal(_INTERRUPT, self._interrupted)
        self._waiting = True
        try:
            yield
        except HeadLost:
            pass
        finally:
            self._waiting = False
            signal.signal(_INTERRUPT, before)

    def interrupt(self) -> None:
        """Get the main thread out of Ray. Once may not do: Tune cleans up, and waits again."""
        if self._waiting:
            signal.pthread_kill(self._main, _INTERRUPT)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._waiting and self.lost is not None:
            raise HeadLost
