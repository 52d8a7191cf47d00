"""Errors of the space language."""

from __future__ import annotations

from collections.abc import Callable

from kernels.errors import ScanNASError


class SpaceError(ScanNASError):
    """A search space, or a point of one, that breaks a rule; names value and remedy."""


class UnreachableError(SpaceError):
    """A budget band that no width of a design reaches.

    spent: nearest reachable cost in the first band's metric. too_large: whether even the
    narrowest form exceeds a band, so that only smaller choices help. blame: finds what binds, as
    the end of the message, when somebody reads it: that takes as long as many proposals, and a
    search passes over most of these errors.
    """

    def __init__(
        self,
        message: str,
        *,
        spent: float,
        too_large: bool,
        blame: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(message)
        self.spent = spent
        self.too_large = too_large
        self._blame = blame

    def __str__(self) -> str:
        """Return the message with what binds."""
        if self._blame is not None:
            blame, self._blame = self._blame, None
            self.args = (f"{self.args[0]}{blame()}",)
        return super().__str__()
