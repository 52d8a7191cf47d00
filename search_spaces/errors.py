"""Errors of the space language."""

from kernels.errors import ScanNASError


class SpaceError(ScanNASError):
    """A search space, or a point of one, that breaks a rule; names value and remedy."""
