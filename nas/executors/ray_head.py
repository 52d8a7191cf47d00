"""The head of a Ray cluster, without which Ray ends every driver a minute later, unasked."""

from __future__ import annotations

import socket

# How long a head may be silent, e.g. while it is started anew. Ray ends a driver after 60 s.
GIVE_UP_S = 25.0
_ANSWER_S = 3.0


class Head:
    """Looks whether the head is there.

    address: host:port of its control store. lost: what is wrong with it, if anything is.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.lost: str | None = None
        self._silent_since: float | None = None

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
