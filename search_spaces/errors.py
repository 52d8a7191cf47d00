"""Errors of the space language."""

from kernels.errors import ScanNASError


class SpaceError(ScanNASError):
    """A search space, or a point of one, that breaks a rule; names value and remedy."""


class UnreachableError(SpaceError):
    """A budget band that no width of a design reaches.

    spent: nearest reachable cost in the first band's metric. too_large: whether even the
    narrowest form exceeds a band, so that only smaller choices help.
    """

    def __init__(self, message: str, *, spent: float, too_large: bool) -> None:
        super().__init__(message)
        self.spent = spent
        self.too_large = too_large
